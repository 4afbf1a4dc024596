"""What a viewer opens: all volumes of a file, of which voxels may be read later."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Reader = Callable[[tuple[slice, ...]], Array]

LAZY_FROM_BYTES = 2**28
"""Voxels that take more are read when they are looked at, where that is possible."""
BLOCK_BYTES = 2**22
"""About as many are read at once: less would make the disk wait for the computer."""


@dataclass(frozen=True, slots=True)
class SeriesAxis:
    """What tells the volumes of a series apart.

    Parameters
    ----------
    name : str
        ``"time"``, ``"echo time"``, ``"volume"`` ...
    step : float
        From one to the next.
    unit : str
        Of the step: ``"s"``, ``"ms"`` or ``"us"``; empty where it is no time.
    """

    name: str
    step: float = 1.0
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Opened:
    """As `Image`, but one or more volumes, their slowest axis first, perhaps lazy.

    Parameters
    ----------
    voxels : array or dask array, (*series, [slice,] row, column[, 3 | 4])
        Native dtype and byte order.
    affine : (4, 4)
        Index along the spatial axes to RAS+, as `Image` has it.
    rgb : bool
        Whether the last axis of `voxels` is colour.
    units : str
        ``"mm"`` or ``"pixel"``, of the affine.
    slice_axis : int
        Spatial axis along which the slices were taken.
    name : str
        For the layer; holds no patient data.
    facts : mapping
        What the header tells, ready for JSON; nothing about the patient.
    series : tuple of SeriesAxis
        Of the axes before the spatial ones.
    is_film : bool
        Whether the first spatial axis counts frames in time.
    pixel_mm : 2 floats, optional
        Between the rows and columns of a film, whose affine is unknown.
    is_turned : bool
        Whether `read` gives the spatial axes in the opposite order.

    Raises
    ------
    ImageError, GeometryError
        As of `Image`.
    """

    voxels: Any
    affine: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    rgb: bool = False
    units: str = "pixel"
    slice_axis: int = 0
    name: str = "image"
    facts: Mapping[str, Any] = field(default_factory=dict)
    series: tuple[SeriesAxis, ...] = ()
    is_film: bool = False
    pixel_mm: tuple[float, ...] | None = None
    is_turned: bool = False

    def __post_init__(self) -> None:
        shape = tuple(self.voxels.shape)[len(self.series) :]
        Image(np.broadcast_to(np.uint8(0), shape), self.affine, self.rgb)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes."""
        shape = tuple(int(size) for size in self.voxels.shape)
        return shape[len(self.series) : len(shape) - int(self.rgb)]

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Edge lengths of a voxel along the spatial axes; None where unknown."""
        if self.units != "mm":
            return None
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(edge) for edge in edges[: len(self.spatial_shape)])


def lazily(
    read: Reader,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    whole: int,
    step: int | None = None,
) -> Any:
    """Return a dask array whose blocks are read when they are asked for.

    Parameters
    ----------
    read : callable
        Given a slice of each leading axis, of which all but the last hold one index,
        returns that block, with all its axes.
    shape : tuple of int
    dtype : dtype
    whole : int
        Trailing axes, of which a block has all: rows, columns and colours.
    step : int, optional
        Indices of the last leading axis in a block; as many as make `BLOCK_BYTES`.
    """
    import dask.array as da

    leading, rest = shape[:-whole], shape[-whole:]
    if step is None:
        step = max(1, BLOCK_BYTES // (math.prod(rest) * dtype.itemsize))
    full, left = divmod(leading[-1], step)
    chunks = (
        *((1,) * size for size in leading[:-1]),
        (step,) * full + (left,) * bool(left),
        *((size,) for size in rest),
    )

    def read_block(block_info: Any = None) -> Array:
        places = block_info[None]["array-location"][: len(leading)]
        return read(tuple(slice(start, stop) for start, stop in places))

    return da.map_blocks(
        read_block,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(shape), dtype),
        name=f"medvlseg-{uuid4().hex}",  # hashing the reader would cost and say nothing
    )


def is_large(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether voxels are too many to be read before they are looked at."""
    return math.prod(shape) * dtype.itemsize > LAZY_FROM_BYTES


def slowest_first(affine: npt.NDArray[np.float64], ndim: int) -> Array:
    """Return an affine (4, 4) for the spatial axes in the opposite order."""
    return affine[:, [*reversed(range(ndim)), *range(ndim, 4)]]
