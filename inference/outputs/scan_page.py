"""report.html of one scan: numbers, pictures and doubts on one page that opens from disk, without a network."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct.classes import Finding
from inference.layers import findings_of, mask_of
from inference.outputs import TEMPLATES
from inference.outputs.profile import heights, profile
from inference.outputs.scan_numbers import scores, shown_percent, table_of, tiles, zones
from inference.outputs.scan_pictures import WINDOW_HU, Painter
from inference.outputs.slice_viewer import VIEWER_SCRIPT, legend, slice_viewer
from inference.result import Result
from pages.line_chart import Line, axes_of, line_chart
from pages.page import Alarm, Drawing, Item, Note, Section, Table, page

FloatArray = NDArray[np.float64]

STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
MOST_SLICES = 300  # in the slider: a page must stay small enough to be sent
FOOTER = "Made by Ground Glass, a model, not a physician. For research; no medical device and no diagnosis."
PLANES = ("axial", "coronal", "sagittal")
LUNG_SOURCES = {
    "file": "the mask that was given",
    "classical": "found by thresholds and shapes",
    "lungmask": "found by the network R231CovidWeb (lungmask)",
}


def write_scan_page(result: Result, path: str | Path) -> None:
    """Write a scan's report: one HTML file with its pictures inside, which loads nothing and names nobody.

    Args:
        result: The segmented scan; its lungs are not empty.
        path: Where to.
    """
    findings = list(findings_of(result.masks, result.classes))
    sections = [
        Section("Measurements", _measurements(result, findings)),
        Section("Slices", _slices(result, findings)),
        Section("Three planes", _planes(result)),
        Section("What was repaired, and what is odd", _doubts(result)),
        Section("Model", [_listed(_model(result))]),
    ]
    flags = [Alarm("Flagged: the result may be wrong although nothing failed.", result.flags)] if result.flags else []
    top: list[Item] = [*flags, Drawing(tiles(result.measurements, findings))]
    title, summary, facts = f"Chest CT: {result.name}", _summary(result), _facts(result)
    html = page(title, summary, facts, sections, FOOTER, top, [VIEWER_SCRIPT], [STYLE])
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
        "Lungs": LUNG_SOURCES.get(result.lung_source, result.lung_source),
        "Model": f"{result.model.experiment} ({result.model.task}): {result.model.card_line}",
        "Version": f"Ground Glass {result.model.version}",
    }


def _measurements(result: Result, findings: list[Finding]) -> list[Item]:
    measured = result.measurements
    items: list[Item] = [Table(table_of(measured, findings), "Volumes", _about_volumes(measured))]
    drawn = zones(measured, findings)
    if drawn:
        caption = (
            "Share of each third of a lung's height, the patient's right on the left as in the pictures. The fuller "
            "the colour, the larger the share; the fullest is the zone that has the most of that finding."
        )
        items.append(Drawing(drawn, "Sides and zones", caption))
    if scored := scores(measured):
        items.append(_listed(scored))
    if not result.scan.spacing_known:
        items.append(Note("The size of a pixel is unknown, so that there are no volumes."))
    return items


def _about_volumes(measured: Mapping[str, float | None]) -> str:
    said = "On the scan's own grid, inside the lungs."
    if any(key.endswith("_ml_spread") for key in measured):
        said += " SD: how much the answers differ that were averaged, of the ensemble's members and of flipped images."
    if (coverage := measured.get("interval_coverage")) is not None:
        said += f" The interval holds the reader's volume in {100 * coverage:g} % of scans like those it was made from."
    return said


def _slices(result: Result, findings: list[Finding]) -> list[Item]:
    inside = np.flatnonzero(result.masks["lungs"].any(axis=(1, 2)))
    chosen = inside[np.unique(np.linspace(0, len(inside) - 1, MOST_SLICES).round().astype(int))]
    painter = Painter(result)
    size = painter.size_for(chosen.tolist())
    pictures = [painter.plane(0, int(z), size) for z in chosen]
    height, shares = (
        heights(result),
        {finding.name: profile(result.masks, result.classes, finding) for finding in findings},
    )
    lines = [Line(one.name, one.colour, height[inside], shares[one.name][inside]) for one in findings]
    axes, unit = axes_of(lines), "cm" if result.scan.spacing_known else "slices"
    said = [_said(int(z), result, height, shares) for z in chosen]
    start = int(np.argmin(np.abs(chosen - _fullest(result)[0])))
    viewer = slice_viewer(pictures, said, [axes.across(height[z]) for z in chosen], start)
    chart = line_chart(
        lines, f"height above the lowest slice of the lungs ({unit})", "share of the lungs (%)", here=True
    )
    left_out = f"; {len(chosen)} of {len(inside)}, evenly spread" if len(chosen) < len(inside) else ""
    caption = (
        f"All slices with lung{left_out}, cut to the lungs, {WINDOW_HU[0]} to {WINDOW_HU[1]} HU, at most {size[0]} "
        f"pixels a side (JPEG, quality {size[1]}): an overview, no reading copy. The patient's right is on the left."
    )
    about = "From the lowest slice of the lungs to the highest; a gap where a slice has hardly any lung."
    return [
        Drawing(legend(result.masks, result.classes) + viewer, "Axial slices", caption),
        Drawing(chart, "Along the body axis", about),
    ]


def _said(z: int, result: Result, height: FloatArray, shares: dict[str, FloatArray]) -> str:
    place = f"slice {z + 1} of {len(height)} from the feet"
    if result.scan.spacing_known:
        place += f", {10 * height[z]:.0f} mm above the lowest lung"
    found = [f"{name} {shown_percent(share[z] / 100)}" for name, share in shares.items() if np.isfinite(share[z])]
    return place + "".join(f"; {one}" for one in found)


def _fullest(result: Result) -> tuple[int, int, int]:
    """The axial, the coronal and the sagittal plane with the most opacity, or else with the most lung."""
    whole = mask_of(result.masks, result.classes, result.classes.findings[0].key)
    seen = whole if whole.any() else result.masks["lungs"]
    z, y, x = (int(seen.sum(axis=other, dtype=np.int64).argmax()) for other in ((1, 2), (0, 2), (0, 1)))
    return z, y, x


def _planes(result: Result) -> list[Item]:
    if not result.scan.spacing_known or len(result.scan.hu) == 1:
        return []
    painter, places = Painter(result), zip(PLANES, _fullest(result), strict=True)
    planes = {name: painter.plane(axis, place) for axis, (name, place) in enumerate(places)}
    caption = "The plane with the most opacity each. Head up, or front up; in the sagittal plane the front is left."
    html = legend(result.masks, result.classes) + TEMPLATES.render("planes.html", planes=planes)
    return [Drawing(html, "Axial, coronal, sagittal", caption)]


def _doubts(result: Result) -> list[Item]:
    found = {
        "Repaired while reading": [repair.public for repair in result.scan.repairs],
        "Warnings": [warning.public for warning in result.warnings],
        "Flags": result.flags,
    }
    shown: list[Item] = [Note(f"{name}: {'; '.join(sentences)}.") for name, sentences in found.items() if sentences]
    return shown or [Note("Nothing.")]


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


def _listed(facts: dict[str, str]) -> Drawing:
    return Drawing(TEMPLATES.render("facts.html", facts=facts))
