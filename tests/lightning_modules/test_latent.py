import torch

from lightning_modules.latent import MaskStore


def test_masks_come_back_bit_for_bit() -> None:
    store = MaskStore(10, (5, 7), torch.device("cpu"))  # 35 bits: not a multiple of 8
    masks = torch.rand(4, 1, 5, 7) > 0.5
    masks[2] = False
    rows = torch.tensor([7, 0, 3, 9])
    store.set(rows, masks)
    assert (store.get(rows) == masks).all()
    assert store.known.nonzero()[:, 0].tolist() == [0, 3, 7, 9]
    assert store.any(rows).tolist() == [True, True, False, True]
    assert not store.get(torch.tensor([1])).any()
    of_slices = [value for value in vars(store).values() if torch.is_tensor(value) and len(value) == 10]
    assert sum(value.nbytes for value in of_slices) == 10 * 5 + 10, "a bit per pixel, and whether a slice is known"


def test_masks_survive_a_checkpoint() -> None:
    stores = [MaskStore(10, (5, 7), torch.device("cpu")) for _ in range(2)]
    masks = torch.rand(10, 1, 5, 7) > 0.5
    stores[0].set(torch.arange(10), masks)
    packed = stores[0].packed()
    assert packed.dtype == torch.uint8
    stores[1].unpack(packed)
    assert (stores[1].get(torch.arange(10)) == masks).all()
