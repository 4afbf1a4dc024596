"""Grids of voxels in the world: directions, the axis to walk along, corners.

Symbols: RAS+ is right, anterior, superior, which this project uses; ITK, NRRD and DICOM
mostly use LPS+, which differs in the signs of the first two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.opened import Opened, SeriesAxis, is_large, lazily
from napari_medvlseg.core.io.stored import check_stored, read_slab, read_stored
from napari_medvlseg.core.types import RGB_CHANNELS, Image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Matrix = npt.NDArray[np.float64]

LPS_SIGNS = np.array([-1.0, -1.0, 1.0])
"""Turns LPS+ into RAS+, and back."""
MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), 10.0),
    **dict.fromkeys(("m", "meter", "meters"), 1000.0),
    **dict.fromkeys(("um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m"), 0.001),
    **dict.fromkeys(("micron", "microns", "micrometer", "micrometers"), 0.001),
}
"""As NRRD and MetaImage files spell it, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGrid:
    """What the header of an NRRD or MetaImage file says, its fastest axis first."""

    path: Path
    sizes: tuple[int, ...]
    """Of each axis."""
    dtype: np.dtype[Any]
    """As stored, byte order included."""
    roles: tuple[str, ...]
    """Of each axis: ``"space"``, ``"colour"`` or ``"other"``."""
    directions: Matrix
    """From a voxel to the next, (axes in space, 3), RAS+."""
    origin: Matrix
    """Of the first voxel's middle, (3,), RAS+."""
    units: str
    """``"mm"``, or ``"pixel"`` where the spacing is unknown."""
    data: Path
    """The file with the voxels: `path` itself, or one beside it."""
    offset: int | None
    """Where they begin in it; None if they end with it."""
    encoding: str
    """As `read_stored` calls it."""
    facts: dict[str, Any] = field(default_factory=dict)
    tells_sides: bool = True
    """Whether the header says which sides of the patient the axes point to."""


def to_image(grid: FileGrid, name: str) -> Image:
    """Read the voxels and lay them on their grid.

    The axes come slowest first: slices, rows, columns, as SimpleITK and Slicer hand
    them out, so that a picture is upright even where nothing is known of the world.

    Raises
    ------
    UnsupportedFormatError
        If there is more than one volume, or something else than grey or colour.
    """
    kept = _kept_axes(grid)[::-1]
    count = math.prod(grid.sizes) * grid.dtype.itemsize
    stored = read_stored(grid.data, count, encoding=grid.encoding, offset=grid.offset)
    shape = tuple(grid.sizes[axis] for axis in kept)
    voxels: Array = np.ndarray(shape, grid.dtype, buffer=stored)
    voxels = voxels.astype(grid.dtype.newbyteorder("="), copy=False)
    colours = [place for place, axis in enumerate(kept) if grid.roles[axis] != "space"]
    if colours:
        voxels = np.ascontiguousarray(np.moveaxis(voxels, colours[0], -1))
    spatial = voxels.ndim - len(colours)
    affine = _affine(grid.directions[:spatial][::-1], grid.origin)
    return Image(
        voxels,
        affine,
        rgb=bool(colours),
        units=grid.units,
        slice_axis=walk_axis(affine, prefer=0) if spatial == 3 else 0,
        name=name,
        facts={
            **grid.facts,
            "datatype": grid.dtype.name,
            **geometry_facts(affine, spatial, grid.units, told=grid.tells_sides),
        },
    )


def open_grid(grid: FileGrid, name: str) -> Opened:
    """Open all volumes on a grid, slowest axis first; large raw ones stay in the file.

    Raises
    ------
    UnsupportedFormatError
        If an axis in space is missing, or there are several kinds of colour.
    """
    series, space, colours = _sorted_axes(grid)
    wanted = [*series, *space, *colours]
    stored = sorted(wanted, reverse=True)
    shape = tuple(grid.sizes[axis] for axis in stored)
    rest = len(space[-2:]) + len(colours)
    raw = grid.encoding == "raw" and wanted == stored and len(wanted) > rest
    if raw and is_large(shape, grid.dtype):
        voxels: Any = _lazy_voxels(grid, shape, rest)
    else:
        count = math.prod(shape) * grid.dtype.itemsize
        encoding, offset = grid.encoding, grid.offset
        held = read_stored(grid.data, count, encoding=encoding, offset=offset)
        voxels = np.ndarray(shape, grid.dtype, buffer=held)
        voxels = voxels.astype(grid.dtype.newbyteorder("="), copy=False)
        voxels = voxels.transpose([stored.index(axis) for axis in wanted])
    affine = _affine(grid.directions[: len(space)][::-1], grid.origin)
    return Opened(
        voxels=voxels,
        affine=affine,
        rgb=bool(colours),
        units=grid.units,
        slice_axis=walk_axis(affine, prefer=0) if len(space) == 3 else 0,
        name=name,
        facts={
            **grid.facts,
            "datatype": grid.dtype.name,
            **geometry_facts(affine, len(space), grid.units, told=grid.tells_sides),
        },
        series=(SeriesAxis("volume"),) * len(series),
    )


