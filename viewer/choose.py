"""The choices on top of the page: which model, and which scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from viewer.examples import Example, examples
from viewer.models import checkpoints, run_label
from viewer.upload import receive
from viewer.visit import plain

UPLOAD, FOLDER, PHANTOM = "Upload a file", "Upload a folder", "Phantom example"
# What outputs call an uploaded scan: the name of its file may be the patient's.
UPLOADED = "scan"
BATCH, ROUND = "uploaded files", "rounds of uploads"
MIB = 1 << 20
Bring = Callable[[Path], Example]


@dataclass(frozen=True)
class PickedModel:
    """A checkpoint and what the page calls it."""

    checkpoint: Path
    label: str


@dataclass(frozen=True)
class PickedScan:
    """A scan.

    Attributes:
        label: What the page calls it; an upload by the name of its file, which no output repeats.
        files: What tells an upload from another one of the same name.
        bring: Brings it into a folder.
    """

    label: str
    files: tuple[str, ...]
    bring: Bring = field(compare=False)


def choose_model(runs: Path) -> PickedModel | None:
    """The checkpoint that the visitor picks, None without any.

    Args:
        runs: Folder of all runs.
    """
    found = checkpoints(runs)
    if not found:
        st.warning(f"No finished run in {plain(str(runs))} yet: make train EXP=unet_em makes one.")
    labels = {name: run_label(name, path.parent) for name, path in found.items()}
    help_text = "The newest finished run of every experiment, newer ones first."
    name = st.selectbox("Model", list(found), format_func=lambda name: labels[name], help=help_text)
    other = st.text_input("or a checkpoint", placeholder="path of a best.ckpt")
    if other:
        return PickedModel(Path(other).resolve(), other)
    return PickedModel(found[name], labels[name]) if name else None


def choose_scan(cohorts: Path) -> PickedScan | None:
    """The scan that the visitor picks; None until there is one.

    Args:
        cohorts: Folder of cohorts with phantoms.
    """
    kind = st.radio("Scan", [UPLOAD, FOLDER, PHANTOM], horizontal=True)
    if kind == PHANTOM:
        found = examples(cohorts)
        name = st.selectbox("Phantom", list(found), help="Test scans: no model has seen them.")
        return PickedScan(f"phantom ({name})", (), found[name])
    if kind == FOLDER:
        _uploader("One scan: the folder of a DICOM series", "directory")
    else:
        _uploader("One scan: a zip or the files of a DICOM series, or a volume file", True)
    files = st.session_state.get(BATCH)
    if not files:
        return None
    picked = PickedScan(_label([file.name for file in files]), tuple(file.file_id for file in files), _bringer(files))
    size = sum(file.size for file in files) / MIB
    st.caption(f"Uploaded: **{plain(picked.label)}** ({size:,.1f} MiB). Another upload replaces it.")
    return picked


def _uploader(label: str, multiple: Any) -> None:
    """Take the files of each upload together and start with an empty uploader again, which would add them up."""
    key = f"uploader {multiple} {st.session_state.setdefault(ROUND, 0)}"

    def take() -> None:
        if files := st.session_state[key]:
            st.session_state[BATCH] = list(files)
            st.session_state[ROUND] += 1

    st.file_uploader(label, accept_multiple_files=multiple, key=key, on_change=take)


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _bringer(files: Sequence[Any]) -> Bring:
    def bring(folder: Path) -> Example:
        contents = [(file.name, file.getvalue()) for file in files]
        return Example(UPLOADED, receive(contents, folder), None, None)

    return bring
