"""MetaImage volumes: ITK's ``.mha``, and ``.mhd`` beside its voxels.

The header is a few lines ``Key = Value``; that is all there is to parse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.io.file_format import FileFormat
from napari_medvlseg.core.io.grid import (
    LPS_SIGNS,
    MM_PER_UNIT,
    FileGrid,
    colour_role,
    is_lost,
    open_grid,
    to_image,
)
from napari_medvlseg.core.io.stored import beside

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]
    Header = dict[str, str]

METAIMAGE_SUFFIXES = (".mha", ".mhd")
_HEADER_BYTES = 2**20
_TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_MODALITIES = {
    f"met_mod_{name}": name.upper() for name in ("ct", "mr", "nm", "us", "other")
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def _grid_in(path: Path) -> FileGrid:
    """Return what a file's header says."""
    return _grid(*_read_header(path), path)


def _read_header(path: Path) -> tuple[Header, int]:
    """Return the fields by their names in lower case, and the header's length."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    header: Header = {}
    length = 0
    while "elementdatafile" not in header:
        end = start.find(b"\n", length) + 1 or len(start)
        key, equals, value = start[length:end].decode("utf-8", "replace").partition("=")
        if key.strip() and not equals:
            msg = f"expected 'Key = Value', got {key.strip()[:40]!r}"
            raise ValueError(msg)
        header[key.strip().lower()] = value.strip()
        if end == length:
            msg = "expected ElementDataFile, got the end of the header"
            raise ValueError(msg)
        length = end
    return header, length


def _grid(header: Header, length: int, path: Path) -> FileGrid:
    """Return what a header says about axes, voxels and the world."""
    dimension = int(header["ndims"])
    sizes = tuple(int(size) for size in header["dimsize"].split())
    if len(sizes) != dimension or min(sizes) < 1:
        msg = f"expected {dimension} positive sizes, got {sizes}"
        raise ValueError(msg)
    dtype = _dtype(header)
    roles = ("space",) * dimension
    channels = int(header.get("elementnumberofchannels", 1))
    if channels != 1:
        sizes, roles = (channels, *sizes), (colour_role(channels, dtype), *roles)
    directions, origin, units = _world(header, dimension)
    data, offset = _place(header, path, length)
    facts = {"format": "MetaImage"}
    modality = _MODALITIES.get(header.get("modality", "").lower())
    if modality is not None:
        facts["modality"] = modality
    return FileGrid(
        path=path,
        sizes=sizes,
        dtype=dtype,
        roles=roles,
        directions=directions,
        origin=origin,
        units=units,
        data=data,
        offset=offset,
        encoding="zlib" if _truth(header, "compresseddata") else "raw",
        facts=facts,
        tells_sides=dimension > 2 and _turn(header, dimension) is not None,
    )


def _dtype(header: Header) -> np.dtype[Any]:
    """Return the type of a voxel with its byte order."""
    if not _truth(header, "binarydata", default=True):
        msg = "expected binary voxels, got text"
        raise ValueError(msg)
    big = _truth(header, "binarydatabyteordermsb") or _truth(
        header, "elementbyteordermsb"
    )
    dtype = np.dtype(_TYPES[header["elementtype"].lower()])
    return dtype.newbyteorder(">" if big else "<") if dtype.itemsize > 1 else dtype


def _world(header: Header, dimension: int) -> tuple[Matrix, Matrix, str]:
    """Return directions (axes, 3) and origin (3,) in RAS+, and their units."""
    spacing = _numbers(header, ("elementspacing", "elementsize"), dimension)
    turn = _turn(header, dimension)
    corner = _numbers(header, ("offset", "position", "origin"), dimension)
    matrix = np.eye(dimension) if turn is None else turn.reshape(dimension, dimension)
    steps = matrix * (np.ones(dimension) if spacing is None else spacing)[:, None]
    kept = min(dimension, 3)
    directions, origin = np.zeros((dimension, 3)), np.zeros(3)
    directions[:, :kept] = steps[:, :kept]
    if corner is not None:
        origin[:kept] = corner[:kept]
    unit = header.get("distanceunits", "").lower()
    factor = MM_PER_UNIT.get(unit or "mm", 0.0)
    lost = not unit and is_lost(directions, origin)
    known = spacing is not None and bool(spacing.all()) and not lost and factor > 0
    signs = LPS_SIGNS * (factor if known else 1.0)
    units = "mm" if known else "pixel"
    return directions * signs + 0.0, origin * signs + 0.0, units  # no -0.0


def _turn(header: Header, dimension: int) -> Matrix | None:
    """Return the numbers that say where the axes point."""
    keys = ("transformmatrix", "orientation", "rotation")
    return _numbers(header, keys, dimension**2)


def _numbers(header: Header, keys: tuple[str, ...], count: int) -> Matrix | None:
    """Return the finite numbers of the first of the fields that is there."""
    for key in keys:
        if key in header:
            numbers = np.array([float(word) for word in header[key].split()])
            if len(numbers) != count or not np.isfinite(numbers).all():
                msg = f"expected {count} numbers as {key}, got {header[key][:80]!r}"
                raise ValueError(msg)
            return numbers
    return None


def _place(header: Header, path: Path, length: int) -> tuple[Path, int | None]:
    """Return the file that holds the voxels, and where they begin in it."""
    detached = header["elementdatafile"]
    if detached.upper() == "LOCAL":
        return path, length
    skip = int(header.get("headersize", 0))
    return beside(path, detached), None if skip < 0 else skip


def _truth(header: Header, key: str, *, default: bool = False) -> bool:
    """Return a field that says True or False."""
    return _TRUTH[header[key].lower()] if key in header else default


METAIMAGE = FileFormat(
    "MetaImage",
    METAIMAGE_SUFFIXES,
    read_one=lambda path, name: to_image(_grid_in(path), name),
    open_all=lambda path, name: open_grid(_grid_in(path), name),
)
"""``.mha`` files, and ``.mhd`` files beside their voxels."""
