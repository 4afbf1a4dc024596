"""A path to an image: the suffix chooses the reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.nifti import NIFTI_SUFFIXES, read_nifti
from napari_medvlseg.core.io.raster import RASTER_SUFFIXES, read_raster

if TYPE_CHECKING:
    from napari_medvlseg.core.types import Image

READABLE_SUFFIXES = (*RASTER_SUFFIXES, *NIFTI_SUFFIXES)


def read(path: str | Path) -> Image:
    """Read one picture, stack or volume with its own dtype, grid and geometry.

    Parameters
    ----------
    path : str or Path
        A PNG, JPEG, BMP, TIFF or NIfTI file.

    Raises
    ------
    UnsupportedFormatError
        If there is no such file, or it is damaged or of another kind.
    """
    path = Path(path).expanduser()
    check_readable(path)
    reader = read_nifti if is_nifti(path) else read_raster
    return reader(path, stem_of(path))


def check_readable(path: Path) -> None:
    """Raise `UnsupportedFormatError` if there is no file, or one of another kind."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        msg = f"{path}: expected an image file, found {what}; check the path"
        raise UnsupportedFormatError(msg)
    if not is_readable(path):
        msg = (
            f"{path}: expected one of {', '.join(READABLE_SUFFIXES)}; "
            "convert the image to one of them"
        )
        raise UnsupportedFormatError(msg)


def is_readable(path: Path) -> bool:
    """Whether the name is that of an image that can be read."""
    return path.name.lower().endswith(READABLE_SUFFIXES)


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def stem_of(path: Path) -> str:
    """Return a file name without its suffix, ``.nii.gz`` being one."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")]
    return path.stem
