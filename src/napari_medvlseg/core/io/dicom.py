"""DICOM files and series to an image: decoded, placed, and told without the patient."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.dicom_facts import header_facts, name_of
from napari_medvlseg.core.io.dicom_files import damage_told
from napari_medvlseg.core.io.dicom_frames import frames_of
from napari_medvlseg.core.io.dicom_layout import Layout, flaws_told, layout_of
from napari_medvlseg.core.io.dicom_pixels import (
    COLOUR,
    check_decodable,
    fixed_dtype,
    photometric,
    voxels_of,
)
from napari_medvlseg.core.io.dicom_series import series_files
from napari_medvlseg.core.io.dicom_volumes import split_volumes
from napari_medvlseg.core.io.opened import Opened, is_large, lazily, slowest_first
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.io.dicom_files import DicomFile
    from napari_medvlseg.core.io.dicom_frames import Frame

_logger = logging.getLogger(__name__)
_DECODING = threading.Lock()
"""Silencing pydicom changes filters of warnings, which belong to the whole process."""


def read_dicom(path: str | Path, series_uid: str | None = None) -> Image:
    """Read a DICOM file, or a series that lies right inside a folder.

    A series with positions is a volume with the axes (column, row, slice), as NIfTI
    has them, its slices sorted along their normal; `slice_axis` is 2. Frames without
    positions are a film with the axes (frame, row, column), `slice_axis` 0, and a
    single frame is a picture (row, column).

    Parameters
    ----------
    path : str or Path
        A file or a folder.
    series_uid : str, optional
        Of the series meant, where a folder holds several; its number does as well.

    Raises
    ------
    UnsupportedFormatError
        If it is damaged, of an unknown kind, or there are several series, or several
        slices in one place, to choose from.
    GeometryError
        If slices are missing, or what is told about their place contradicts itself.
    """
    path = Path(path).expanduser()
    files = series_files(path, series_uid)
    with damage_told(files[0].path):
        check_decodable(files[0].header, files[0].path)
    layout = _layout_of(path, frames_of(files))
    _tell_flaws(path, layout)
    voxels, rgb = voxels_of(layout.frames)
    if layout.kind == "picture":
        voxels = voxels[0]
    elif layout.kind == "volume":
        voxels = voxels.transpose(2, 1, 0, *([3] * rgb))
    with damage_told(files[0].path):
        name, facts = name_of(files[0].header), _facts(layout)
    return Image(
        voxels,
        layout.affine,
        rgb=rgb,
        units=layout.units,
        slice_axis=layout.slice_axis,
        name=name,
        facts=facts,
    )


def open_dicom(path: Path, files: Sequence[DicomFile]) -> Opened:
    """Open the files of one series: a picture, a film, or one or more volumes.

    Volumes are (*series, slice, row, column). Where they are large, a frame is decoded
    when it is looked at.

    Parameters
    ----------
    path : Path
        What the user named, for messages.
    files : sequence of DicomFile
        Of one series, at least one.

    Raises
    ------
    UnsupportedFormatError, GeometryError
        As `read_dicom` does, but not for several volumes that can be told apart.
    """
    with damage_told(files[0].path):
        check_decodable(files[0].header, files[0].path)
        frames = frames_of(files)
        split = split_volumes(frames)
    volumes, axes = ([frames], ()) if split is None else (split[0], split[1:])
    layouts = [_layout_of(path, volume) for volume in volumes]
    layout = layouts[0]
    _tell_flaws(path, layout)
    if any(not np.allclose(layout.affine, other.affine) for other in layouts):
        msg = (
            f"{path}: expected volumes in one place, got {len(layouts)} apart; "
            "put the files of one volume into a folder of their own"
        )
        raise GeometryError(msg)
    shape = (*[len(layouts)] * len(axes), *[len(layout.frames)] * (len(frames) > 1))
    voxels = _opened_voxels([f for one in layouts for f in one.frames], shape)
    with damage_told(files[0].path):
        name, facts = name_of(files[0].header), _facts(layout)
    is_volume = layout.kind == "volume"
    return Opened(
        voxels=voxels,
        affine=slowest_first(layout.affine, 3) if is_volume else layout.affine,
        rgb=photometric(files[0].header) in COLOUR,
        units=layout.units,
        name=name,
        facts=facts,
        series=tuple(axes),
        is_film=layout.kind == "film",
        pixel_mm=layout.spacing_mm if layout.kind == "film" else None,
        is_turned=is_volume,
    )


def _opened_voxels(frames: Sequence[Frame], leading: tuple[int, ...]) -> Any:
    """Decode frames now, or later where they are large.

    Parameters
    ----------
    frames : K frames, in order
    leading : tuple of int
        Sizes of the axes before row and column, K together.
    """
    shape, dtype = fixed_dtype(frames) if leading else ((), np.dtype(np.uint8))
    if not is_large((len(frames), *shape), dtype):
        voxels = voxels_of(frames)[0]
        return voxels.reshape(*leading, *voxels.shape[1:])

    def read(places: tuple[slice, ...]) -> Any:
        first = int(np.ravel_multi_index([place.start for place in places], leading))
        with _DECODING:
            values = voxels_of(frames[first : first + 1])[0].astype(dtype, copy=False)
        return values.reshape(*[1] * len(leading), *shape)

    return lazily(read, (*leading, *shape), dtype, whole=len(shape), step=1)


def _layout_of(path: Path, frames: list[Frame]) -> Layout:
    """Find out what frames make together; name the path where they make nothing."""
    try:
        with damage_told(path), np.errstate(all="ignore"):
            layout = layout_of(frames)
    except (GeometryError, UnsupportedFormatError) as error:
        text = str(error)
        told = text if str(path) in text else f"{path}: {text}"
        raise type(error)(told) from error
    return layout


def _tell_flaws(path: Path, layout: Layout) -> None:
    """Log what a user of the slices should know of them."""
    for flaw in flaws_told(layout.facts):
        _logger.warning("%s: %s", path, flaw)


def _facts(layout: Layout) -> dict[str, Any]:
    """Return what the header tells, and what was found out about the place."""
    facts = {**header_facts(layout.frames[0]), **layout.facts}
    if layout.kind != "picture":
        facts["frames" if layout.kind == "film" else "slices"] = len(layout.frames)
    if layout.spacing_mm is not None:
        facts["spacing_mm"] = [round(edge, 6) for edge in layout.spacing_mm]
    return facts
