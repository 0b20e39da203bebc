"""A folder of 8-bit phantom slices as the COVID-19 CT segmentation set is published."""

from pathlib import Path

import numpy as np
from PIL import Image

from phantom.patient import make_phantom


def write_slices(folder: Path, patients: int = 6, slices: int = 4, size: int = 64) -> Path:
    """Write ct/, lungs/, covid/ and cases.csv of phantom patients; grey 0 is -1340 HU and a grey is 8 HU."""
    rows, number = ["file,case,order_in_case"], 0
    for patient in range(patients):
        phantom = make_phantom(patient + 1, "A", positive=True, size=size, slices=slices)
        _, infection = phantom.reader(seed=1)
        grey = np.clip(np.rint((phantom.hu.astype(float) + 1340) / 8), 0, 255)
        for z in range(slices):
            planes = {"ct": grey[z], "lungs": (phantom.lungs[z] > 0) * 255, "covid": (infection[z] > 0) * 255}
            for name, plane in planes.items():
                (folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane.astype(np.uint8)).save(folder / name / f"{number:04d}.png")
            rows.append(f"{number:04d}.png,case{patient + 1:02d},{z}")
            number += 1
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder
