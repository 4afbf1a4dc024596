"""DICOM files: which files are, and their headers, read without harm."""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

DICOM_SUFFIXES = (".dcm", ".dicom")
MOST_ASKED = 1000
MAX_INFLATED_BYTES = 2**30
"""Of a deflated file: deflate may make a thousand bytes of one."""
_MAGIC_OFFSET = 128
_MAGIC = b"DICM"
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(NotImplementedError, RuntimeError, ArithmeticError, AssertionError),
    *(MemoryError, struct.error, zlib.error),
)
"""What pydicom and its decoders raise on damaged files."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DicomFile:
    """A file that holds a picture, and its header.

    Parameters
    ----------
    path : Path
    header : pydicom.Dataset
        Everything before the pixels.
    """

    path: Path
    header: Any


def has_dicom_suffix(path: Path) -> bool:
    """Whether the name is that of a DICOM file."""
    return path.name.lower().endswith(DICOM_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as every DICOM file does, whatever it is called."""
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_OFFSET)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what pydicom raises on a damaged file into one sentence.

    The reason is told by its kind only, and pydicom's own warnings and log are
    silenced: their words may quote the patient's data.

    Raises
    ------
    UnsupportedFormatError
        If anything of that kind is raised within.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*_DAMAGE, InvalidDicomError, BytesLengthException) as error:
        msg = (
            f"{path}: cannot be read as DICOM, it may be damaged "
            f"({type(error).__name__}); export it again"
        )
        raise UnsupportedFormatError(msg) from error
    finally:
        log.setLevel(level)


def read_file(path: Path) -> DicomFile:
    """Read the header of a file that must hold a picture.

    Raises
    ------
    UnsupportedFormatError
        If it is damaged, an index, or an object without a picture to segment.
    """
    header, flaw = _read_header(path)
    if flaw:
        msg = f"{path}: expected a DICOM image, got {flaw}; name an image or a folder"
        raise UnsupportedFormatError(msg)
    return DicomFile(path, header)


def picture_files(folder: Path) -> list[DicomFile]:
    """Return the DICOM images right inside a folder, sorted by name.

    What is not DICOM or holds no picture (DICOMDIR, reports, plans) is passed over; a
    DICOM file that is damaged is passed over with a warning.
    """
    files = []
    for path in dicom_paths(folder):
        try:
            header, flaw = _read_header(path)
            if not flaw:
                files.append(DicomFile(path, header))
        except UnsupportedFormatError as error:
            _logger.warning("passed over %s", error)
    return files


def dicom_paths(folder: Path) -> Iterator[Path]:
    """Yield the DICOM files right inside a folder, sorted by name, hidden ones not."""
    for path in sorted(folder.iterdir()):
        is_shown = not path.name.startswith(".") and path.is_file()
        if is_shown and (has_dicom_suffix(path) or is_dicom(path)):
            yield path


def dicom_folders(folder: Path, *, most_asked: int = MOST_ASKED) -> list[Path]:
    """Return the folders at or below a folder that hold DICOM files right inside.

    Parameters
    ----------
    folder : Path
    most_asked : int
        Files and folders after which no further ones are looked for, so that a folder
        of something else with a million files is passed over at once.
    """
    found, left = [], most_asked
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        left -= 1
        for name in sorted(names)[: max(left, 0)]:
            path = Path(place) / name
            left -= 1
            if not name.startswith(".") and (has_dicom_suffix(path) or is_dicom(path)):
                found.append(Path(place))
                break
        if left <= 0:
            break
    return found


def _read_header(path: Path) -> tuple[Any, str]:
    """Read everything before the pixels; say what it is if it has no picture."""
    with damage_told(path):
        import pydicom

        if _is_bomb(path):
            msg = (
                f"{path}: expected at most {MAX_INFLATED_BYTES:,} bytes once inflated, "
                "got more; export it without compression"
            )
            raise UnsupportedFormatError(msg)
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription"):
            header.get(keyword)  # a value that cannot be read is told now
        return header, _why_no_picture(header)


def _is_bomb(path: Path) -> bool:
    """Whether a deflated file would be larger than `MAX_INFLATED_BYTES`."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    start = _MAGIC_OFFSET + len(_MAGIC) + 12 + meta.FileMetaInformationGroupLength
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(start)
        while chunk := inflater.unconsumed_tail or file.read(2**16):
            size += len(inflater.decompress(chunk, 2**24))
            if size > MAX_INFLATED_BYTES:
                return True
    return False


def _why_no_picture(header: Any) -> str:
    """Say what an object without a picture is; nothing where there is a picture."""
    from pydicom.uid import MediaStorageDirectoryStorage

    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return "an index (DICOMDIR)"
    if not header.get("Rows") or not header.get("Columns"):
        return "an object without pixels"
    kind = str(header.get("Modality", ""))
    return {"SEG": "a segmentation", "RTDOSE": "a dose map"}.get(kind, "")
