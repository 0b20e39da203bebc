import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from places import SHARED_DATA

from ct.classes import L3
from ct.files.read import read_mask, read_scan
from ct.lungs.classical import classical_lungs
from ct.lungs.domes import nothing_below
from phantom.patient import make_phantom

needs_shared = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the real scans are not at {SHARED_DATA}")


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def chest(
    slices: int = 12, pixels: int = 64, width_mm: float = 340.0
) -> tuple[NDArray[np.int16], NDArray[np.bool_], tuple[float, float, float]]:
    """Return HU, lung truth and voxel size of a body with two lungs, a trachea, a vessel and a plaque at the pleura."""
    mm = width_mm / pixels
    y, x = (grid * mm - width_mm / 2 for grid in np.meshgrid(np.arange(pixels), np.arange(pixels), indexing="ij"))
    hu = np.full((slices, pixels, pixels), -1000, dtype=np.int16)
    truth = np.zeros(hu.shape, dtype=bool)
    body = (x / 155) ** 2 + (y / 108) ** 2 < 1
    hu[:, body] = 40
    for z in range(1, slices - 1):
        for side in (-1, 1):
            truth[z] |= ((x - side * 75) / 52) ** 2 + (y / 80) ** 2 < 1
    hu[truth] = -860
    hu[:, (x**2 + (y + 30) ** 2) < 9**2] = -950
    hu[truth & ((x - 75) ** 2 + y**2 < 8**2)] = 40
    plaque = truth & ((np.abs(y) < 8) & (x < -105))
    hu[plaque] = 0
    noise = np.random.default_rng(0).normal(0, 40, hu.shape)
    return (hu + noise).astype(np.int16), truth, (9.0, mm, mm)


@pytest.mark.parametrize("pixels", [64, 111, 300])
def test_lungs_with_vessel_and_plaque(pixels: int) -> None:
    hu, truth, spacing_mm = chest(pixels=pixels)
    segmented = classical_lungs(hu, spacing_mm)
    assert segmented.shape == hu.shape
    assert segmented.dtype == np.bool_
    assert dice(segmented, truth) > 0.95
    opaque = truth & (hu > -200)
    right = np.arange(pixels) < pixels // 2
    assert segmented[opaque & ~right].mean() > 0.98, "the vessel inside the lung"
    assert segmented[opaque & right].mean() >= 0.5, "the plaque at the pleura, but for its outer rim"


def test_mediastinum_and_outside_are_not_lung() -> None:
    hu, truth, spacing_mm = chest()
    segmented = classical_lungs(hu, spacing_mm)
    middle = hu.shape[2] // 2
    assert not segmented[:, 40:, middle - 1 : middle + 1].any()
    assert not segmented[:, :, [0, -1]].any()
    assert not segmented[~truth & (hu < -900)].mean() > 0.05


def test_lone_slices_without_spacing_in_any_rotation() -> None:
    hu, truth, _ = chest(slices=4, pixels=200)
    assert dice(classical_lungs(hu, None), truth) > 0.92
    turned = np.rot90(hu, axes=(1, 2))
    assert dice(classical_lungs(turned, None), np.rot90(truth, axes=(1, 2))) > 0.92


def test_a_body_without_lungs_gives_an_empty_mask() -> None:
    hu = np.full((4, 32, 32), -1000, dtype=np.int16)
    hu[:, 6:26, 6:26] = 40
    assert not classical_lungs(hu, (5.0, 8.0, 8.0)).any()
    assert not classical_lungs(hu, None).any()


def test_a_lung_cut_by_the_field_of_view_is_kept() -> None:
    hu, truth, spacing_mm = chest(pixels=128)
    hu, truth = hu[:, :, 35:], truth[:, :, 35:]
    hu[:, ::127] = 40
    assert dice(classical_lungs(hu, spacing_mm), truth) > 0.9


def test_the_trachea_is_not_lung() -> None:
    hu, truth, spacing_mm = chest(pixels=200)
    trachea = (hu < -900) & ~truth
    trachea[:, :, :90] = trachea[:, :, 110:] = False
    trachea[:, :50] = False
    assert trachea.sum() > 3000
    assert not classical_lungs(hu, spacing_mm)[trachea].any()


def test_gas_in_the_stomach_is_not_a_lung() -> None:
    hu, truth, spacing_mm = chest(slices=20, pixels=128)
    truth[:10] = False
    hu[:10][hu[:10] < -700] = 40
    hu[:10, 0] = hu[:10, :, 0] = -1000
    stomach = np.zeros_like(truth)
    stomach[2:8, 30:80, 80:105] = True
    hu[stomach] = -990
    right = truth.copy()
    right[:, :, 64:] = False
    hu[truth & ~right] = 40  # one lung is collapsed: the stomach is the second largest piece of air
    segmented = classical_lungs(hu, spacing_mm)
    assert stomach.sum() > 0.15 * right.sum()
    assert not segmented[stomach].any()
    assert dice(segmented, right) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("site", "ABCD")
def test_phantom_without_lesions(site: str) -> None:
    phantom = make_phantom(5, site, False, 0.0)
    assert dice(classical_lungs(phantom.hu, phantom.spacing_mm), phantom.lungs > 0) >= 0.96


