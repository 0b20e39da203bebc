"""Claim: the page in the browser segments 60 slices of 512 x 512 in 60 s and 300 in 4 min, in less than 2 GB.

A phantom enlarged to that size, as packed NIfTI, is given to the built page in headless Chromium, a new one for each
number of slices, opened from disk and drawn by the software renderer. Seconds are from the file to the masks on the
screen; CPU seconds are those of the browser's processes together, which hardly depend on other load. Memory is the
largest sum over these processes, where what several share counts once (PSS, Linux).
Needs Chromium and `make page`. A JSON line each; `ratio` is that of the seconds to their bound.

    python -m benchmarks.page [--page browser/built] [--slices 60 300]
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nibabel
import numpy as np
from playwright.sync_api import sync_playwright
from scipy.ndimage import zoom

from benchmarks.timing import line
from machine.command_line import run_command
from phantom.patient import make_phantom

BUILT = Path(__file__).resolve().parent.parent / "browser" / "built"
SIDE, ENLARGED, PIXEL_MM, HEIGHT_MM = 512, 4, 0.68, 300
MOST_S = {60: 60, 300: 240}
MOST_GB, SAMPLE_S, LONGEST_S = 2.0, 0.5, 1200
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
READY = "document.getElementById('status').textContent == 'Ready.'"
ENDED = "document.querySelector('#controls button') || document.querySelector('#error:not([hidden])')"


def write_scan(path: Path, slices: int) -> None:
    """Write a phantom patient of 512 x 512 pixels with noise, as high in any number of slices."""
    small = make_phantom(1, "A", positive=True, size=SIDE // ENLARGED, slices=30).hu
    large = zoom(small.astype(np.float32), (1, ENLARGED, ENLARGED), order=1)
    hu = large[np.arange(slices) * len(large) // slices]
    hu += np.random.default_rng(0).normal(0, 15, hu.shape).astype(np.float32)
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, HEIGHT_MM / slices, 1.0])  # to the left, the back and the head
    nibabel.save(nibabel.Nifti1Image(np.rint(hu).astype(np.int16).T, affine), path)


def browser_processes() -> dict[int, float]:
    """Return the CPU seconds so far of every process of Chromium below this one, by its number."""
    parents: dict[int, int] = {}
    cpu_s: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            name, rest = stat.read_text().rsplit(")", 1)
            fields, number = rest.split(), int(stat.parent.name)
            parents[number] = int(fields[1])
            if "(chrom" in name:
                cpu_s[number] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(number: int) -> bool:
        while number in parents and number != os.getpid():
            number = parents[number]
        return number == os.getpid()

    return {number: seconds for number, seconds in cpu_s.items() if is_ours(number)}


def memory_gb(processes: Iterable[int]) -> float:
    """Return the proportional resident size of processes in GB."""
    kilobytes = 0
    for number in processes:
        with suppress(OSError):
            rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
            kilobytes += next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))
    return kilobytes * 1024 / 1e9


@contextmanager
def peak_gb() -> Iterator[list[float]]:
    """Sample the browser's memory all the while; the list's one value is the largest so far."""
    peak, ended = [0.0], threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            peak[0] = max(peak[0], memory_gb(browser_processes()))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def segment(page_file: Path, scan: Path) -> dict[str, float]:
    """Open the page and give it a scan; return seconds to the picture with its masks, CPU seconds and peak memory.

    Raises:
        ValueError: The page refused the scan.
    """
    with sync_playwright() as playwright, peak_gb() as peak:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        page.wait_for_function(READY, timeout=1000 * LONGEST_S)
        started, cpu_s = time.perf_counter(), sum(browser_processes().values())
        page.set_input_files("#file", scan)
        page.wait_for_function(ENDED, timeout=1000 * LONGEST_S)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seconds, cpu_s = time.perf_counter() - started, sum(browser_processes().values()) - cpu_s
        refusal = page.text_content("#error")
        browser.close()
    if refusal:
        raise ValueError(f"the page refused {scan.name}: {refusal}")
    return {"seconds": seconds, "cpu_s": cpu_s, "memory_gb": peak[0]}


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, default=BUILT, help="folder of the built page")
    parser.add_argument("--slices", type=int, nargs="+", choices=MOST_S, default=list(MOST_S))
    options = parser.parse_args()
    page_file = options.page.resolve() / "index.html"
    if not page_file.is_file():
        raise ValueError(
            f"{options.page} holds no index.html; build the page by make page, or name its folder by --page"
        )
    for slices in options.slices:
        with tempfile.TemporaryDirectory() as folder:
            scan = Path(folder, f"{slices}_slices.nii.gz")
            write_scan(scan, slices)
            figures = segment(page_file, scan)
        seconds = figures.pop("seconds")
        line("page", seconds, MOST_S[slices], "s", 1, slices=slices, **figures, most_memory_gb=MOST_GB)


if __name__ == "__main__":
    run_command(main)
