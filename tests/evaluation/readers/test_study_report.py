import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import jaccard_score

from ct.classes import L3
from evaluation.readers.study_counts import count_scan, count_study
from evaluation.readers.study_figures import draw_maps, draw_matrix, most_contested
from evaluation.readers.study_report import main, write_study
from evaluation.readers.study_tables import pairs_table, readers_table, scans_table, stacked, summarise

SHAPES = {"a": (2, 3, 17, 13), "b": (3, 2, 9, 11), "c": (0, 2, 9, 11)}


def codes_of(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """int8 (R, Z, H, W): readers who mostly agree on a lesion of three patterns in a lung; the rim is unlabelled."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape[1:], np.int8)
    truth[:, 2:-2, 2:-2] = 1
    truth[0, 3:7, 3:9] = 5
    truth[0, 4:6, 4:7] = 7
    truth[-1, 3:5, 5:9] = 10
    codes = np.where((rng.random(shape) < 0.2) & (truth > 0), rng.choice([1, 5, 7, 10], shape), truth).astype(np.int8)
    codes[:, :, 0] = -1
    return codes


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Scans with 2, 3 and no readers; the second has no known spacing; masks/ holds a model's mask of the first."""
    rows = []
    for seed, (scan_id, shape) in enumerate(SHAPES.items()):
        folder = tmp_path / "prepared" / scan_id
        folder.mkdir(parents=True)
        codes = codes_of(shape, seed)
        np.save(folder / "readers.npy", codes)
        np.save(folder / "hu.npy", np.full(shape[1:], -800, np.int16))
        np.save(
            folder / "lung.npy", np.pad(np.ones(np.subtract(shape[1:], (0, 4, 4)), np.int8), [(0, 0), (2, 2), (2, 2)])
        )
        rows.append({"scan_id": scan_id, "site": "S", "readers": shape[0], "slices": shape[1], "folder": scan_id})
        rows[-1] |= {f"spacing_{axis}_mm": None if scan_id == "b" else 2.0 for axis in "zyx"}
    pd.DataFrame(rows).to_csv(tmp_path / "prepared" / "index.csv", index=False)
    return tmp_path / "prepared"


@pytest.fixture
def masks(prepared: Path) -> Path:
    """A model that agrees with the first reader of scan a but for one column."""
    opacity = np.load(prepared / "a" / "readers.npy")[0] > 4
    opacity[:, :, 5] = False
    folder = prepared.parent / "masks"
    folder.mkdir()
    np.savez_compressed(folder / "a.npz", opacity=opacity.astype(np.int8), groups=np.zeros_like(opacity, np.int8))
    return folder


def opaque(prepared: Path, reader: int, scans: str = "ab") -> np.ndarray:
    """bool (N,): opacity of a reader on the labelled pixels of some scans."""
    codes = [np.load(prepared / scan / "readers.npy")[reader] for scan in scans]
    return np.concatenate([(scan[scan >= 0] >= 5).ravel() for scan in codes])


def test_summary_against_scikit_learn_and_scipy(prepared: Path) -> None:
    figures = summarise(count_study(prepared))
    assert (figures["readers/scans"], figures["readers/slices"]) == (2, 5)
    assert (figures["readers/readers"], figures["readers/readers_min"]) == (3, 2)
    pairs = [
        jaccard_score(opaque(prepared, 0), opaque(prepared, 1)),
        *(jaccard_score(opaque(prepared, k, "b"), opaque(prepared, 2, "b")) for k in (0, 1)),
    ]
    assert figures["readers/pairwise_iou_mean"] == pytest.approx(np.mean(pairs))
    assert figures["readers/pairwise_iou_mean_n"] == 3
    assert figures["readers/pairwise_iou_min"] == pytest.approx(min(pairs))
    groups = [
        L3.leaves_of(np.load(prepared / scan / "readers.npy")[:, :, 1:]).reshape(SHAPES[scan][0], -1) for scan in "ab"
    ]
    contested = [maps[:, (maps >= 2).any(0)] for maps in groups]
    voxels = sum(maps.shape[1] for maps in contested)
    assert figures["readers/full_agreement_n"] == figures["readers/entropy_mean_n"] == voxels
    assert figures["readers/full_agreement"] == pytest.approx(
        sum((maps >= 2).all(0).sum() for maps in contested) / voxels
    )
    same = sum((maps == maps[0]).all(0).sum() for maps in contested)
    assert figures["readers/full_group_agreement"] == pytest.approx(same / voxels)
    entropy = [stats.entropy([(maps == g).sum(0) for g in range(5)]).sum() for maps in contested]
    assert figures["readers/entropy_mean"] == pytest.approx(sum(entropy) / voxels)
    assert not any("model" in key for key in figures)


def test_ceiling_is_the_average_of_the_others(prepared: Path) -> None:
    table = readers_table(count_study(prepared))
    # With two readers the average of the others is the other reader; in scan b it is two of three with ties positive.
    others = np.concatenate([opaque(prepared, 1, "a"), opaque(prepared, 1, "b") | opaque(prepared, 2, "b")])
    own = opaque(prepared, 0)
    assert table["iou_average_of_others"][0] == pytest.approx(jaccard_score(own, others))
    assert table["relative_volume"][0] == pytest.approx(own.sum() / others.sum())
    assert table["reader"].tolist() == ["1", "2", "3"]
    assert table["scans"].tolist() == [2, 2, 1]
    assert table["opacity_ml_n"].tolist() == [1, 1, 0], "scan b has no spacing"
    assert table["opacity_ml"][0] == pytest.approx(opaque(prepared, 0, "a").sum() * 0.008)
    assert np.isnan(table["opacity_ml"][2])
    figures = summarise(count_study(prepared))
    assert figures["readers/ceiling_iou"] == pytest.approx(table["iou_average_of_others"].mean())
    assert figures["readers/average_iou_mean"] == pytest.approx(table["iou_average"].mean())
    best = pairs_table(count_study(prepared)).groupby("reader")["iou"].max()
    assert figures["readers/closer_to_average"] == (table["iou_average_of_others"][0] > best["1"]) + sum(
        table["iou_average_of_others"][k] > max(pairs_of(prepared, k)) for k in (1, 2)
    )


def test_a_single_peer_is_no_average(prepared: Path) -> None:
    figures = summarise(count_study(prepared)[:1])
    assert figures["readers/closer_to_average_n"] == 0
    assert figures["readers/ceiling_iou"] == figures["readers/pairwise_iou_mean"]


def pairs_of(prepared: Path, reader: int) -> list[float]:
    """IOU of a reader (2 or 3 of the study) with the peers."""
    return [
        jaccard_score(opaque(prepared, reader, scans), opaque(prepared, peer, scans))
        for peer in range(3)
        for scans in ["b" if 2 in (peer, reader) else "ab"]
        if peer != reader
    ]


def test_the_model_lies_among_the_readers(prepared: Path, masks: Path) -> None:
    scans = count_study(prepared, masks)
    model = np.load(masks / "a.npz")["opacity"][:, 1:].ravel() > 0
    first, second = (opaque(prepared, reader, "a") for reader in (0, 1))
    figures = summarise(scans)
    assert figures["readers/model_iou_n"] == 2
    assert figures["readers/model_iou"] == pytest.approx(
        (jaccard_score(first, model) + jaccard_score(second, model)) / 2
    )
    assert figures["readers/model_ceiling_iou"] == pytest.approx(jaccard_score(first, second))
    iou, ceiling = figures["readers/model_iou"], figures["readers/model_ceiling_iou"]
    assert iou is not None
    assert ceiling is not None
    assert figures["readers/model_minus_ceiling"] == pytest.approx(iou - ceiling)
    assert figures["readers/model_minus_ceiling_n"] == 1
    assert figures["readers/model_minus_ceiling_low"] is None, "one scan has no interval"
    row = readers_table(scans).iloc[-1]
    assert (row["reader"], row["scans"], row["opacity_ml"]) == ("model", 1, pytest.approx(model.sum() * 0.008))
    assert row["iou_average"] == pytest.approx(jaccard_score(first | second, model))
    pairs = pairs_table(scans)
    assert pairs[pairs["reader"] == "model"]["scans"].tolist() == [1, 1]
    assert pairs[pairs["reader"] == "model"]["iou"].iloc[0] == pytest.approx(jaccard_score(first, model))
    assert scans_table(scans)["model_iou"].isna().tolist() == [False, True]


def test_staple_is_over_lungs_and_opacities_labelled_by_all() -> None:
    codes = codes_of((3, 2, 12, 12), 5)
    lung = np.zeros((2, 12, 12), np.int8)
    lung[:, 2:-2, 2:-2] = 1
    tight = count_scan(codes, lung, None, {})
    wide = [(0, 0)] * 2 + [(0, 30)] * 2
    padded = count_scan(np.pad(codes, wide), np.pad(lung, wide[1:]), None, {})
    np.testing.assert_array_equal(tight.staple.sensitivity, padded.staple.sensitivity)
    np.testing.assert_array_equal(tight.staple.specificity, padded.staple.specificity)
    assert (tight.staple.specificity < 1).all()
    assert tight.staple.readers.shape == (3, 3)


def test_scans_are_padded_with_nothing() -> None:
    stack = stacked([np.ones((1, 3), np.int64), np.ones((2, 3), np.int64)])
    assert stack.tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]]