@pytest.mark.slow
@pytest.mark.parametrize(("size", "slices"), [(32, 8), (128, 40)])
def test_phantom_without_lesions_coarse_and_fine(size: int, slices: int) -> None:
    phantom = make_phantom(6, "A", False, 0.0, size, slices)
    assert dice(classical_lungs(phantom.hu, phantom.spacing_mm), phantom.lungs > 0) >= 0.97


@pytest.mark.slow
def test_heavily_consolidated_phantoms() -> None:
    """15 to 35 % of the lungs consolidated, ground glass around it, effusion in one, finer voxels in another."""
    cases = [(21, "A", 6.0, 64, None), (22, "B", 8.0, 64, None), (50, "A", 6.0, 80, 30)]
    scores = []
    for seed, site, burden, size, slices in cases:
        phantom = make_phantom(seed, site, True, burden, size, slices)
        truth = phantom.lungs > 0
        codes = L3.codes_of("consolidation")
        dense = np.sum([phantom.occupancy[code].astype(np.float32) for code in codes], axis=0) > 0.5
        assert 0.15 <= dense[truth].mean() <= 0.35
        scores.append(dice(classical_lungs(phantom.hu, phantom.spacing_mm), truth))
    assert np.mean(scores) >= 0.93
    assert min(scores) >= 0.92


def test_memory_on_top_of_the_scan() -> None:
    hu, truth, spacing_mm = chest(slices=20, pixels=512)
    tracemalloc.start()
    segmented = classical_lungs(hu, spacing_mm)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dice(segmented, truth) > 0.95
    assert peak < 1.5 * hu.nbytes, f"{peak / hu.nbytes:.2f} times the scan on top of it"


@needs_shared
@pytest.mark.shared_data
def test_real_lungs() -> None:
    scan = read_scan(SHARED_DATA / "cip_ct64" / "ct-64.nrrd")
    truth = read_mask(SHARED_DATA / "cip_ct64" / "wholeLung-64.nrrd", scan) > 0
    assert dice(classical_lungs(scan.hu, scan.spacing_mm), truth) >= 0.975
    fine = read_scan(SHARED_DATA / "cip_ct64" / "crop_ct_2slices.nrrd")
    labels = read_mask(SHARED_DATA / "cip_ct64" / "crop_ct_2slices_dcnnLungSegmentationLabelmap.nrrd", fine)
    assert dice(classical_lungs(fine.hu, fine.spacing_mm), labels > 0) >= 0.95


@needs_shared
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("centre", "radii", "least_share", "found"),
    [
        ((34, 44, 14), (13, 11, 13), 0.08, 0.95),  # most of a lower lobe
        ((26, 30, 50), (9, 9, 9), 0.035, 0.95),  # beside the heart, on the left dome
        ((18, 40, 16), (9, 10, 9), 0.035, 0.9),  # at the base, from the right dome to the ribs
    ],
)
def test_a_consolidated_lobe_pasted_into_real_lungs(
    centre: tuple[int, int, int], radii: tuple[int, int, int], least_share: float, found: float
) -> None:
    scan = read_scan(SHARED_DATA / "cip_ct64" / "ct-64.nrrd")
    truth = read_mask(SHARED_DATA / "cip_ct64" / "wholeLung-64.nrrd", scan) > 0
    grids = np.ogrid[tuple(slice(count) for count in truth.shape)]
    lobe = truth & (sum(((grid - c) / r) ** 2 for grid, c, r in zip(grids, centre, radii, strict=True)) < 1)
    hu = scan.hu.copy()
    hu[lobe] = np.random.default_rng(0).normal(35, 15, lobe.sum())
    assert lobe.sum() > least_share * truth.sum()
    segmented = classical_lungs(hu, scan.spacing_mm)
    assert segmented[lobe].mean() > found
    assert dice(segmented, truth) > 0.975


@needs_shared
@pytest.mark.shared_data
def test_domes_of_a_real_diaphragm_are_not_lung() -> None:
    """Soft tissue of the mask that has no air of it below: caps of liver and stomach, and vessels on the diaphragm."""
    scan = read_scan(SHARED_DATA / "covidctmd_dev" / "normal002_2x2x4mm.nii.gz")
    lungs = classical_lungs(scan.hu, scan.spacing_mm)
    caps = lungs & (scan.hu > -200) & nothing_below(lungs & (scan.hu < -400))
    assert caps.sum() * scan.voxel_ml < 5


@needs_shared
@pytest.mark.shared_data
def test_a_field_of_view_that_cuts_real_lungs() -> None:
    scan = read_scan(SHARED_DATA / "cip_ct64" / "ct-64.nrrd")
    truth = read_mask(SHARED_DATA / "cip_ct64" / "wholeLung-64.nrrd", scan) > 0
    for view in (np.s_[:, :, :32], np.s_[:, :, 32:], np.s_[:, 10:60, 8:56], np.s_[25:60]):
        cut = np.ascontiguousarray(scan.hu[view])
        assert dice(classical_lungs(cut, scan.spacing_mm), truth[view]) > 0.95


@pytest.mark.slow
@needs_shared
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["P002", "normal002"])
def test_real_volumes_have_a_plausible_lung_volume(name: str) -> None:
    scan = read_scan(SHARED_DATA / "covidctmd_dev" / f"{name}_2x2x4mm.nii.gz")
    assert 3000 < classical_lungs(scan.hu, scan.spacing_mm).sum() * scan.voxel_ml < 6000
