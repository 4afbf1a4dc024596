"""To a model's spacing or size and order of axes, and back to the image's own grid.

Both grids fill the same box, corner on corner: a whole number of voxels, whose size is
the model's spacing up to what rounding leaves. Axes stay as oblique as the image's.
Order and flips are exact; along each axis voxels are interpolated by torch, which
averages where it shrinks, or taken from the voxel that they lie in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.errors import GeometryError
from napari_medvlseg.core.preprocess.slices import (
    Slices,
    picture_spacing,
    world_axes,
)
from napari_medvlseg.core.volume_spec import SIDES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.types import Image
    from napari_medvlseg.core.volume_spec import VolumeSpec

    Shape = tuple[int, ...]

MOST_VOXELS_A_SIDE = 8192


@dataclass(frozen=True, slots=True, eq=False)
class ModelGrid:
    """A grid in an order of its own, such as RAS, that fills a volume's own box.

    Parameters
    ----------
    axes : three ints
        The native axis that runs most along each axis of this grid, for RAS to the
        right, to the front and up.
    flips : three bools
        Whether it runs the other way, in the order of `axes`.
    native_shape, shape : three ints
        Voxels of the volume, and of this grid.
    affine : (4, 4)
        Voxel of this grid to world.
    smooths : bool
        Whether what comes here is averaged where this grid is coarser.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    native_shape: Shape
    shape: Shape
    affine: npt.NDArray[np.float64]
    smooths: bool = True

    @classmethod
    def of(cls, image: Image, spacing_mm: Sequence[float] | None) -> ModelGrid:
        """Return the RAS grid of a volume at a spacing along R, A and S.

        Parameters
        ----------
        image : Image
        spacing_mm : three floats, optional
            Without it, or where it is 0, voxels keep their length.
        """
        axes, flips = _turned(image, "RAS")
        native = image.spatial_shape
        edges = np.linalg.norm(image.affine[:3, :3], axis=0)
        shape = [
            resampled_size(native[axis], float(edges[axis]), wanted or edges[axis])
            for axis, wanted in zip(axes, spacing_mm or (0, 0, 0), strict=True)
        ]
        return cls._filling(image, axes, flips, shape)

    @classmethod
    def for_spec(cls, image: Image, spec: VolumeSpec) -> ModelGrid:
        """Return the grid on which a 3D model takes a volume.

        Where the volume is resized as a whole nothing is averaged, as in training.
        """
        axes, flips = _turned(image, spec.orientation)
        if spec.resized:
            whole = cls._filling(image, axes, flips, spec.patch)
            return replace(whole, smooths=False)
        spacing = spec.spacing_mm if image.units == "mm" else None
        upright = cls.of(image, spacing)
        shape = [upright.shape[upright.axes.index(axis)] for axis in axes]
        return cls._filling(image, axes, flips, shape)

    @classmethod
    def _filling(
        cls,
        image: Image,
        axes: Sequence[int],
        flips: Sequence[bool],
        shape: Sequence[int],
    ) -> ModelGrid:
        """Return the grid of a shape that fills a volume's box, corner on corner."""
        native = image.spatial_shape
        to_native = np.zeros((4, 4))
        to_native[3, 3] = 1
        for w, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
            step = native[axis] / shape[w]
            to_native[axis, w] = -step if flip else step
            first = (step - 1) / 2  # voxel 0 is centred half a voxel from the corner
            to_native[axis, 3] = native[axis] - 1 - first if flip else first
        return cls(
            axes=(axes[0], axes[1], axes[2]),
            flips=(flips[0], flips[1], flips[2]),
            native_shape=native,
            shape=tuple(shape),
            affine=image.affine @ to_native,
        )

    def to_model(
        self, values: npt.NDArray[Any], *, nearest: bool = False
    ) -> npt.NDArray[Any]:
        """Bring native values (I, J, K) here, for RAS (R, A, S).

        Parameters
        ----------
        values : (I, J, K)
        nearest : bool
            For labels, whose dtype is kept; without, the values become float32.
        """
        turned = self._flip(values.transpose(self.axes))
        return _resize(turned, self.shape, nearest=nearest, smooths=self.smooths)

    def to_native(
        self, values: npt.NDArray[Any], *, nearest: bool = False
    ) -> npt.NDArray[Any]:
        """Bring values of this grid, for RAS (R, A, S), back, (I, J, K)."""
        shape = tuple(self.native_shape[axis] for axis in self.axes)
        resized = self._flip(_resize(values, shape, nearest=nearest))
        return resized.transpose([self.model_axis(axis) for axis in range(3)])

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Edges of a voxel along this grid's axes."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(edge) for edge in edges)

    def model_axis(self, native_axis: int) -> int:
        """Return the axis of this grid that a native axis becomes."""
        return self.axes.index(native_axis)

    def _flip(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn the axes round that run the other way."""
        return np.flip(values, tuple(w for w, flip in enumerate(self.flips) if flip))


def _turned(image: Image, orientation: str) -> tuple[list[int], list[bool]]:
    """Return the native axis along each letter, and whether it runs the other way."""
    world = world_axes(image.affine)
    axes, flips = [], []
    for letter in orientation:
        number = next(n for n, pair in enumerate(SIDES) if letter in pair)
        axis = next(v for v in range(3) if world[v][0] == number)
        runs_up = world[axis][1] > 0
        axes.append(axis)
        flips.append(runs_up != (letter == SIDES[number][0]))
    return axes, flips


def resampled_size(size: int, edge_mm: float, wanted_mm: float) -> int:
    """Return how many voxels of about a wanted length fill the same stretch.

    Raises
    ------
    GeometryError
        If there would be too many, as where a header tells metres.
    """
    wanted = round(size * edge_mm / wanted_mm)
    if wanted > MOST_VOXELS_A_SIDE:
        msg = (
            f"expected at most {MOST_VOXELS_A_SIDE} voxels a side at the model's "
            f"{wanted_mm:g} mm, got {wanted}; check the image's spacing "
            f"({edge_mm:g} mm)"
        )
        raise GeometryError(msg)
    return max(1, wanted)


def picture_size(
    image: Image, slices: Slices, spacing_mm: Sequence[float] | None
) -> tuple[int, int]:
    """Return the height and width of an upright picture at a model's spacing.

    Parameters
    ----------
    image : Image
    slices : Slices
    spacing_mm : two or three floats, optional
        Rows and columns of an upright picture, or R, A and S. Without it, or where the
        image does not tell its spacing, a picture keeps its size.
    """
    height, width = slices.picture_shape(image.spatial_shape)
    known = picture_spacing(image, slices)
    if spacing_mm is None or known is None:
        return height, width
    wanted = list(spacing_mm)
    if len(wanted) == 3:
        world = [w for w, _ in world_axes(image.affine)]
        rows, columns = (world[a] for a in range(image.ndim) if a != slices.axis)
        wanted = [spacing_mm[rows], spacing_mm[columns]]
        wanted = wanted[::-1] if slices.turn.transpose else wanted
    return (
        resampled_size(height, known[0], wanted[0]),
        resampled_size(width, known[1], wanted[1]),
    )


def on_grid(image: Image, grid: ModelGrid, limits: tuple[float, float]) -> Image:
    """Return a volume resampled to a model's grid, float32.

    Parameters
    ----------
    image : Image
        A volume in mm.
    grid : ModelGrid
    limits : (black, white)
        What takes the place of -infinity and NaN, and of infinity, which would spread.
    """
    black, white = limits
    voxels = image.voxels
    if voxels.dtype.kind == "f":
        voxels = np.nan_to_num(voxels, nan=black, posinf=white, neginf=black)
    channels = np.moveaxis(voxels, -1, 0) if image.rgb else voxels[None]
    resampled = [grid.to_model(channel) for channel in channels]
    return replace(
        image,
        voxels=np.stack(resampled, axis=-1) if image.rgb else resampled[0],
        affine=grid.affine,
        slice_axis=grid.model_axis(image.slice_axis),
    )


def _resize(
    values: npt.NDArray[Any], shape: Shape, *, nearest: bool, smooths: bool = True
) -> npt.NDArray[Any]:
    """Resize (I, J, K) axis by axis, corner on corner."""
    if not nearest:
        values = values.astype(np.float32, copy=False)
    for axis, size in enumerate(shape):
        old = values.shape[axis]
        if size == old:
            continue
        if nearest:
            # The voxel that each centre lies in, in whole numbers: no rounding errors.
            values = values.take((2 * np.arange(size) + 1) * old // (2 * size), axis)
        else:
            values = _interpolate(values, axis, size, smooths=smooths)
    return values


def _interpolate(
    values: npt.NDArray[np.float32], axis: int, size: int, *, smooths: bool
) -> npt.NDArray[np.float32]:
    """Resize one axis linearly, where it smooths averaging what shrinks."""
    moved = np.moveaxis(values, axis, -1)
    writable = np.require(moved, requirements=["C", "W"])  # else torch warns
    rows = torch.from_numpy(writable.reshape(1, 1, -1, moved.shape[-1]))
    resized = functional.interpolate(
        rows, (rows.shape[2], size), mode="bilinear", antialias=smooths
    )
    shaped: npt.NDArray[np.float32] = resized.numpy().reshape(*moved.shape[:-1], size)
    return np.moveaxis(shaped, -1, axis)
