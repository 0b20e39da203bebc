"""report.html of one scan: measurements, pictures and warnings on a page that opens from disk, without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ct.classes import ClassSet, Finding
from ct.grey_window import describe_windows
from ct.lungs.lobe_scores import DEFINITION
from inference.outputs import TEMPLATES
from inference.outputs.scan_lobes import density_table, draw_lobes, fullest_slices, lobe_table
from inference.outputs.scan_numbers import scores, shown_percent, table_of, tiles, zones
from inference.outputs.scan_pictures import WINDOW_HU, Painter, PlanePicture
from inference.overlays import findings_of, legend_of, mask_of
from inference.result import Masks, Result
from pages.line_chart import Line, axes_of, line_chart
from pages.page import Alarm, Drawing, Item, Note, Section, Table, page

FloatArray = NDArray[np.float64]

STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
SLICE_VIEWER = Path(__file__).with_name("slice_viewer.js").read_text(encoding="utf-8")
MOST_SLICES = 300  # in the slider: a page must stay small enough to be sent
LEAST_AREA = 0.05  # of the largest section of the lungs; below it, a share of a slice says little
FOOTER = "Made by Ground Glass, a model, not a physician. For research; no medical device and no diagnosis."
PLANES = ("axial", "coronal", "sagittal")
LUNG_SOURCES = {
    "file": "the mask that was given",
    "classical": "found by thresholds and shapes",
    "lungmask": "found by the network R231CovidWeb (lungmask)",
}


def write_scan_page(result: Result, path: str | Path) -> None:
    """Write a scan's report: one HTML file with its pictures inside, which loads no other file and names nobody.

    Args:
        result: The segmented scan; its lungs are not empty.
        path: The file to write.
    """
    findings = list(findings_of(result.masks, result.classes))
    sections = [
        Section("Measurements", _measurements(result, findings)),
        Section("Lobes", _lobes(result, findings)),
        Section("Density", _density(result)),
        Section("Slices", _slices(result, findings)),
        Section("Three planes", _planes(result)),
        Section("What was repaired, and what is odd", _repairs_and_warnings(result)),
        Section("Model", [_facts_table(_model(result))]),
    ]
    flags = [Alarm("Flagged: the result may be wrong although nothing failed.", result.flags)] if result.flags else []
    top: list[Item] = [*flags, Drawing(tiles(result.measurements, findings))]
    title, summary, facts = f"Chest CT: {result.name}", _summary(result), _facts(result)
    html = page(title, summary, facts, sections, FOOTER, top, [SLICE_VIEWER], [STYLE])
    Path(path).write_text(html, encoding="utf-8")


def _summary(result: Result) -> str:
    state = "flagged" if result.flags else "no flag"
    return f"Lungs and opacities as a model sees them; {state}. For research, not for diagnosis."


def _facts(result: Result) -> dict[str, str]:
    slices, rows, columns = result.scan.hu.shape
    size = f"{slices} slices of {columns} x {rows} pixels"
    if result.scan.spacing_known:
        z_mm, y_mm, x_mm = result.scan.spacing_mm
        size += f"; voxels of {x_mm:.3g} x {y_mm:.3g} x {z_mm:.3g} mm"
    return {
        "Scan": size,
        **_greys(result),
        "Lungs": LUNG_SOURCES.get(result.lung_source, result.lung_source),
        "Model": f"{result.model.experiment} ({result.model.task}): {result.model.card_line}",
        "Version": f"Ground Glass {result.model.version}",
    }


def _greys(result: Result) -> dict[str, str]:
    """Say what grey values were estimated to be; nothing for other scans."""
    windows = result.scan.estimated_windows
    return {"Grey values": describe_windows(windows).public} if windows else {}


def _measurements(result: Result, findings: list[Finding]) -> list[Item]:
    measured = result.measurements
    items: list[Item] = [Table(table_of(measured, findings), "Volumes", _volumes_caption(measured))]
    if zone_tables := zones(measured, findings):
        caption = (
            "Share of each third of a lung's height, the patient's right on the left as in the pictures. The fuller "
            "the colour, the larger the share; the fullest is the zone that has the most of that finding."
        )
        items.append(Drawing(zone_tables, "Sides and zones", caption))
    if score_of := scores(measured):
        items.append(_facts_table(score_of))
    if not result.scan.spacing_known:
        items.append(Note("The size of a pixel is unknown, so that there are no volumes."))
    return items


def _volumes_caption(measured: Mapping[str, float | None]) -> str:
    text = "On the scan's own grid, inside the lungs."
    if any(key.endswith("_ml_spread") for key in measured):
        text += " SD: how much the answers differ that were averaged, of the ensemble's members and of flipped images."
    if (coverage := measured.get("interval_coverage")) is not None:
        text += f" The interval holds the reader's volume in {100 * coverage:g} % of scans like those it was made from."
    return text


def _lobes(result: Result, findings: list[Finding]) -> list[Item]:
    if result.lobes is None:
        return []
    outermost = result.classes.findings[0]
    slices = fullest_slices(result.lobes, mask_of(result.masks, result.classes, outermost.key), _chosen(result)[0])
    caption = (
        f"Share of {outermost.name} and score of each lobe, the patient's right on the left. The fuller the colour, "
        "the larger the share. A click shows the slice with most of it."
    )
    scored = (
        f"Score of a lobe by the share of {outermost.name}: {DEFINITION} (Pan et al., Radiology 2020). The "
        "interval holds what is uncertain about the fissures and, where the model has a calibration or gave several "
        "answers, about the volumes."
    )
    return [
        Drawing(draw_lobes(result.measurements, outermost, slices), "Five lobes", caption),
        Table(lobe_table(result.measurements, findings), "By lobe", scored),
    ]


def _density(result: Result) -> list[Item]:
    table = density_table(result.measurements)
    caption = (
        "Vessels included; without them, and for more of it, see measurements.json. Perc15: HU below which 15 % lie. "
        "LAA-950: below -950 HU; inflated: to -750; infiltrated: to -400; collapsed: to 0; dense: above. HAA: -600 to "
        "-250 HU."
    )
    return [Table(table, "Density by region", caption)] if len(table) else []


def _chosen(result: Result) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the slices that the page shows, and all slices with lung."""
    inside = np.flatnonzero(result.masks["lungs"].any(axis=(1, 2)))
    return inside[np.unique(np.linspace(0, len(inside) - 1, MOST_SLICES).round().astype(int))], inside


