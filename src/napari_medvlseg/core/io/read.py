"""A path to an image: the suffix, or how the file begins, chooses the reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom import read_dicom
from napari_medvlseg.core.io.dicom_files import (
    DICOM_SUFFIXES,
    dicom_paths,
    has_dicom_suffix,
    is_dicom,
)
from napari_medvlseg.core.io.metaimage import METAIMAGE
from napari_medvlseg.core.io.nifti import NIFTI
from napari_medvlseg.core.io.nrrd import NRRD
from napari_medvlseg.core.io.raster import RASTER

if TYPE_CHECKING:
    from napari_medvlseg.core.types import Image

BY_NAME = (RASTER, NIFTI, NRRD, METAIMAGE)
"""The formats that a file's name tells."""
READABLE_SUFFIXES = (
    *(end for kind in BY_NAME for end in kind.suffixes),
    *DICOM_SUFFIXES,
)
"""Of the files that are read by their name; DICOM files may have any other, or none."""


def read(path: str | Path, *, series: str | None = None) -> Image:
    """Read one picture, stack or volume with its own dtype, grid and geometry.

    Parameters
    ----------
    path : str or Path
        A PNG, JPEG, BMP, TIFF, NIfTI, DICOM, NRRD or MetaImage file, or a folder with
        a DICOM series.
    series : str, optional
        Which series of a folder with several: its number or its UID.

    Raises
    ------
    UnsupportedFormatError
        If there is no such file, or it is damaged or of another kind.
    GeometryError
        If slices of a DICOM series are missing or their places contradict each other.
    """
    path = Path(path).expanduser()
    check_readable(path)
    if path.is_dir() or is_dicom_file(path):
        return read_dicom(path, series)
    return next(kind for kind in BY_NAME if kind.has_name_of(path)).read(
        path, stem_of(path)
    )


def check_readable(path: Path) -> None:
    """Raise `UnsupportedFormatError` if there is no image, or one of another kind."""
    if path.is_dir():
        if next(dicom_paths(path), None) is not None:
            return
        what = "a folder without DICOM files"
    elif path.is_file():
        if is_readable(path):
            return
        msg = (
            f"{path}: expected one of {', '.join(READABLE_SUFFIXES)}; "
            "convert the image to one of them"
        )
        raise UnsupportedFormatError(msg)
    else:
        what = "nothing"
    msg = f"{path}: expected an image file, found {what}; check the path"
    raise UnsupportedFormatError(msg)


def is_readable(path: Path) -> bool:
    """Whether a file has the name of an image that can be read, or is DICOM."""
    return _has_image_suffix(path) or is_dicom_file(path)


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return NIFTI.has_name_of(path)


def is_itk(path: Path) -> bool:
    """Whether the name is that of an NRRD or MetaImage file."""
    return NRRD.has_name_of(path) or METAIMAGE.has_name_of(path)


def stem_of(path: Path) -> str:
    """Return a name without its suffix: of a folder, or of a UID, there is none."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")]
    is_suffix = path.suffix[1:2].isalpha() and not path.is_dir()
    return path.stem if is_suffix else name


def is_dicom_file(path: Path) -> bool:
    """Whether a file is to be read as DICOM: by its name, else by how it begins."""
    return has_dicom_suffix(path) or (not _has_image_suffix(path) and is_dicom(path))


def _has_image_suffix(path: Path) -> bool:
    """Whether the name is that of an image that can be read."""
    return path.name.lower().endswith(READABLE_SUFFIXES)
