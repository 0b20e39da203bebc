"""Plan of the phantom cohort: sites, splits, kinds of patients and readers of its scans."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Site, split, number of patients with consolidation, with ground glass only, and healthy.
DEFAULT_COHORT = (
    ("A", "train", 14, 30, 4),
    ("A", "val", 3, 3, 0),
    ("B", "test", 4, 4, 0),
    ("C", "test", 4, 3, 0),
    ("D", "test", 4, 3, 0),
)
TINY_COHORT = (("A", "train", 2, 2, 0), ("A", "val", 1, 1, 0), ("B", "test", 1, 0, 0), ("C", "test", 0, 1, 0))
# With a panel, the scans of a site and split that all readers label. The noise model makes single labels softer
# than readers are (it knows the border, not the image), so most training scans have the votes of all readers.
STUDY_SCANS = {"train": 44, "val": 2, "test": 3}


@dataclass(frozen=True)
class ScanPlan:
    """Plan of one scan of the cohort.

    Attributes:
        kind: "consolidated", "ground_glass" or "healthy".
        further_readers: Without a panel, the number of readers beside the first.
        size: Columns of a site-A image.
        slices: Number of slices, or None for the site's own range.
        panel: Readers in the panel; 0 without one.
        in_study: Whether the whole panel labels it.
    """

    number: int
    scan_id: str
    site: str
    split: str
    kind: str
    has_lung_mask: bool
    further_readers: int
    size: int
    slices: int | None
    panel: int = 0
    in_study: bool = False

    @property
    def patient_id(self) -> str:
        return f"P{self.number:04d}"

    @property
    def states_label(self) -> bool:
        """Return whether the row states its weak label, as every second one does; else the report decides."""
        return self.number % 2 == 1


def plan_cohort(
    cohort: Iterable[tuple[str, str, int, int, int]], size: int, slices: int | None, panel: int
) -> Iterator[ScanPlan]:
    """Plan every scan of a cohort of (site, split, consolidated, ground glass only, healthy) numbers."""
    number = 0
    for site, split, consolidated, ground_glass, healthy in cohort:
        kinds = ["consolidated"] * consolidated + ["ground_glass"] * ground_glass + ["healthy"] * healthy
        for index, kind in enumerate(kinds):
            number += 1
            # A few rows have no lung mask; none with consolidation, which no classical method keeps whole.
            has_lung_mask = index < len(kinds) - 1 or kind == "consolidated" or split == "val"
            readers = (3 if index % 2 else 2) if split == "test" and index in (0, 1) else 0
            # Spread over the kinds, so that the study has every pattern.
            before, after = ((count * STUDY_SCANS[split]) // len(kinds) for count in (index - 1, index))
            in_study = panel > 0 and after > before
            scan_id = f"{site}{number:03d}"
            yield ScanPlan(number, scan_id, site, split, kind, has_lung_mask, readers, size, slices, panel, in_study)