def _slices(result: Result, findings: list[Finding]) -> list[Item]:
    chosen, inside = _chosen(result)
    painter = Painter(result)
    size = painter.size_for(chosen.tolist())
    pictures = [painter.plane(0, int(z), size) for z in chosen]
    height = heights(result)
    shares = {finding.name: profile(result.masks, result.classes, finding) for finding in findings}
    lines = [Line(finding.name, finding.colour, height[inside], shares[finding.name][inside]) for finding in findings]
    axes, unit = axes_of(lines), "cm" if result.scan.spacing_known else "slices"
    captions = [_slice_caption(int(z), result, height, shares) for z in chosen]
    start = int(np.argmin(np.abs(chosen - _fullest_planes(result)[0])))
    viewer = slice_viewer(pictures, captions, [axes.across(height[z]) for z in chosen], start)
    chart = line_chart(
        lines, f"height above the lowest slice of the lungs ({unit})", "share of the lungs (%)", here=True
    )
    selection = f"; {len(chosen)} of {len(inside)}, evenly spread" if len(chosen) < len(inside) else ""
    caption = (
        f"All slices with lung{selection}, cut to the lungs, {WINDOW_HU[0]} to {WINDOW_HU[1]} HU, at most {size[0]} "
        f"pixels a side (JPEG, quality {size[1]}): an overview, no reading copy. The patient's right is on the left."
    )
    chart_caption = "From the lowest slice of the lungs to the highest; a gap where a slice has hardly any lung."
    return [
        Drawing(legend(result.masks, result.classes) + viewer, "Axial slices", caption),
        Drawing(chart, "Along the body axis", chart_caption),
    ]


def _slice_caption(z: int, result: Result, height: FloatArray, shares: dict[str, FloatArray]) -> str:
    place = f"slice {z + 1} of {len(height)} from the feet"
    if result.scan.spacing_known:
        place += f", {10 * height[z]:.0f} mm above the lowest lung"
    shown = [f"; {name} {shown_percent(share[z] / 100)}" for name, share in shares.items() if np.isfinite(share[z])]
    return place + "".join(shown)


