"""Reports of finished runs after both papers: PNG and PDF figures, CSV and Markdown tables, one page per run.

    python -m evaluation.report runs/unet_em/latest     one run: <run folder>/report/index.html
    python -m evaluation.report                         all finished runs, and runs/report/index.html with all of them
    python -m evaluation.report --sweep unet_em_prior   a sweep: runs/sweeps/unet_em_prior/report/index.html

The masks of a run's test scans are made first by `make report`; without them a report has the key figures only.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ct.classes import L3
from evaluation.report import em_sections, opacity_sections, sections
from evaluation.report.log_report import log_report
from evaluation.report.report_folder import ReportFolder
from evaluation.report.side_by_side import same_test, write_index
from evaluation.run_data import Run, finished_runs, read_run
from pages.page import counted

NO_MASKS = (
    "The masks of this run's test scans are missing, so there is no more than the figures of its test. "
    "`make report` makes them, if the run's cohort is still there, and says what went wrong."
)


def comparable(run: Run) -> dict[str, Run]:
    """Return the run and the newest runs of other experiments in its folder that were tested on the same scans."""
    runs = run.folder.parents[1]
    others = [read_run(folder) for folder in finished_runs(runs) if folder.parents[1] == runs]
    named = {run.experiment: run} | {other.experiment: other for other in others if other.has_masks}
    return same_test(named | {run.experiment: run})[0]


def sections_of(report: ReportFolder, run: Run) -> list[tuple[str, Callable[[], None]]]:
    """Return the sections of a run's report in order: their names, and the functions that add them."""
    general: list[Callable[[ReportFolder, Run], None]] = [sections.key_figures, sections.learning]
    if run.has_masks:
        general += [sections.per_site, sections.volumes, sections.boundaries, sections.calibration]
        general += [sections.strata, sections.failures, sections.cohort]
    steps = [(section.__name__, partial(section, report, run)) for section in general]
    paper: list[tuple[str, Callable[[], None]]] = []
    if run.has_masks and run.task == "opacity":
        paper = [("groups", lambda: opacity_sections.results(report, comparable(run)))]
        if run.classes == L3:  # the reader study knows its classes only
            paper += [("readers", lambda: opacity_sections.readers(report, run))]
    elif run.has_masks:
        paper = [("severity", lambda: em_sections.severity(report, run))]
        if run.task == "consolidation":
            paper += [("consolidation", lambda: em_sections.consolidation(report, comparable(run)))]
    return [*steps[:2], *paper, *steps[2:]]


def report_run(run: Run) -> Path:
    """Write <run folder>/report and log it to W&B; return its page.

    Raises:
        ValueError: The run's files contradict each other.
    """
    report = ReportFolder(run.folder / "report")
    steps = tqdm(sections_of(report, run), run.experiment, leave=False, disable=None)
    for name, draw in steps:
        steps.set_postfix_str(name)
        draw()
    if not run.has_masks:
        report.note(NO_MASKS)
    page = report.write(f"{run.experiment}: report", summary_of(run), facts_of(run))
    log_report(report.folder, run.experiment, run.folder.name, report.pictures, report.tables)
    return page


def summary_of(run: Run) -> str:
    """Return a sentence on what a run learned."""
    if run.task == "opacity" and run.classes != L3:
        return f"Classes of the set {run.classes.name}, learned from what readers say."
    return SUMMARIES[run.task]


SUMMARIES = {
    "infection": "Stage 1 of paper EM: the infected region, learned from pixel labels.",
    "consolidation": "Stage 2 of paper EM: consolidation, sought inside the infected region that stage 1 predicts.",
    "opacity": "Paper L3: groups of opacities, learned from the distribution of what readers say.",
}


def facts_of(run: Run) -> dict[str, str]:
    """Return the facts that identify a run, by name."""
    data, sites = run.config["data"]["init_args"], sorted(run.scans["site"].unique())
    patients = f" of {counted(run.scans['patient'].nunique(), 'patient')}" if run.has_masks else ""
    return {
        "Experiment": run.experiment,
        "Run": run.folder.name,
        "Cohort": run.cohort + (" (phantoms: synthetic scans)" if run.is_phantom else ""),
        "Test scans": f"{len(run.scans)}{patients}, {counted(int(run.scans['slices'].sum()), 'slice')}",
        "Test sites": ", ".join(sites),
        "Prepared size": f"{data['size']} x {data['size']} pixels",
        "Seed": str(run.config["seed_everything"]),
    }


def report_all(folders: Sequence[Path], runs: Path) -> Path:
    """Report every run, then all side by side; name and leave out a run that cannot be reported.

    Raises:
        ValueError: No run could be reported.
    """
    shown: dict[str, Run] = {}
    for folder in tqdm(folders, "reports", unit="run", disable=None):
        name = folder.parent.relative_to(runs.resolve()).as_posix()
        try:
            run = read_run(folder)
            started = time.monotonic()
            tqdm.write(f"{report_run(run)} ({time.monotonic() - started:.0f} s)")
        except (ValueError, OSError) as error:
            tqdm.write(f"error: {name} is left out: {error}", file=sys.stderr)
            continue
        shown[name] = run
    if not shown:
        raise ValueError(
            f"{runs}: none of {len(folders)} finished runs could be reported; train one (make train EXP=...)"
        )
    links = {name: f"../{name}/{run.folder.name}/report/index.html" for name, run in shown.items()}
    report = write_index(shown, runs / "report", links)
    log_report(report.folder, "all", time.strftime("%Y-%m-%d_%H-%M-%S"), report.pictures, report.tables)
    return report.folder / "index.html"
