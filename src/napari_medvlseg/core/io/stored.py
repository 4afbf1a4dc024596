"""Bytes of voxels out of a file: never more of them than its header declares."""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError

if TYPE_CHECKING:
    from io import BufferedIOBase
    from pathlib import Path

    import numpy.typing as npt

LARGEST_UNASKED_BYTES = 2**27
"""Up to this size a file may expand as it likes."""
MOST_EXPANSION = 200
"""Beyond it, a file that expands more than this is taken for a bomb."""
_PASSED_OVER_BYTES = 2**24
_GZIP_MAGIC = b"\x1f\x8b"


def check_expansion(path: Path, needed: int) -> None:
    """Refuse a compressed file whose header declares far more than it can hold.

    Parameters
    ----------
    path : Path
    needed : int
        Bytes that its voxels take in memory.

    Raises
    ------
    UnsupportedFormatError
        If it says that it expands more than `MOST_EXPANSION` times to more than
        `LARGEST_UNASKED_BYTES`.
    """
    stored = path.stat().st_size
    if needed > max(LARGEST_UNASKED_BYTES, MOST_EXPANSION * stored):
        msg = (
            f"{path}: expected a file that expands up to {MOST_EXPANSION} times, got "
            f"{stored} bytes for an image of {needed}; it may be damaged, save it "
            "uncompressed if it is not"
        )
        raise UnsupportedFormatError(msg)


def read_stored(
    path: Path, count: int, *, encoding: str = "raw", offset: int | None = 0
) -> bytearray:
    """Read exactly the bytes that a header declares.

    Parameters
    ----------
    path : Path
    count : int
        Of bytes; fewer or more in the file are an error, so that a damaged size is
        not mistaken for another shape.
    encoding : str
        ``"raw"``, ``"zlib"``, ``"gzip"`` or ``"bzip2"``; for gzip the bytes before
        `offset` are compressed as well only if the file begins so.
    offset : int, optional
        Where they begin; None if they end with the file.

    Raises
    ------
    UnsupportedFormatError
        If the file would expand beyond reason.
    ValueError, OSError, EOFError, zlib.error
        If it is damaged.
    """
    if encoding == "raw":
        return _read_raw(path, count, offset)
    check_expansion(path, count)
    with path.open("rb") as file:
        whole = encoding == "gzip" and is_gzip(path)
        file.seek(0 if whole else offset or 0)
        if encoding == "zlib":
            return _unpack_zlib(file.read(), count)
        unpacked: BufferedIOBase = (
            gzip.GzipFile(fileobj=file) if encoding == "gzip" else bz2.BZ2File(file)
        )
        with unpacked:
            if whole:
                _pass_over(unpacked, offset or 0)
            return _read_all(unpacked, count)


def check_stored(path: Path, count: int, offset: int | None = 0) -> int:
    """Return where that many bytes begin, which must be all there are.

    Parameters
    ----------
    path : Path
    count : int
    offset : int, optional
        Where they begin; None if they end with the file.

    Raises
    ------
    ValueError
        If there are fewer or more.
    """
    there = path.stat().st_size
    start = there - count if offset is None else offset
    if start < 0 or there - start != count:
        msg = f"expected {count} bytes of voxels, got {max(there - (offset or 0), 0)}"
        raise ValueError(msg)
    return start


def read_slab(
    path: Path, dtype: np.dtype[Any], start: int, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Read a part of what is stored as it is, its slowest axis first.

    Parameters
    ----------
    path : Path
    dtype : dtype
    start : int
        Byte at which the part begins.
    shape : tuple of int

    Raises
    ------
    OSError
        If the file is gone or has been cut since it was opened.
    """
    count = math.prod(shape)
    values = np.fromfile(path, dtype, count, offset=start)
    if len(values) != count:
        msg = f"{path} has been changed since it was opened"
        raise OSError(msg)
    return values.reshape(shape)


def beside(path: Path, detached: str) -> Path:
    """Return the file with the voxels that a header names.

    Raises
    ------
    UnsupportedFormatError
        If it is absent, or several.
    """
    data = path.parent / detached
    if detached.split(maxsplit=1)[0] == "LIST" or "%" in detached:
        msg = (
            f"{path}: expected voxels in one file, got a list of files; save the "
            "image as one .nrrd file"
        )
        raise UnsupportedFormatError(msg)
    if not data.is_file():
        msg = (
            f"{path}: expected its voxels in {data.name!r} beside it, found nothing; "
            "copy both files together"
        )
        raise UnsupportedFormatError(msg)
    return data


def is_gzip(path: Path) -> bool:
    """Whether a file as a whole is compressed by gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def read_head(path: Path, limit: int) -> bytes:
    """Return the first bytes of a file, at most `limit`, unpacked if it is gzip."""
    with path.open("rb") as file:
        if not is_gzip(path):
            return file.read(limit)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return unpacked.read(limit)


def _read_raw(path: Path, count: int, offset: int | None) -> bytearray:
    """Read bytes that are stored as they are."""
    start = check_stored(path, count, offset)
    with path.open("rb") as file:
        file.seek(start)
        return _read_all(file, count)


def _read_all(file: BufferedIOBase, count: int) -> bytearray:
    """Read that many bytes, after which there are no more."""
    values = bytearray(count)
    view, filled = memoryview(values), 0
    while filled < count:
        got = file.readinto(view[filled : filled + LARGEST_UNASKED_BYTES])
        if not got:
            msg = f"expected {count} bytes of voxels, got {filled}"
            raise ValueError(msg)
        filled += got
    if file.read(1):
        msg = f"expected {count} bytes of voxels, got more"
        raise ValueError(msg)
    return values


def _unpack_zlib(packed: bytes, count: int) -> bytearray:
    """Unpack a zlib stream of that many bytes."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    values = bytearray(unpacker.decompress(packed, count + 1))
    if len(values) != count or not unpacker.eof:
        got = "more" if len(values) > count else str(len(values))
        msg = f"expected {count} bytes of voxels, got {got}"
        raise ValueError(msg)
    return values


def _pass_over(file: BufferedIOBase, count: int) -> None:
    """Read a header and what else is before the voxels."""
    if count > _PASSED_OVER_BYTES:
        msg = f"expected at most {_PASSED_OVER_BYTES} bytes of header, got {count}"
        raise ValueError(msg)
    file.read(count)
