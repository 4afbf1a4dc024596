"""The series of a folder: which there are, and the files of the one that is meant."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.dicom_facts import cleaned, modality, series_number
from napari_medvlseg.core.io.dicom_files import damage_told, picture_files, read_file
from napari_medvlseg.core.io.dicom_frames import frames_of
from napari_medvlseg.core.io.dicom_layout import layout_of
from napari_medvlseg.core.io.dicom_volumes import split_volumes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_medvlseg.core.io.dicom_files import DicomFile

_MAX_LISTED = 12
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a folder, before its pixels are read.

    Parameters
    ----------
    uid : str
        Its SeriesInstanceUID: to choose it by, not to publish.
    number : int or None
    modality : str
        DICOM's code, ``"CT"``.
    description : str
        Without words that may identify the patient.
    shape : tuple of int
        Of the image that it makes: (column, row, slice) of a volume, (column, row,
        slice, volume) of several, (frame, row, column) of a film, (row, column) of a
        picture; (file, row, column) where the files make no image together.
    spacing_mm : tuple of float or None
        Of the axes, without the frames of a film; None where it is unknown.
    paths : tuple of Path
    is_stacked : bool
        Whether the files are slices that belong together.
    makes_image : bool
        False of files that are no image together, as scouts of several directions.
    """

    uid: str
    number: int | None
    modality: str
    description: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    paths: tuple[Path, ...]
    is_stacked: bool
    makes_image: bool = True

    @property
    def count(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __str__(self) -> str:
        """Return a line for a list to choose from."""
        number = "without a number" if self.number is None else self.number
        told = f' "{self.description}"' if self.description else ""
        size = " x ".join(str(size) for size in self.shape)
        return f"{self.modality} series {number}{told} ({self.count} files, {size})"


def list_series(folder: Path) -> list[Series]:
    """Return the series right inside a folder, by number.

    Files that are not DICOM or hold no picture are passed over.
    """
    return series_among(picture_files(folder))


def series_among(files: Sequence[DicomFile]) -> list[Series]:
    """Return the series that some files belong to, by number."""
    series = [_describe(group) for group in _by_series(files).values()]
    return sorted(
        series, key=lambda one: (one.number is None, one.number or 0, one.uid)
    )


def series_files(path: Path, series: str | None) -> list[DicomFile]:
    """Return the files of a path: itself, or those of a folder's only or chosen series.

    Parameters
    ----------
    path : Path
        A file or a folder.
    series : str, optional
        The UID of a series, or its number where no other has it.

    Raises
    ------
    UnsupportedFormatError
        If there is none, or several to choose from.
    """
    if not path.is_dir():
        return [read_file(path)]
    groups = _by_series(picture_files(path))
    if not groups:
        msg = (
            f"{path}: expected DICOM images in this folder, found none; check the path"
        )
        raise UnsupportedFormatError(msg)
    meant = [
        files
        for uid, files in groups.items()
        if series is None or series in (uid, str(series_number(files[0].header)))
    ]
    if len(meant) != 1:
        raise UnsupportedFormatError(_choose(path, series, list(groups.values())))
    return meant[0]


def _by_series(files: Sequence[DicomFile]) -> dict[str, list[DicomFile]]:
    """Return files by the UID of their series."""
    groups: dict[str, list[DicomFile]] = {}
    for file in files:
        uid = str(file.header.get("SeriesInstanceUID") or "")
        groups.setdefault(uid, []).append(file)
    return groups


def _describe(files: Sequence[DicomFile]) -> Series:
    """Return what is told of one series; a damaged one is told when it is opened."""
    header = files[0].header
    told: dict[str, Any] = {}
    try:
        told = _image_of(files)
    except UnsupportedFormatError as error:  # it must not hide the other series
        _logger.warning("%s", error)
    return Series(
        uid=str(header.get("SeriesInstanceUID") or ""),
        number=series_number(header),
        modality=modality(header),
        paths=tuple(file.path for file in files),
        **{
            "description": "",
            "shape": (len(files), int(header.Rows), int(header.Columns)),
            "spacing_mm": None,
            "is_stacked": len(files) > 1,
            **told,
        },
    )


def _image_of(files: Sequence[DicomFile]) -> dict[str, Any]:
    """Return what is told of the image that the files of a series make, if they do.

    Raises
    ------
    UnsupportedFormatError
        If a header is damaged.
    """
    header = files[0].header
    with damage_told(files[0].path):
        told: dict[str, Any] = {
            "description": cleaned(header.get("SeriesDescription"), header)
        }
        frames = frames_of(files)
    is_placed = all(frame.is_placed for frame in frames)
    told["is_stacked"] = len(files) > 1 and is_placed
    try:
        with damage_told(files[0].path):
            split = split_volumes(frames)
            layout = layout_of(frames if split is None else split[0][0])
        several = () if split is None else (len(split[0]),)
        told |= {"shape": (*layout.shape, *several), "spacing_mm": layout.spacing_mm}
    except GeometryError:
        pass  # slices are missing, which is told when it is opened
    except UnsupportedFormatError:
        told["makes_image"] = False
    return told


def _choose(
    folder: Path, wanted: str | None, groups: Sequence[Sequence[DicomFile]]
) -> str:
    """Say which series there are and how to choose one."""
    series = [_describe(files) for files in groups]
    numbers = [one.number for one in series]
    listed = [
        str(one) if numbers.count(one.number) == 1 else f"{one}, UID {one.uid}"
        for one in series[:_MAX_LISTED]
    ]
    more = ["..."] if len(series) > _MAX_LISTED else []
    asked = "one series" if wanted is None else f"one series {wanted}"
    return (
        f"{folder}: expected {asked}, found {len(series)}: "
        f"{'; '.join([*listed, *more])}: choose one by its number (or UID), with "
        "--series in the shell or read(path, series=...) in Python"
    )
