"""Volumes of several channels, as four MR sequences: files, or one of four axes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.open import open_image
from napari_medvlseg.core.io.opened import slowest_first
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_medvlseg.core.io.opened import Opened

TOLERANCE = 1e-3
"""Of the numbers of two affines, in mm."""


def read_channels(paths: Sequence[Path]) -> Image:
    """Read a volume whose further channels are in `Image.channels`.

    Parameters
    ----------
    paths : sequence of Path
        A file for each channel, in order; or one file, whose fourth axis (MSD's) are
        the channels if it has one.

    Raises
    ------
    UnsupportedFormatError
        If a file cannot be read, or is no grey volume.
    GeometryError
        If the files are on different grids.
    """
    if len(paths) == 1 and not paths[0].is_dir():
        opened = open_image(paths[0])
        return _split(opened, paths[0]) if opened.series else read(paths[0])
    first, *others = (read(path) for path in paths)
    for path, image in zip(paths[1:], others, strict=True):
        same = image.voxels.shape == first.voxels.shape and np.allclose(
            image.affine, first.affine, atol=TOLERANCE
        )
        if not same:
            msg = (
                f"{path}: expected the grid of {paths[0].name} "
                f"({first.spatial_shape}), got another ({image.spatial_shape}); "
                "resample it to that of the first"
            )
            raise GeometryError(msg)
    return replace(first, channels=tuple(image.voxels for image in others))


def _split(opened: Opened, path: Path) -> Image:
    """Return the volumes along the only axis of a series as channels."""
    if len(opened.series) != 1 or opened.rgb or len(opened.spatial_shape) != 3:
        msg = (
            f"{path}: expected a grey volume with its channels along the fourth axis, "
            f"got shape {tuple(opened.voxels.shape)}; save a file a channel"
        )
        raise UnsupportedFormatError(msg)
    axes = (0, 3, 2, 1) if opened.is_turned else (0, 1, 2, 3)
    first, *others = np.ascontiguousarray(np.asarray(opened.voxels).transpose(axes))
    turned, walked = opened.is_turned, opened.slice_axis
    return Image(
        first,
        slowest_first(opened.affine, 3) if turned else opened.affine,
        units=opened.units,
        slice_axis=2 - walked if turned else walked,
        name=opened.name,
        facts=opened.facts,
        channels=tuple(others),
    )
