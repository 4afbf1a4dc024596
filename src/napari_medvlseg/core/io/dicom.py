"""DICOM files and series to an image: decoded, placed, and told without the patient."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.dicom_facts import header_facts, name_of
from napari_medvlseg.core.io.dicom_files import damage_told
from napari_medvlseg.core.io.dicom_frames import frames_of
from napari_medvlseg.core.io.dicom_layout import Layout, layout_of
from napari_medvlseg.core.io.dicom_pixels import check_decodable, voxels_of
from napari_medvlseg.core.io.dicom_series import series_files
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from napari_medvlseg.core.io.dicom_files import DicomFile

_logger = logging.getLogger(__name__)


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
    layout = _layout(path, files)
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


def _layout(path: Path, files: list[DicomFile]) -> Layout:
    """Find out what files make together; name the path where they make nothing."""
    frames = frames_of(files)
    try:
        with damage_told(path), np.errstate(all="ignore"):
            layout = layout_of(frames)
    except (GeometryError, UnsupportedFormatError) as error:
        text = str(error)
        told = text if str(path) in text else f"{path}: {text}"
        raise type(error)(told) from error
    uneven = layout.facts.get("uneven_spacing_mm")
    if uneven is not None:
        _logger.warning(
            "%s: slices lie up to %s mm off an even grid; the mean spacing is used",
            path,
            uneven,
        )
    return layout


def _facts(layout: Layout) -> dict[str, Any]:
    """Return what the header tells, and what was found out about the place."""
    facts = {**header_facts(layout.frames[0]), **layout.facts}
    if layout.kind != "picture":
        facts["frames" if layout.kind == "film" else "slices"] = len(layout.frames)
    if layout.spacing_mm is not None:
        facts["spacing_mm"] = [round(edge, 6) for edge in layout.spacing_mm]
    return facts