def _lazy_voxels(grid: FileGrid, shape: tuple[int, ...], rest: int) -> Any:
    """Return voxels that are read when they are looked at.

    Parameters
    ----------
    grid : FileGrid
    shape : tuple of int
        Slowest axis first.
    rest : int
        Axes of a picture and its colours.
    """
    size, native = grid.dtype.itemsize, grid.dtype.newbyteorder("=")
    begin = check_stored(grid.data, math.prod(shape) * size, grid.offset)

    def read(places: tuple[slice, ...]) -> Array:
        first = (*(place.start for place in places), *[0] * rest)
        start = begin + int(np.ravel_multi_index(first, shape)) * size
        taken = tuple(place.stop - place.start for place in places)
        slab = read_slab(grid.data, grid.dtype, start, (*taken, *shape[-rest:]))
        return slab.astype(native, copy=False)

    return lazily(read, shape, native, whole=rest)


def _sorted_axes(grid: FileGrid) -> tuple[list[int], list[int], list[int]]:
    """Return the axes of a series, of space and of colour, each slowest first."""
    space = [axis for axis, role in enumerate(grid.roles) if role == "space"]
    series = [axis for axis, role in enumerate(grid.roles) if role == "other"]
    series = [axis for axis in [*series, *space[3:]] if grid.sizes[axis] > 1]
    colours = [axis for axis, role in enumerate(grid.roles) if role == "colour"]
    if len(space) < 2 or len(colours) > 1:
        msg = (
            f"{grid.path}: expected pictures or volumes in grey or colour, got sizes "
            f"{grid.sizes} of the kinds {', '.join(grid.roles)}; save one of them"
        )
        raise UnsupportedFormatError(msg)
    return sorted(series, reverse=True), space[:3][::-1], colours


def walk_axis(affine: Matrix, *, prefer: int = 2) -> int:
    """Return the axis of a volume that its slices were taken along.

    It is the one with clearly thick voxels, otherwise the one from foot to head, or
    `prefer` where several are.
    """
    spacing = np.maximum(np.linalg.norm(affine[:3, :3], axis=0), np.finfo(float).tiny)
    thickest = int(spacing.argmax())
    if spacing[thickest] > 1.5 * np.median(spacing):
        return thickest
    upward = np.abs(affine[2, :3]) / spacing
    best = np.flatnonzero(upward >= upward.max() - 1e-6)
    return prefer if prefer in best else int(best[0])


def geometry_facts(
    affine: Matrix, spatial: int, units: str, *, told: bool
) -> dict[str, Any]:
    """Return, ready for JSON, what an affine tells: spacing, and where axes point.

    ``orientation`` has a letter for each axis of the image: ``"RAS"`` if they point
    right, anterior and superior. It is ``"unknown"`` where the file has not told it and
    the affine follows a convention: that is no place to look for the patient's left.
    """
    from nibabel.orientations import aff2axcodes

    if units != "mm":
        return {}
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[:spatial]
    letters = aff2axcodes(affine)[:spatial]
    return {
        "spacing_mm": [float(f"{edge:.9g}") for edge in spacing],
        "orientation": "".join(letter or "?" for letter in letters)
        if told
        else "unknown",
    }


def is_lost(directions: Matrix, origin: Matrix) -> bool:
    """Whether a grid is what programs write where they know no geometry."""
    unit = np.array_equal(np.abs(directions), np.eye(*directions.shape))
    return bool(unit and not origin.any())


def corner_error(form: Matrix, affine: Matrix, shape: tuple[int, ...]) -> float:
    """Return how far, in mm, two affines put the corners of a grid apart."""
    corners = np.stack(
        [axis.ravel() for axis in np.meshgrid(*[[0, size - 1] for size in shape[:3]])]
    )
    homogeneous = np.zeros((4, corners.shape[1]))
    homogeneous[: corners.shape[0]] = corners
    homogeneous[3] = 1
    return float(np.linalg.norm((form - affine) @ homogeneous, axis=0).max())


def _kept_axes(grid: FileGrid) -> list[int]:
    """Return the axes of the one picture or volume that there is."""
    axes = range(len(grid.sizes))
    kept = [a for a in axes if grid.roles[a] == "space" or grid.sizes[a] > 1]
    space = [a for a in kept if grid.roles[a] == "space"]
    while len(space) > 3 and grid.sizes[space[-1]] == 1:
        kept.remove(space.pop())
    others = [grid.roles[a] for a in kept if a not in space]
    if len(space) not in (2, 3) or others not in ([], ["colour"]):
        msg = (
            f"{grid.path}: expected one picture or volume in grey or colour, got a "
            f"series of sizes {grid.sizes}; save one time point or channel of it"
        )
        raise UnsupportedFormatError(msg)
    return kept


def colour_role(size: int, dtype: np.dtype[Any]) -> str:
    """Return the role of an axis of values of a voxel: colours, or a series."""
    return "colour" if size in RGB_CHANNELS and dtype.kind == "u" else "other"


def _affine(directions: Matrix, origin: Matrix) -> Matrix:
    """Return voxel index to world; a picture's third axis is its normal."""
    affine = np.eye(4)
    affine[:3, : len(directions)] = directions.T
    if len(directions) == 2:
        normal = np.cross(directions[1], directions[0])
        length = np.linalg.norm(normal)
        affine[:3, 2] = normal / length if length > 0 else normal
    affine[:3, 3] = origin
    return affine
