"""CT scan in physical space, and the conversion between a file's voxel order and the canonical one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ct.grey_window import GreyWindow
from ct.refusal import Refusal, Sentence

if TYPE_CHECKING:
    from ct.files.dicom.frames import Frame

Affine = npt.NDArray[np.float64]
ScalarT = TypeVar("ScalarT", bound=np.generic)

# World directions (RAS+) of the canonical x, y and z axes: towards the left, the back and the head.
CANONICAL_SIGNS = (-1.0, -1.0, 1.0)
# Sine of the largest angle between an axis and the patient's (0.17 degrees). Scanners and converters leave noise of up
# to 1e-3 in direction cosines; over 512 pixels this much is a pixel and a half.
OBLIQUE_TOLERANCE = 3e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel grid of a file, on which masks are written back.

    Attributes:
        shape: Number of voxels along the file's own index axes (i, j, k).
        affine: (4, 4), maps (i, j, k, 1) to RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: Affine


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT scan in canonical orientation: z foot to head, y front to back, x patient right to left.

    Attributes:
        hu: int16 (Z, Y, X), Hounsfield units.
        affine: (4, 4), maps canonical (x, y, z, 1) = reversed array index to RAS+ mm.
        source: The grid of the file the scan was read from.
        scan_id: The user's own name for the scan.
        site: Where the scan was made; empty when unknown.
        repairs: One sentence for each thing that was changed while reading.
        spacing_known: False for slice images, whose pixels have no size in mm.
        slice_names: For slice images, the file name without suffix of each slice.
        grey_windows: For slice images and volumes of grey values, what these stand for in each slice, as declared or as
            estimated; empty where the file holds HU.
        frames: For DICOM, the frame behind each slice, in the order of the last axis of `source`.
    """

    hu: npt.NDArray[np.int16]
    affine: Affine
    source: Grid
    scan_id: str
    site: str = ""
    repairs: tuple[Sentence, ...] = ()
    spacing_known: bool = True
    slice_names: tuple[str, ...] = field(default=())
    grey_windows: tuple[GreyWindow, ...] = field(default=())
    frames: tuple[Frame, ...] = field(default=(), repr=False)

    @property
    def estimated_windows(self) -> tuple[GreyWindow, ...]:
        """Return `grey_windows` where they were estimated; nothing where they were declared or the file holds HU."""
        return self.grey_windows if self.grey_windows and self.grey_windows[0].estimated else ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the voxel size (z, y, x) in mm; (1, 1, 1) when `spacing_known` is False."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Return the volume of a voxel in ml, NaN where the spacing is unknown."""
        return float(np.prod(self.spacing_mm)) / 1000.0 if self.spacing_known else float("nan")