def _fullest_planes(result: Result) -> tuple[int, int, int]:
    """Return the axial, coronal and sagittal plane with the most opacity, or else with the most lung."""
    opacity = mask_of(result.masks, result.classes, result.classes.findings[0].key)
    mask = opacity if opacity.any() else result.masks["lungs"]
    z, y, x = (int(mask.sum(axis=other, dtype=np.int64).argmax()) for other in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def _planes(result: Result) -> list[Item]:
    if not result.scan.spacing_known or len(result.scan.hu) == 1:
        return []
    painter, places = Painter(result), zip(PLANES, _fullest_planes(result), strict=True)
    planes = {name: painter.plane(axis, place) for axis, (name, place) in enumerate(places)}
    caption = "The plane with the most opacity each. Head up, or front up; in the sagittal plane the front is left."
    html = legend(result.masks, result.classes) + TEMPLATES.render("planes.html", planes=planes)
    return [Drawing(html, "Axial, coronal, sagittal", caption)]


def _repairs_and_warnings(result: Result) -> list[Item]:
    sentences_by_kind = {
        "Repaired while reading": [repair.public for repair in result.scan.repairs],
        "Warnings": [warning.public for warning in result.warnings],
        "Flags": result.flags,
    }
    notes: list[Item] = [
        Note(f"{kind}: {'; '.join(sentences)}.") for kind, sentences in sentences_by_kind.items() if sentences
    ]
    return notes or [Note("Nothing.")]


def _model(result: Result) -> dict[str, str]:
    card = result.model
    flips = f"{card.flips} flips of the image were averaged" if card.flips > 1 else "none"
    members = len(card.checkpoints_sha256)
    return {
        "task": card.task,
        "experiment": card.experiment,
        "members of the ensemble": str(members),
        "SHA-256 of the checkpoint" + "s" * (members > 1): ", ".join(card.checkpoints_sha256),
        "test-time augmentation": flips,
        "slices as the network sees them": f"{card.size} x {card.size} pixels",
        "version": card.version,
    }


def _facts_table(facts: dict[str, str]) -> Drawing:
    return Drawing(TEMPLATES.render("facts.html", facts=facts))


def slice_viewer(
    pictures: Sequence[PlanePicture], captions: Sequence[str], chart_x: Sequence[float], start: int
) -> Markup:
    """Return a slider through axial slices with the pictures in it; `slice_viewer.js` moves it.

    Args:
        pictures: The slices, from the foot to the head.
        captions: A caption for each slice.
        chart_x: Where each slice stands in the chart of the profile, in units of its drawing.
        start: Index of the slice that is shown first.
    """
    slices = [
        {"ct": picture.ct, "overlay": picture.overlay, "caption": caption, "chart_x": round(x, 1)}
        for picture, caption, x in zip(pictures, captions, chart_x, strict=True)
    ]
    return TEMPLATES.render("slice_viewer.html", slices=slices, picture=pictures[start], start=start)


def legend(masks: Masks, classes: ClassSet) -> Markup:
    """Return the legend of the overlay: its colours and their names."""
    return TEMPLATES.render("legend.html", legend=legend_of(masks, classes))


def profile(masks: Masks, classes: ClassSet, finding: Finding) -> NDArray[np.float64]:
    """Return a finding's share of the lungs in per cent by slice: float64 (Z,), NaN where there is hardly any lung."""
    lung = masks["lungs"].sum(axis=(1, 2), dtype=np.int64)
    marked = mask_of(masks, classes, finding.key).sum(axis=(1, 2), dtype=np.int64)
    shares = np.full(len(lung), np.nan)
    enough = (lung > 0) & (lung >= LEAST_AREA * lung.max())
    shares[enough] = 100 * marked[enough] / lung[enough]
    return shares


def heights(result: Result) -> NDArray[np.float64]:
    """Return the height of each slice above the lowest one with lung, in cm, or in slices without a spacing: (Z,)."""
    lung = result.masks["lungs"].sum(axis=(1, 2), dtype=np.int64) > 0
    step = result.scan.spacing_mm[0] / 10 if result.scan.spacing_known else 1.0
    return np.asarray((np.arange(len(lung)) - int(np.argmax(lung))) * step, dtype=np.float64)
