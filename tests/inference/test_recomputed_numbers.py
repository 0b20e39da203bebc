"""Numbers of measurements.json, computed again from the written files with nibabel and numpy alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from fissured_lungs import fissured_lungs
from numpy.typing import NDArray
from places import SHARED_DATA

from inference.scan_list import Source
from inference.segmenter import Segmenter

P002 = SHARED_DATA / "covidctmd_dev" / "P002_2x2x4mm.nii.gz"
LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")
# Whole numbers a, b and what a / b of a lobe scores from there on; of the others, what it scores above.
FROM, ABOVE = {1: (1, 1000), 2: (1, 20), 4: (1, 2)}, {3: (1, 4), 5: (3, 4)}
# Of two lungs: volume; volume, mean HU and mass of infection; severity. Two lungs, six thirds and five lobes: volume of
# lung, volume and share of infection. Five scores and their sum. Ten regions: 13 densities.
COMPARED = 1 + 3 + 1 + (2 + 6 + 5) * 3 + 6 + 10 * 13

Mask = NDArray[np.bool_]
Values = dict[str, float | None]


def load(path: Path) -> tuple[NDArray[Any], float]:
    """Return voxels (z from the foot, y from the front, x from the patient's right) and the ml of one."""
    image: Any = nibabel.load(path)
    canonical = nibabel.as_closest_canonical(image)  # to the right, the front and the head
    voxel_ml = float(np.prod(np.linalg.norm(canonical.affine[:3, :3], axis=0))) / 1000
    return np.asarray(canonical.dataobj)[::-1, ::-1].transpose(2, 1, 0), voxel_ml


def recomputed(folder: Path, ct: Path) -> Values:
    """Compute what the written files determine."""
    hu, voxel_ml = load(ct)
    lungs, infection = (load(folder / f"{name}.nii.gz")[0] > 0 for name in ("lungs", "infection"))
    lobes, _ = load(folder / "lobes.nii.gz")
    np.testing.assert_array_equal(lobes > 0, lungs)
    sides = {"right": np.isin(lobes, (1, 2, 3)), "left": np.isin(lobes, (4, 5))}
    of_lobe = {name: lobes == number for number, name in enumerate(LOBES, 1)}
    values: Values = {
        "lung_ml": int(lungs.sum()) * voxel_ml,
        "infection_ml": int(infection.sum()) * voxel_ml,
        "infection_mean_hu": float(hu[infection].astype(np.float64).mean()),
        "infection_mass_g": mass_g(hu[infection], voxel_ml),
        "severity_score": int(infection.sum()) / int(lungs.sum()),
    }
    for part, inside in (sides | dict(thirds(sides)) | of_lobe).items():
        lung, ill = int(inside.sum()), int((inside & infection).sum())
        values |= {f"{part}_lung_ml": lung * voxel_ml, f"{part}_infection_ml": ill * voxel_ml}
        values[f"{part}_infection_share"] = ill / lung
    scores = {
        f"{name}_score": score(int((inside & infection).sum()), int(inside.sum())) for name, inside in of_lobe.items()
    }
    values |= scores | {"ct_severity_score": sum(scores.values())}
    rows = np.flatnonzero(lungs.any(axis=(0, 2)))
    in_front = 2 * np.arange(lungs.shape[1])[:, None] < rows.min() + rows.max()
    halves = {"ventral": lungs & in_front, "dorsal": lungs & ~in_front}
    for region, inside in ({"lung": lungs} | sides | of_lobe | halves).items():
        values |= {f"{region}_{name}": value for name, value in densities(hu[inside], voxel_ml).items()}
    return values


def thirds(sides: dict[str, Mask]) -> Iterator[tuple[str, Mask]]:
    """Yield the thirds of each lung; a slice lies in the third of its lower face."""
    for side, inside in sides.items():
        slices = np.flatnonzero(inside.any(axis=(1, 2)))
        height = int(slices.max() - slices.min()) + 1
        for number, name in enumerate(("lower", "middle", "upper")):
            above_foot = np.arange(len(inside)) - slices.min()
            chosen = (3 * above_foot >= number * height) & (3 * above_foot < (number + 1) * height)
            yield f"{side}_{name}", inside & chosen[:, None, None]


def score(ill: int, lung: int) -> int:
    """Return the score of a lobe in whole numbers."""
    reached = [number for number, (a, b) in FROM.items() if ill * b >= a * lung]
    return max([0, *reached, *(number for number, (a, b) in ABOVE.items() if ill * b > a * lung)])


def mass_g(hu: NDArray[Any], voxel_ml: float) -> float:
    return float(np.maximum(hu.astype(np.float64) + 1000, 0).sum()) / 1000 * voxel_ml


def densities(hu: NDArray[Any], voxel_ml: float) -> dict[str, float]:
    values = np.sort(np.clip(hu, -1024, 3071).astype(np.float64))
    away, sd = values - values.mean(), values.std()

    def percent(inside: Mask) -> float:
        return 100 * float(inside.mean())

    return {
        "emphysema_percent": percent(values < -950),
        "inflated_percent": percent((values >= -950) & (values < -750)),
        "infiltrated_percent": percent((values >= -750) & (values < -400)),
        "collapsed_percent": percent((values >= -400) & (values < 0)),
        "dense_percent": percent(values >= 0),
        "haa_percent": percent((values >= -600) & (values <= -250)),
        "laa_950_percent": percent(values < -950),
        "percentile_15_hu": float(values[(15 * len(values) + 99) // 100 - 1]),
        "mean_hu": float(values.mean()),
        "sd_hu": float(sd),
        "skewness": float((away**3).mean() / sd**3),
        "kurtosis": float((away**4).mean() / sd**4 - 3),
        "mass_g": mass_g(values, voxel_ml),
    }


def write_chest(folder: Path) -> tuple[Path, Path]:
    """Write two lungs with dense places at the back, and their mask, with axes to the head, the left and the front."""
    chest = fissured_lungs((4.0, 3.0, 3.0))
    z, y, x = np.indices(chest.hu.shape) * np.array(chest.spacing_mm)[:, None, None, None]
    hu = chest.hu.copy()
    for centre, radius, dense in (((90, 140, 205), 55, 550), ((80, 145, 90), 30, 450), ((180, 110, 80), 15, 500)):
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        hu[chest.lung & (distance < radius)] += dense
    affine = np.diag([-3.0, -3.0, 4.0, 1.0])
    facing = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("LPS"), nibabel.orientations.axcodes2ornt("SLA")
    )
    paths = []
    for name, array in (("ct", hu), ("lung", chest.lung.astype(np.uint8))):
        image: Any = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
        paths.append(folder / f"{name}.nii.gz")
        image.as_reoriented(facing).to_filename(paths[-1])
    return paths[0], paths[1]


def check(folder: Path, ct: Path) -> None:
    """Compare all numbers of a scan that its files determine, and look at the others as far as one can."""
    numbers = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
    stated = {key: value for key, value in numbers.items() if not isinstance(value, str | list | dict)}
    expected = recomputed(folder, ct)
    assert len(expected) == COMPARED == 180
    assert set(expected) <= set(stated)
    different = {
        key: (stated[key], value)
        for key, value in expected.items()
        if stated[key] != pytest.approx(value, rel=1e-9, abs=1e-9)
    }
    assert different == {}
    rest = set(stated) - set(expected)
    intervals = {f"{key}_{end}" for key in expected if key.endswith("lobe_score") for end in ("low", "high")}
    intervals |= {"ct_severity_score_low", "ct_severity_score_high"}
    without = {key for key in rest if key.endswith("_without_vessels")}
    assert rest == intervals | without | {"lobe_doubt", "entropy_in_lungs_bits"}
    assert len(without) == 130
    for key in {interval.rpartition("_")[0] for interval in intervals}:
        assert 0 <= stated[f"{key}_low"] <= stated[key] <= stated[f"{key}_high"]
    for key in without:
        if key.endswith("_mass_g_without_vessels"):
            assert stated[key] <= stated[key.removesuffix("_without_vessels")]


@pytest.mark.slow
def test_numbers_of_a_drawn_chest_follow_from_its_files(tmp_path: Path) -> None:
    ct, lung = write_chest(tmp_path)
    Segmenter(["default"], device="cpu").predict(Source("a", ct, lung_mask=lung), tmp_path / "a")
    expected = recomputed(tmp_path / "a", ct)
    assert len({expected[f"{lobe}_score"] for lobe in LOBES}) >= 3, "there is something to measure"
    check(tmp_path / "a", ct)
    written = tmp_path / "a" / "measurements.json"
    right = written.read_text(encoding="utf-8")
    for key in ("left_middle_lung_ml", "right_lower_lobe_score", "dorsal_kurtosis", "infection_mass_g"):
        wrong = json.loads(right)
        wrong[key] = wrong[key] * (1 + 1e-6) + 1e-6
        written.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(AssertionError, match=key):
            check(tmp_path / "a", ct)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not P002.is_file(), reason=f"needs {P002.name} of the real scans in {SHARED_DATA}")
def test_numbers_of_a_patient_follow_from_the_files(tmp_path: Path) -> None:
    Segmenter(["default"], device="cpu").predict(Source("a", P002), tmp_path / "a")
    check(tmp_path / "a", P002)