def axis_order(affine: npt.ArrayLike) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Find which file axis is the canonical x, y and z, and whether it must be flipped.

    Args:
        affine: (4, 4), maps file indices to RAS+ mm.

    Returns:
        The file axis of canonical x, y, z and whether each runs the other way.

    Raises:
        ValueError: The affine has no volume, is not finite, or is oblique by more than `OBLIQUE_TOLERANCE`.
    """
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.all(np.isfinite(affine)) or np.any(lengths <= 0):
        raise Refusal(
            "the affine has voxel sizes {lengths}; expected three finite sizes above 0 mm", lengths=lengths.tolist()
        )
    cosines = matrix / lengths
    world = np.argmax(np.abs(cosines), axis=0)
    rest = cosines.copy()
    rest[world, np.arange(3)] = 0.0
    if sorted(world.tolist()) != [0, 1, 2] or np.abs(rest).max() > OBLIQUE_TOLERANCE:
        raise Refusal(
            "the scan is oblique: its axes lean up to {sine:.4f} (sine) from the patient's axes; expected "
            "at most {most}; resample it to axial slices first",
            sine=np.abs(rest).max(),
            most=OBLIQUE_TOLERANCE,
        )
    order = [int(np.flatnonzero(world == axis)[0]) for axis in range(3)]
    flips = [bool(np.sign(cosines[axis, order[axis]]) != CANONICAL_SIGNS[axis]) for axis in range(3)]
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def canonical_view(array_ijk: npt.NDArray[ScalarT], affine: npt.ArrayLike) -> tuple[npt.NDArray[ScalarT], Affine]:
    """View a file's array in canonical order: axes are permuted and flipped, nothing is copied.

    Args:
        array_ijk: (I, J, K) in the file's index order.
        affine: (4, 4), maps (i, j, k, 1) to RAS+ mm.

    Returns:
        A view (Z, Y, X) of the array and its affine for (x, y, z, 1).

    Raises:
        ValueError: The affine is oblique or singular (see `axis_order`).
    """
    order, flips = axis_order(affine)
    old = np.asarray(affine, dtype=np.float64)
    new = old.copy()
    for axis, (file_axis, flip) in enumerate(zip(order, flips, strict=True)):
        column = old[:3, file_axis]
        new[:3, axis] = -column if flip else column
        if flip:
            new[:3, 3] += column * (array_ijk.shape[file_axis] - 1)
    return _flip(array_ijk.transpose(order), flips).transpose(2, 1, 0), new


def to_canonical(array_ijk: npt.NDArray[ScalarT], affine: npt.ArrayLike) -> tuple[npt.NDArray[ScalarT], Affine]:
    """Bring a file's array into canonical order: `canonical_view`, made contiguous.

    Args:
        array_ijk: (I, J, K) in the file's index order.
        affine: (4, 4), maps (i, j, k, 1) to RAS+ mm.

    Returns:
        The array as (Z, Y, X) and its affine for (x, y, z, 1).

    Raises:
        ValueError: The affine is oblique or singular (see `axis_order`).
    """
    view, canonical = canonical_view(array_ijk, affine)
    return np.ascontiguousarray(view), canonical


def to_source(array_zyx: npt.NDArray[ScalarT], source: Grid) -> npt.NDArray[ScalarT]:
    """Bring a canonical array back to the voxel order of its file; the exact inverse of `to_canonical`.

    Args:
        array_zyx: (Z, Y, X) on the scan's canonical grid.
        source: The grid of the file.

    Returns:
        The array in the file's order, with shape `source.shape`, its first axis contiguous as files store it.

    Raises:
        ValueError: The array's shape does not belong to the grid.
    """
    order, flips = axis_order(source.affine)
    array_ijk = _flip(array_zyx.transpose(2, 1, 0), flips).transpose(np.argsort(order))
    if array_ijk.shape != tuple(source.shape):
        raise Refusal(
            "the array has shape {shape} in file order; expected the scan's {expected}",
            shape=array_ijk.shape,
            expected=source.shape,
        )
    return np.asfortranarray(array_ijk)


def grid_facing(shape_zyx: tuple[int, ...], affine: npt.ArrayLike, axcodes: str) -> Grid:
    """Return the grid of a canonical array stored with its file axes in another orientation.

    Args:
        shape_zyx: (Z, Y, X) of the canonical array.
        affine: (4, 4) of canonical (x, y, z).
        axcodes: Where the file's axes i, j, k point to: three of R/L, A/P, S/I, for example "RAS" or "SLP".

    Returns:
        The grid, for `to_source`.

    Raises:
        ValueError: `axcodes` does not name each body axis once.
    """
    worlds = [next((axis for axis, pair in enumerate(("LR", "PA", "IS")) if code in pair), -1) for code in axcodes]
    if sorted(worlds) != [0, 1, 2]:
        raise Refusal(
            "the orientation is {axcodes!r}; expected one of R/L, A/P and S/I each, for example 'RAS'", axcodes=axcodes
        )
    canonical = np.asarray(affine, dtype=np.float64)
    source = canonical.copy()
    shape = []
    for file_axis, (code, world) in enumerate(zip(axcodes, worlds, strict=True)):
        flip = code not in "LPS"
        count = shape_zyx[2 - world]
        source[:3, file_axis] = -canonical[:3, world] if flip else canonical[:3, world]
        if flip:
            source[:3, 3] += canonical[:3, world] * (count - 1)
        shape.append(count)
    return Grid((shape[0], shape[1], shape[2]), source)


def _flip(array_xyz: npt.NDArray[ScalarT], flips: tuple[bool, bool, bool]) -> npt.NDArray[ScalarT]:
    index: tuple[Any, ...] = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    return array_xyz[index]
