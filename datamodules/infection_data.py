"""Paper EM's data: stacks of adjacent slices with strong (pixel) and weak (patient) labels."""

import numpy as np
from numpy.typing import NDArray

from ct.refusal import Refusal
from datamodules.slice_data import SliceData
from datamodules.slices import SliceTable


class InfectionData(SliceData):
    """Slices of a cohort for stage 1 (infection) and stage 2 (consolidation by EM).

    Args:
        cohort: Path of cohort.csv.
        prepared: Folder under which prepared arrays are kept; each cohort and size gets its own folder there.
        size: Side of the prepared slices in pixels (paper EM: 256).
        context: Adjacent slices in a stack (paper EM: 7).
        batch_size: Slices per batch and process (paper EM: 16).
        weakly_labelled: Train only on patients whose weak label is known (stage 2). Slices without a pixel inside the
            lungs are left out in either stage.
        balanced: Draw patients with and without consolidation equally often (the authors' scheme for stage 2; needs
            `weakly_labelled`). False draws every slice once per epoch.
        num_workers: Loader processes; 0 reads in the training process.
        prepare_jobs: Processes that prepare scans.
    """

    def __init__(
        self,
        cohort: str = "cohorts/phantom/cohort.csv",
        prepared: str = "prepared",
        size: int = 256,
        context: int = 7,
        batch_size: int = 16,
        weakly_labelled: bool = False,
        balanced: bool = False,
        num_workers: int = 0,
        prepare_jobs: int = 2,
    ) -> None:
        super().__init__(cohort, prepared, size, context, batch_size, num_workers, prepare_jobs)
        if balanced and not weakly_labelled:
            raise Refusal(
                "balanced is true but weakly_labelled is false; balancing needs patients whose label is known"
            )
        self.weakly_labelled, self.balanced = weakly_labelled, balanced
        if weakly_labelled:
            self.left_out += " and patients whose weak label is unknown (data.weakly_labelled: true)"

    def usable(self, table: SliceTable, training: bool) -> NDArray[np.bool_]:
        if not training:
            return super().usable(table, training)
        in_lungs = table.lung_pixels > 0
        return in_lungs & (table.weak_label >= 0) if self.weakly_labelled else in_lungs

    def balance(self, table: SliceTable, rows: NDArray[np.int64]) -> NDArray[np.int8] | None:
        return table.weak_label[rows] if self.balanced else None
