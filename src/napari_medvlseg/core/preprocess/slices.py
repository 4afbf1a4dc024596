"""The pictures of an image: upright 2D slices, and the way back.

A 2D model was trained on pictures that stand as a radiologist sees them, so a slice
of a volume with a known orientation is turned upright first: superior (or anterior)
up, the patient's right (or anterior) on the left. Undoing it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.types import Image


@dataclass(frozen=True, slots=True)
class Turn:
    """Exchange of the two axes of a slice, then flips."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn (H, W, ...) upright."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        return picture[self._flips()]

    def undo(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn an upright (H, W, ...) back."""
        picture = picture[self._flips()]
        return picture.swapaxes(0, 1) if self.transpose else picture

    def _flips(self) -> tuple[slice, slice]:
        """Return the index that flips."""
        backwards = slice(None, None, -1)
        rows = backwards if self.flip_rows else slice(None)
        return rows, (backwards if self.flip_columns else slice(None))


@dataclass(frozen=True, slots=True)
class Slices:
    """Which pictures of an image are segmented.

    Parameters
    ----------
    axis : int or None
        None where the image is one picture.
    indices : sequence of int
        Along `axis`.
    turn : Turn
    """

    axis: int | None
    indices: range
    turn: Turn

    def picture(self, voxels: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Return one upright picture, (H, W) or (H, W, colours)."""
        cut = voxels if self.axis is None else np.take(voxels, index, axis=self.axis)
        return self.turn.apply(np.asarray(cut))

    def picture_shape(self, spatial_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the height and width of an upright picture."""
        rows, columns = (s for a, s in enumerate(spatial_shape) if a != self.axis)
        return (columns, rows) if self.turn.transpose else (rows, columns)

    def window(self, index: int) -> tuple[slice | int, ...]:
        """Return the index of a picture within an array of the spatial shape."""
        if self.axis is None:
            return (slice(None), slice(None))
        window: list[slice | int] = [slice(None)] * 3
        window[self.axis] = index
        return tuple(window)


def picture_spacing(image: Image, slices: Slices) -> tuple[float, float] | None:
    """Return the height and width in mm of a pixel of an upright picture, if known."""
    spacing = image.spacing_mm
    if spacing is None:
        return None
    first, second = (spacing[a] for a in range(image.ndim) if a != slices.axis)
    return (second, first) if slices.turn.transpose else (first, second)


def choose_slices(image: Image, axis: int | None, index: int | None) -> Slices:
    """Return the pictures that a run is about.

    Parameters
    ----------
    image : Image
    axis : int, optional
        To walk along; by default the image's own `slice_axis`. Negative ones count
        from the last spatial axis.
    index : int, optional
        Of the only slice wanted; by default all.

    Raises
    ------
    ImageError
        If the image has no such axis or slice.
    """
    if image.ndim == 2:
        if index not in (None, 0):
            msg = f"expected slice 0 of a single picture, got slice {index}"
            raise ImageError(msg)
        return Slices(None, range(1), _turn(image, (0, 1)))
    walk = image.slice_axis if axis is None else axis
    if not -3 <= walk < 3:
        msg = f"expected an axis from 0 to 2, got {walk}"
        raise ImageError(msg)
    walk %= 3
    count = image.spatial_shape[walk]
    if index is not None and not 0 <= index < count:
        msg = f"expected a slice from 0 to {count - 1} along axis {walk}, got {index}"
        raise ImageError(msg)
    indices = range(count) if index is None else range(index, index + 1)
    rest = [a for a in range(3) if a != walk]
    return Slices(walk, indices, _turn(image, (rest[0], rest[1])))


def _turn(image: Image, axes: tuple[int, int]) -> Turn:
    """Return how a slice along two voxel axes is turned upright.

    Where no place is known the voxels stand as they are, unless the affine says how
    they stand on a screen.
    """
    if image.units != "mm" and not image.facts.get("on_screen"):
        return Turn()
    world = world_axes(image.affine)
    first, second = world[axes[0]], world[axes[1]]
    transpose = first[0] < second[0]
    rows, columns = (second, first) if transpose else (first, second)
    return Turn(transpose, flip_rows=rows[1] > 0, flip_columns=columns[1] > 0)


def world_axes(affine: npt.NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return for each voxel axis its nearest world axis and the sign along it.

    No two voxel axes get the same world axis, however oblique they are.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    strength = np.abs(directions)
    nearest: dict[int, int] = {}
    for flat in np.argsort(-strength, axis=None, kind="stable"):
        world, voxel = divmod(int(flat), 3)
        if voxel not in nearest and world not in nearest.values():
            nearest[voxel] = world
    return [
        (nearest[voxel], float(np.sign(directions[nearest[voxel], voxel])))
        for voxel in range(3)
    ]
