import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import CHROMIUM
from drawn_result import CONSOLIDATION, INFECTION, VOXEL_ML, make_result, make_scan
from open_page import opened
from PIL import Image

from ct.classes import COLOUR_OF, EM, L3
from ct.colours import rgb_of
from ct.refusal import Sentence
from inference.outputs.scan_numbers import table_of
from inference.outputs.scan_page import heights, profile, write_scan_page
from inference.outputs.scan_pictures import Painter
from inference.overlays import findings_of

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium to open the page")
THINGS = "lungs", "infection", "consolidation", "group_3"
LUNGS, INFECTED, DENSE, SEPTAL = (rgb_of(COLOUR_OF[name]) for name in THINGS)
# What the pictures show of the scan: the lungs and 15 mm around them (8 rows of 2 mm, 10 columns of 1.5 mm).
BOX = slice(0, 40), slice(0, 48)


def written(tmp_path: Path, **changes: Any) -> Path:
    write_scan_page(make_result(**changes), tmp_path / "report.html")
    return tmp_path / "report.html"


def picture(data: str) -> np.ndarray:
    """A picture as an array, of base64 or a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[-1]))).convert("RGBA"))


def count(overlay: np.ndarray, colour: tuple[int, ...]) -> int:
    return int(((overlay[..., :3] == colour).all(axis=2) & (overlay[..., 3] > 0)).sum())


@pytest.mark.slow
@needs_chromium
def test_the_slider_shows_every_slice_of_the_lungs_as_it_is(tmp_path: Path) -> None:
    result = make_result()
    shown = []
    with opened(written(tmp_path)) as (page, messages, requests):
        page.locator("#slice").focus()
        page.keyboard.press("Home")
        at_the_foot = page.locator("#viewer").screenshot()
        for _ in range(8):
            sources = page.locator("#viewer img").evaluate_all("images => images.map(image => image.src)")
            here = float(page.locator(".here").get_attribute("x1"))
            shown.append((*sources, page.locator("#where").inner_text(), here))
            page.keyboard.press("ArrowRight")
        assert page.locator("#slice").input_value() == "7"
        assert page.locator("#viewer").screenshot() != at_the_foot
        assert (messages, requests) == ([], [])
    for z, (ct, overlay, caption, _) in enumerate(shown, 1):
        assert caption.startswith(f"slice {z + 1} of 9 from the feet, {5 * (z - 1)} mm above the lowest lung")
        expected = (result.scan.hu[z][BOX].clip(-1000, 350) + 1000) / 1350 * 255
        stretched = np.asarray(Image.fromarray(picture(ct)[..., 0]).resize((48, 40)), float)
        assert np.abs(stretched - expected).mean() < 6  # JPEG and resampling
        consolidation = int(result.masks["consolidation"][z].sum())
        drawn = picture(overlay)
        assert count(drawn, DENSE) == consolidation
        assert count(drawn, INFECTED) == int(result.masks["infection"][z].sum()) - consolidation
        assert count(drawn, LUNGS) == 2 * (2 * 24 + 2 * 14 - 4)  # the edges of two boxes
    places = [here for *_, here in shown]
    np.testing.assert_allclose(np.diff(places), places[1] - places[0], atol=0.11)
    assert places[1] > places[0]
    assert "infection 12 %" in shown[1][2]  # 80 of 672 pixels


@pytest.mark.slow
@needs_chromium
def test_the_overlay_comes_off_everywhere_and_the_policy_runs_no_other_script(tmp_path: Path) -> None:
    with opened(written(tmp_path)) as (page, messages, _):
        seen = "images => images.map(image => getComputedStyle(image).visibility)"
        assert page.locator(".overlay").evaluate_all(seen) == ["visible"] * 4
        page.locator("#overlay").click()
        assert page.locator(".overlay").evaluate_all(seen) == ["hidden"] * 4
        assert messages == []
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 1'}))"
        )
        assert page.evaluate("window.bad") is None
        assert "Content Security Policy" in messages[0]


@needs_chromium
def test_without_scripts_there_is_still_a_picture(tmp_path: Path) -> None:
    with opened(written(tmp_path), java_script_enabled=False) as (page, _, _):
        assert not page.locator("#slice").is_visible()
        source = page.locator("#viewer img.overlay").get_attribute("src")
        assert count(picture(source), INFECTED) == 80  # the fullest slice, of which nothing is consolidated


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_narrow_and_wide_screens(tmp_path: Path, width: int, scheme: str) -> None:
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with opened(written(tmp_path, flags=("little lung",)), **options) as (page, _, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
        assert (bright[0] > bright[1]) == (scheme == "dark")


def test_numbers_stand_on_the_page(tmp_path: Path) -> None:
    html = written(tmp_path).read_text()
    lung_ml = 2 * 8 * 24 * 14 * VOXEL_ML
    assert f"<span>lungs</span><b>{lung_ml:.0f} ml</b>" in html
    assert "<span>infection</span><b>2.4 ml</b><span>3.0 % of the lungs, 90 % interval 1.5 to 3.2 ml</span>" in html
    # 160 of the 3 x 24 x 14 voxels of the lower third; the fullest zone has the strongest colour.
    assert f'{COLOUR_OF["infection"]} 45%, transparent)">16 %<br><small>2.4 ml</small></td>' in html
    assert "<td>6.0 %<br><small>2.4 ml</small></td>" in html
    assert "a" * 64 + ", " + "b" * 64 in html
    assert "2 flips of the image were averaged" in html
    assert html.index("model 1: trained on 48 scans of 1 site; validation: consolidation Dice 0.65") < html.index(
        "<nav>"
    )
    assert "model 2: the checkpoint does not say" in html
    assert "Flagged" not in html


def test_the_table_of_volumes() -> None:
    result = make_result()
    frame = table_of(result.measurements, findings_of(result.masks, result.classes)).set_index("")
    assert list(frame.index) == ["lungs", "infection", "consolidation"]
    assert frame.loc["infection", "volume (ml)"] == pytest.approx(2 * 8 * 10 * VOXEL_ML)
    assert frame.loc["consolidation", "share of the lungs (%)"] == pytest.approx(100 * 24 / 5376)
    assert frame.loc["infection", "SD (ml)"] == 0.25
    assert frame["interval (ml)"].tolist() == ["-", "1.5 to 3.2", "-"]
    assert "mass (g)" not in frame  # nobody measured it
    assert pd.isna(frame["mean HU"]["consolidation"])


def test_flags_repairs_and_warnings_are_told_and_nobody_is_named(tmp_path: Path) -> None:
    left_out = "left out what is no DICOM image: {count} files, for example {example}"
    repairs = (
        Sentence(left_out, count=2, example=Path("DOE_JANE/notes.txt")),
        Sentence("series {number} {description!r} was chosen", number=3, description="DOE JANE"),
        Sentence("fractions of a HU were rounded"),
    )
    scan = replace(make_result().scan, repairs=repairs)
    path = written(tmp_path, scan=scan, flags=("too <little> lung",), warnings=(Sentence("the lungs touch 3 sides"),))
    html = path.read_text()
    assert html.index("too &lt;little&gt; lung") < html.index("<nav>") < html.index("Measurements</h2>")
    for text in ("2 files, for example a file", "series 3 [not shown] was chosen", "were rounded", "touch 3 sides"):
        assert text in html
    assert not re.search(r"\bdoe\b|jane|secret|notes|a\.dcm", html, re.IGNORECASE)


@pytest.mark.parametrize(("axis", "place"), [(1, 26), (2, 35)])
def test_planes_lie_as_radiologists_look_at_them(axis: int, place: int) -> None:
    drawn = Painter(make_result()).plane(axis, place)
    overlay = picture(drawn.overlay)
    rows, columns = np.nonzero((overlay[..., :3] == INFECTED).all(axis=2) | (overlay[..., :3] == DENSE).all(axis=2))
    # Slices 2 and 3 of 9 from the feet are rows 5 and 6 from the top; the patient's left, and the back, are right.
    assert sorted({*rows.tolist()}) == [5, 6]
    across = INFECTION[3 - axis]
    assert (columns.min(), columns.max()) == (across.start, across.stop - 1)
    millimetres = (48 * 1.5 if axis == 1 else 40 * 2.0), 9 * 5.0
    assert drawn.aspect == pytest.approx(millimetres[0] / millimetres[1])
    height, width = picture(drawn.ct).shape[:2]
    assert width / height == pytest.approx(drawn.aspect, rel=0.05)


def test_the_profile_is_a_share_of_each_slice() -> None:
    result = make_result()
    infection, consolidation = (
        profile(result.masks, EM, finding) for finding in findings_of(result.masks, result.classes)
    )
    np.testing.assert_allclose(infection, [np.nan, 0, 80 / 6.72, 80 / 6.72, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(consolidation[1:4], [0, 0, 24 / 6.72])
    np.testing.assert_allclose(heights(result), np.arange(-1, 8) * 0.5)
    thin = {name: mask.copy() for name, mask in result.masks.items()}
    thin["lungs"][8] = False
    thin["lungs"][8, 10, 6:12] = True
    assert np.isnan(profile(thin, EM, findings_of(thin, EM)[0])[8])


def test_groups_have_their_own_colours_and_names(tmp_path: Path) -> None:
    masks = make_result().masks
    groups = masks["lungs"].astype(np.uint8)
    groups[INFECTION] = 3
    groups[CONSOLIDATION] = 4
    masks = {"lungs": masks["lungs"], "infection": masks["infection"], "groups": groups}
    overlay = picture(Painter(make_result(masks=masks, classes=L3)).plane(0, 3).overlay)
    assert (count(overlay, SEPTAL), count(overlay, DENSE)) == (80 - 24, 24)
    html = written(
        tmp_path, masks=masks, classes=L3, measurements={"lung_ml": 80.0, "group_3_ml": 4.0, "group_4_ml": None}
    ).read_text()
    assert "<span>ground glass with septal lines</span><b>4.0 ml</b><span>5.0 % of the lungs</span>" in html
    assert ">pure ground glass</span>" in html


def test_without_a_pixel_size_there_are_shares_and_no_planes(tmp_path: Path) -> None:
    result = make_result()
    measured = {"lung_ml": None, "infection_ml": None, "consolidation_ml": None, "severity_score": 0.25}
    html = written(tmp_path, scan=replace(result.scan, spacing_known=False), measurements=measured).read_text()
    assert "<span>infection</span><b>25 %</b><span>of the lungs</span>" in html
    assert "coronal" not in html
    assert "mm" not in re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL).replace("command", "")


@pytest.mark.parametrize("slices", [1, 2])
def test_a_scan_of_hardly_any_slices(tmp_path: Path, slices: int) -> None:
    result = make_result()
    masks = {name: mask[2 : 2 + slices] for name, mask in result.masks.items()}
    html = written(tmp_path, scan=make_scan(result.scan.hu[2 : 2 + slices]), masks=masks).read_text()
    assert f'max="{slices - 1}"' in html


@pytest.mark.slow
def test_a_large_noisy_scan_makes_a_page_below_six_megabytes(tmp_path: Path) -> None:
    tall = (310, 512, 512)
    hu = np.random.default_rng(0).normal(-700, 60, tall).astype(np.int16)
    lungs = np.zeros(tall, bool)
    lungs[:, 60:450, 40:470] = True
    infection = np.zeros(tall, bool)
    infection[100:200, 200:400, 60:160] = True
    masks = {"lungs": lungs, "infection": infection, "consolidation": infection & (hu > -650)}
    path = written(tmp_path, scan=make_scan(hu), masks=masks)
    assert path.stat().st_size < 6e6
    html = path.read_text()
    assert "300 of 310, evenly spread" in html
    side = re.search(r"at most (\d+) pixels a side", html)
    assert side is not None
    assert int(side[1]) >= 192
