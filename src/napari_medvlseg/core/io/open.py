"""A path to what a viewer shows: all volumes, several series, large files unread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom import open_dicom
from napari_medvlseg.core.io.dicom_files import (
    dicom_folders,
    has_dicom_suffix,
    picture_files,
    read_file,
)
from napari_medvlseg.core.io.dicom_series import series_among
from napari_medvlseg.core.io.raster import RASTER
from napari_medvlseg.core.io.read import (
    BY_NAME,
    check_readable,
    is_dicom_file,
    stem_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.io.dicom_series import Series
    from napari_medvlseg.core.io.opened import Opened


def open_image(path: str | Path) -> Opened:
    """Open one file with all its volumes, its dtype and its geometry.

    Parameters
    ----------
    path : str or Path
        As `read` takes it, but no folder: `find_series` tells what is in one.

    Raises
    ------
    UnsupportedFormatError
        If there is no such file, or it is damaged or of another kind.
    GeometryError
        If slices are missing, or what is told about their place contradicts itself.
    """
    path = Path(path).expanduser()
    check_readable(path)
    if is_dicom_file(path):
        return open_dicom(path, [read_file(path)])
    return next(kind for kind in BY_NAME if kind.has_name_of(path)).open(
        path, stem_of(path)
    )


def find_series(paths: Sequence[Path]) -> list[Series]:
    """Return the DICOM series of a folder and the folders in it, or of some files.

    Parameters
    ----------
    paths : sequence of Path
        One folder, or DICOM files.

    Raises
    ------
    UnsupportedFormatError
        If there is none, or a file that was named is damaged.
    """
    if len(paths) == 1 and paths[0].is_dir():
        folders = dicom_folders(paths[0])
        found = [one for place in folders for one in series_among(picture_files(place))]
    else:
        found = series_among([read_file(path) for path in paths])
    if not found:
        msg = f"{paths[0]}: expected DICOM images, found none; check the path"
        raise UnsupportedFormatError(msg)
    return found


def open_series(series: Series) -> Opened:
    """Open one series that `find_series` found.

    Raises
    ------
    UnsupportedFormatError, GeometryError
        As `open_image` does.
    """
    first = series.paths[0]
    told = first if series.count == 1 else first.parent
    return open_dicom(told, [read_file(path) for path in series.paths])


def open_stack(paths: Sequence[Path]) -> Opened:
    """Open pictures of one size as the slices of a stack, in the order given.

    Parameters
    ----------
    paths : sequence of Path
        Of PNG, JPEG, BMP or TIFF files, at least one.

    Raises
    ------
    UnsupportedFormatError
        If they differ in size or kind, or one is no picture.
    """
    pictures = [open_image(path) for path in paths]
    first = pictures[0]
    for path, one in zip(paths, pictures, strict=True):
        same = one.voxels.shape == first.voxels.shape
        if not same or one.voxels.dtype != first.voxels.dtype or one.rgb != first.rgb:
            msg = (
                f"{path}: expected pictures of one size and kind to stack, got "
                f"{one.voxels.dtype} of shape {one.voxels.shape} after "
                f"{first.voxels.dtype} of shape {first.voxels.shape}; open them apart"
            )
            raise UnsupportedFormatError(msg)
    if len(first.spatial_shape) != 2:
        msg = f"{paths[0]}: expected pictures to stack, got a stack; open it alone"
        raise UnsupportedFormatError(msg)
    return replace(first, voxels=np.stack([one.voxels for one in pictures]))


def is_stackable(path: Path) -> bool:
    """Whether the name is that of a picture that `open_stack` takes."""
    return RASTER.has_name_of(path)


def holds_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, or a folder with one in it or below."""
    if path.is_dir():
        return bool(dicom_folders(path))
    return has_dicom_suffix(path) or is_dicom_file(path)
