"""Lung masks by the network R231CovidWeb of the package lungmask, which is an optional extra."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ct.refusal import Refusal, Word
from ct.scan import Scan

MODEL = "R231CovidWeb"
INSTEAD = "or use the classical method, or give a lung mask"


def lungmask_lungs(scan: Scan) -> npt.NDArray[np.bool_]:
    """Find the lungs with lungmask (Hofmanninger et al., Eur Radiol Exp 2020), model R231CovidWeb as in paper EM.

    The model sees axial slices, top row = front, left column = the patient's right: a scan's canonical order. Its
    weights (about 120 MB) are fetched on first use into the cache of torch.hub.

    Args:
        scan: The scan; slices of unknown spacing are segmented one by one.

    Returns:
        bool (Z, Y, X), both lungs (the model's labels 1 = right and 2 = left).

    Raises:
        ValueError: The package is not installed or the weights cannot be fetched.
    """
    inferer = _inferer()
    if scan.spacing_known:
        labels = inferer.apply(scan.hu)
    else:
        labels = np.concatenate([inferer.apply(plane[None]) for plane in scan.hu])
    return np.asarray(labels) > 0


def _inferer() -> Any:
    try:
        # The package turns off Python's user warnings for the whole process when it is imported.
        with warnings.catch_warnings():
            from lungmask import LMInferer
    except ImportError as error:
        raise Refusal(
            "lung method 'lungmask' is not installed ({error}); run pip install '.[lungmask]', {instead}",
            error=error,
            instead=Word(INSTEAD),
        ) from error
    try:
        return LMInferer(modelname=MODEL, tqdm_disable=True)
    except OSError as error:
        raise Refusal(
            "the weights of lungmask's {model} could not be fetched ({error}); connect to the internet for "
            "the first use, {instead}",
            model=Word(MODEL),
            error=error,
            instead=Word(INSTEAD),
        ) from error
