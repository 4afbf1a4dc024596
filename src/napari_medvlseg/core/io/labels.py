"""Labelled volumes, voxel for voxel beside their image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.channels import TOLERANCE
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.types import Image

    Array = npt.NDArray[Any]

ROUNDING = 1e-3
"""Of labels that a header scales: so far they may be from whole numbers."""


def read_labels(path: Path, image: Image) -> Array:
    """Read the labels of a volume, in the order of its axes.

    Parameters
    ----------
    path : Path
    image : Image
        A volume. Labels whose axes are stored in another order, or run the other way,
        are turned to it; they are not resampled.

    Returns
    -------
    (I, J, K) integers, 0 and above

    Raises
    ------
    DatasetError
        If they are on another grid, or no whole numbers.
    UnsupportedFormatError
        If the file cannot be read.
    """
    label = read(path)
    turned = None
    if label.voxels.ndim == image.ndim == 3:
        turned = _turned(label, image)
    if turned is None:
        msg = (
            f"{path}: expected labels on the grid of their image (shape "
            f"{image.spatial_shape}), got another (shape {label.voxels.shape}) or "
            "another place in the patient; resample them to the image"
        )
        raise DatasetError(msg)
    return _whole(turned, path)


def _turned(label: Image, image: Image) -> Array | None:
    """Return labels in the order of the image's axes; None if that does not fit."""
    steps = np.linalg.solve(image.affine[:3, :3], label.affine[:3, :3])
    order = np.abs(steps).argmax(axis=1)
    if sorted(order) != [0, 1, 2]:
        return None
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for axis, old in enumerate(order):
        runs_back = steps[axis, old] < 0
        turn[old, axis] = -1 if runs_back else 1
        turn[old, 3] = label.voxels.shape[old] - 1 if runs_back else 0
    voxels = label.voxels.transpose(order)
    same_place = np.allclose(label.affine @ turn, image.affine, atol=TOLERANCE)
    if voxels.shape != image.spatial_shape or not same_place:
        return None
    return np.flip(voxels, tuple(a for a, old in enumerate(order) if turn[old, a] < 0))


def _whole(values: Array, path: Path) -> Array:
    """Return labels as whole numbers."""
    numbers = values
    if values.dtype.kind == "f":
        is_number = np.isfinite(values)
        numbers = np.where(is_number, values, -1).round().astype(np.int64)
        wrong = ~is_number | (np.abs(values - numbers) > ROUNDING)
    else:
        wrong = np.zeros(1, bool)
    if wrong.any() or numbers.min() < 0:
        odd = values[wrong][0] if wrong.any() else numbers.min()
        msg = (
            f"{path}: expected whole numbers from 0 on as labels, got {odd}; give a "
            "label map, with 0 as the background"
        )
        raise DatasetError(msg)
    return numbers