@pytest.mark.slow
def test_everything_is_written(
    prepared: Path,
    masks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("evaluation.readers.study_report.SLICES_SHOWN", 1)
    main(["--prepared", str(prepared), "--out", str(out), "--predictions", str(masks)])
    printed = capsys.readouterr().out
    assert printed.startswith(
        "2 scans, 5 labelled slices, 2 to 3 readers per scan\nmodel: 1 of these scans have a mask"
    )
    assert (out / "readers.md").read_text() in printed
    figures = json.loads((out / "readers.json").read_text())
    ceiling = f"| {figures['readers/ceiling_iou']:.3f} | 3 readers |"
    assert f"| reader and average of the others, opacity IOU (human ceiling) {ceiling}" in printed
    assert "| model - reader, 95 % interval, high | - |  |" in printed
    for name, rows in (("readers", 4), ("pairwise", 5), ("scans", 2)):
        assert len(pd.read_csv(out / f"{name}.csv")) == rows
    for name in ("agreement_matrix", "agreement_maps"):
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (out / "figures" / f"{name}.png").stat().st_size > 20_000


def test_the_matrix_shows_the_figures(prepared: Path, masks: Path) -> None:
    scans = count_study(prepared, masks)
    figure = draw_matrix(scans)
    readers, average = figure.axes[:2]
    assert [label.get_text() for label in readers.get_yticklabels()] == ["reader 1", "reader 2", "reader 3", "model"]
    assert [label.get_text() for label in average.get_xticklabels()] == ["all", "others"]
    pairs, table = pairs_table(scans), readers_table(scans)
    shown = np.reshape([text.get_text() for text in readers.texts], (4, 3))
    assert shown.diagonal().tolist() == ["-"] * 3
    assert shown[0, 1] == shown[1, 0] == f"{pairs['iou'][0]:.2f}"
    assert shown[3].tolist() == [f"{pairs['iou'][3]:.2f}", f"{pairs['iou'][4]:.2f}", "-"]
    columns = [[f"{value:.2f}" for value in table[name]] for name in ("iou_average", "iou_average_of_others")]
    assert np.reshape([text.get_text() for text in average.texts], (4, 2)).T.tolist() == columns
    assert figure.get_suptitle() == "n = 2 scans, 5 slices, 2 to 3 readers per scan\nmodel: n = 1 scan"


def test_the_maps_show_the_slices_with_most_disagreement(prepared: Path) -> None:
    scans = count_study(prepared)
    places = most_contested(scans, 3)
    entropy = [[counts.entropy for counts in scan.slices] for scan in scans]
    assert sorted(place.scan for place in places) == [0, 1], "one slice of each scan"
    assert all(place.z == np.argmax(entropy[place.scan]) for place in places)
    assert entropy[places[0].scan][places[0].z] == max(map(max, entropy))
    figure = draw_maps(scans, places)
    parts = figure.subfigs
    titles = [axis.get_title().replace("\n", " ") for axis in parts[0].axes]
    assert titles[1:5] == [
        "opacity, mean",
        "pure ground glass, mean",
        "ground glass with septal lines, mean",
        "consolidation, mean",
    ]
    assert titles[5:] == ["entropy", *["deviation"] * 4]
    scan = scans[places[0].scan]
    expected = f"{scan.row['scan_id']}, slice {places[0].z + 1} of {len(scan.slices)}, n = {scan.readers} readers"
    assert parts[0].get_suptitle() == expected
    units = {
        scans[place.scan].row["scan_id"]: part.axes[5].get_xlabel() for place, part in zip(places, parts, strict=False)
    }
    assert units == {"a": "right → left (mm)", "b": "right → left (pixels)"}
    mean = parts[0].axes[1].images[0].get_array()
    deviation = parts[0].axes[6].images[0].get_array()
    np.testing.assert_allclose(deviation**2, mean * (1 - mean), atol=1e-12)
    assert 0 < mean.max() <= 1


def test_readers_who_call_nothing(prepared: Path, tmp_path: Path) -> None:
    for scan in "ab":
        np.save(prepared / scan / "readers.npy", np.ones(SHAPES[scan], np.int8))
    markdown = write_study(prepared, tmp_path / "out")
    assert "| full agreement: all say opaque, of voxels that any calls opaque | - | 0 voxels |" in markdown
    assert "| reader and average of the others, opacity IOU (human ceiling) | - | 0 readers |" in markdown
    assert "| model" not in markdown
    assert [path.name for path in sorted((tmp_path / "out" / "figures").iterdir())] == [
        "agreement_matrix.pdf",
        "agreement_matrix.png",
    ]
    assert "NaN" not in (tmp_path / "out" / "readers.json").read_text()


def test_a_cohort_is_prepared_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[object, ...]] = []

    class Done:
        refused, verdicts_csv = 2, "verdicts.csv"

    def recorded(answer: object) -> Callable[..., object]:
        def call(*args: object) -> object:
            calls.append(args)
            return answer

        return call

    monkeypatch.setattr(
        "evaluation.readers.study_report.prepared_folder", lambda cohort, size: tmp_path / f"{cohort}-{size}"
    )
    monkeypatch.setattr("evaluation.readers.study_report.prepare_cohort", recorded(Done()))
    monkeypatch.setattr("evaluation.readers.study_report.write_study", recorded("table"))
    main(["--cohort", "c.csv", "--size", "32", "--out", "out"])
    folder = tmp_path / "c.csv-32"
    assert calls == [(Path("c.csv"), folder, 32), (folder, Path("out"), None)]
    assert "2 scans were refused and are left out; see verdicts.csv" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_in_one_sentence(
    prepared: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sentence(*args: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["--out", str(tmp_path / "out"), *map(str, args)])
        assert stopped.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "index.csv: not found" in sentence("--prepared", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no <scan_id>.npz of any of the 2 scans" in sentence("--prepared", prepared, "--predictions", empty)
    np.savez(masks / "a.npz", opacity=np.zeros((3, 17, 12), np.int8))
    assert "opacity has shape (3, 17, 12), the readers' maps have (3, 17, 13)" in sentence(
        "--prepared", prepared, "--predictions", masks
    )
    np.savez(masks / "a.npz", infection=np.zeros((3, 17, 13), np.int8))
    assert "found ['infection'], expected 'opacity'" in sentence("--prepared", prepared, "--predictions", masks)
    index = pd.read_csv(prepared / "index.csv")
    index.assign(readers=[1, 0, 0]).to_csv(prepared / "index.csv", index=False)
    assert "none of 3 scans has 2 readers" in sentence("--prepared", prepared)
    index.drop(columns="readers").to_csv(prepared / "index.csv", index=False)
    assert "no column 'readers'" in sentence("--prepared", prepared)
    assert not (tmp_path / "out").exists()
