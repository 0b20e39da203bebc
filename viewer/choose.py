"""The choices on the left: which model, and which scan."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from viewer.examples import Example, examples
from viewer.models import checkpoints
from viewer.upload import receive
from viewer.visit import plain

UPLOAD, FOLDER, PHANTOM = "Upload a file", "Upload a folder", "Phantom example"
# What outputs call an uploaded scan: the name of its file may be the patient's.
UPLOADED = "scan"
Bring = Callable[[Path], Example]


def choose_model(runs: Path) -> Path | None:
    """The checkpoint that the visitor picks, None without any.

    Args:
        runs: Folder of all runs.
    """
    found = checkpoints(runs)
    if not found:
        st.warning(f"No finished run in {plain(str(runs))} yet: make train EXP=unet_em makes one.")
    name = st.selectbox("Model", list(found), help="The newest finished run of every experiment, newer ones first.")
    other = st.text_input("or a checkpoint", placeholder="path of a best.ckpt")
    if other:
        return Path(other)
    return found[name] if name else None


def choose_scan(cohorts: Path) -> Bring | None:
    """What brings the scan that the visitor picks into a folder; None until there is one.

    Args:
        cohorts: Folder of cohorts with phantoms.
    """
    kind = st.radio("Scan", [UPLOAD, FOLDER, PHANTOM])
    if kind == PHANTOM:
        found = examples(cohorts)
        name = st.selectbox("Phantom", list(found), help="Test scans: no model has seen them.")
        return found[name]
    if kind == FOLDER:
        files = st.file_uploader("Folder of one DICOM series", accept_multiple_files="directory")
    else:
        files = st.file_uploader("Zip of one DICOM series, NIfTI, NRRD or DICOM files", accept_multiple_files=True)
    return _bringer(files) if files else None


def _bringer(files: Sequence[Any]) -> Bring:
    def bring(folder: Path) -> Example:
        contents = [(file.name, file.getvalue()) for file in files]
        return Example(UPLOADED, receive(contents, folder), None, None)

    return bring
