from pathlib import Path

import numpy as np
import pytest

from datamodules.slice_file import array_shape, read_slice, read_slices


@pytest.mark.parametrize("dtype", [np.int16, np.int8, np.uint8])
def test_slices_are_those_that_numpy_loads(tmp_path: Path, dtype: type[np.integer]) -> None:
    array = np.random.default_rng(0).integers(0, 100, (5, 3, 7)).astype(dtype)
    path = tmp_path / "a.npy"
    np.save(path, array)
    assert array_shape(path) == (5, 3, 7)
    for first, count in ((0, 1), (1, 3), (0, 5), (4, 1)):
        out = np.empty((count, 3, 7), dtype)
        read_slices(path, first, out)
        np.testing.assert_array_equal(out, array[first : first + count])
    np.testing.assert_array_equal(read_slice(path, 2), array[2])


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for shape in ((2, 3, 4), (3, 2, 2)):
        np.save(path, np.ones(shape, np.int16))
        assert read_slice(path, 1).shape == shape[1:]


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((4, 8, 8), np.int16))
    path.write_bytes(path.read_bytes()[:-1])
    assert read_slice(path, 2).all()
    with pytest.raises(ValueError, match=r"a\.npy ends before slice 3 of 4; prepare its scan again"):
        read_slice(path, 3)
