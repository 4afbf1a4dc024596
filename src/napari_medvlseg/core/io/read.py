"""A path to an image: the suffix chooses the reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.metaimage import METAIMAGE_SUFFIXES, read_metaimage
from napari_medvlseg.core.io.nifti import NIFTI_SUFFIXES, read_nifti
from napari_medvlseg.core.io.nrrd import NRRD_SUFFIXES, read_nrrd
from napari_medvlseg.core.io.raster import RASTER_SUFFIXES, read_raster

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medvlseg.core.types import Image

_READERS: dict[tuple[str, ...], Callable[[Path, str], Image]] = {
    RASTER_SUFFIXES: read_raster,
    NIFTI_SUFFIXES: read_nifti,
    NRRD_SUFFIXES: read_nrrd,
    METAIMAGE_SUFFIXES: read_metaimage,
}
READABLE_SUFFIXES = tuple(suffix for suffixes in _READERS for suffix in suffixes)


def read(path: str | Path) -> Image:
    """Read one picture, stack or volume with its own dtype, grid and geometry.

    Parameters
    ----------
    path : str or Path
        A PNG, JPEG, BMP, TIFF, NIfTI, NRRD or MetaImage file.

    Raises
    ------
    UnsupportedFormatError
        If there is no such file, or it is damaged or of another kind.
    """
    path = Path(path).expanduser()
    check_readable(path)
    suffixes = next(kind for kind in _READERS if path.name.lower().endswith(kind))
    return _READERS[suffixes](path, stem_of(path))


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


def is_itk(path: Path) -> bool:
    """Whether the name is that of an NRRD or MetaImage file."""
    return path.name.lower().endswith((*NRRD_SUFFIXES, *METAIMAGE_SUFFIXES))


def stem_of(path: Path) -> str:
    """Return a file name without its suffix, ``.nii.gz`` being one."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")]
    return path.stem
