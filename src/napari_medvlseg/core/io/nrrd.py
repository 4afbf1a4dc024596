"""NRRD volumes in and out: pynrrd knows the header, the voxels are read here.

pynrrd unpacks whatever it is given; `read_stored` only what the header declares.
"""

from __future__ import annotations

import warnings
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
    Header = dict[str, Any]

NRRD_SUFFIXES = (".nrrd", ".nhdr")
_HEADER_BYTES = 2**20
_ENCODINGS = {
    "raw": "raw",
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    **dict.fromkeys(("bzip2", "bz2"), "bzip2"),
}
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int"), "i8"),
    **dict.fromkeys(("signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long"), "u8"),
    **dict.fromkeys(("unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_SPACE_KINDS = ("domain", "space")
_COLOUR_KINDS = ("vector", "rgb-color", "rgba-color", "3-color", "4-color")
_NO_KIND = ("???", "none")


def write_nrrd(
    path: Path, values: npt.NDArray[Any], affine: Matrix, *, ndim: int, units: str
) -> None:
    """Write values on the grid of an image that a `FileFormat` gave.

    Parameters
    ----------
    path : Path
        Ends in ``.nrrd``.
    values : ([P,] K, J, I) or ([P,] J, I)
        The prompts become the file's slowest axis, of the kind ``list``.
    affine : (4, 4)
        Index to RAS+.
    ndim : int
        Number of spatial axes.
    units : str
        ``"mm"`` is told to the file; anything else is not.
    """
    import nrrd

    directions = affine[:3, :ndim].T[::-1] * LPS_SIGNS
    origin = affine[:3, 3] * LPS_SIGNS
    header: Header = {"kinds": ["domain"] * ndim}
    if ndim == 2 and not directions[:, 2].any() and not origin[2]:
        header["space dimension"] = 2  # the only pictures that ITK reads
        directions, origin = directions[:, :2], origin[:2]
    else:
        header["space"] = "left-posterior-superior"
    if values.ndim > ndim:
        header["kinds"].append("list")
        directions = np.vstack([directions, np.full_like(origin, np.nan)])
    header |= {"space directions": directions, "space origin": origin}
    if units == "mm":
        header["space units"] = ["mm"] * len(origin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pynrrd asks utcnow()
        nrrd.write(str(path), values, header, compression_level=1, index_order="C")


def _damage() -> tuple[type[Exception], ...]:
    """Return what pynrrd raises on a damaged header."""
    from nrrd import NRRDError

    return (TypeError, StopIteration, NRRDError)


def _grid_in(path: Path) -> FileGrid:
    """Return what a file's header says."""
    return _grid(*_read_header(path), path)


def _read_header(path: Path) -> tuple[Header, int]:
    """Return the fields of a header, and how many bytes it takes."""
    import nrrd

    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    lines, length = [], 0
    for line in start.splitlines(keepends=True):
        length += len(line)
        lines.append(line.decode("utf-8", "replace"))
        if not line.strip():
            break
    return dict(nrrd.read_header(lines)), length


def _grid(header: Header, length: int, path: Path) -> FileGrid:
    """Return what a header says about axes, voxels and the world."""
    sizes = tuple(int(size) for size in header["sizes"])
    if header["dimension"] != len(sizes) or min(sizes) < 1:
        msg = f"expected {header['dimension']} positive sizes, got {sizes}"
        raise ValueError(msg)
    dtype = _dtype(header)
    told = _told_directions(header, len(sizes))
    roles = _roles(header, sizes, dtype, told)
    spatial = [axis for axis, role in enumerate(roles) if role == "space"]
    directions, origin, units = _world(header, spatial, told)
    data, offset = _place(header, path, length)
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
        encoding=_ENCODINGS[str(header["encoding"]).lower()],
        facts={"format": "NRRD", **_facts(header)},
        tells_sides=told is not None and _body_signs(header) is not None,
    )


def _dtype(header: Header) -> np.dtype[Any]:
    """Return the type of a voxel with its byte order."""
    dtype = np.dtype(_TYPES[str(header["type"]).lower()])
    if dtype.itemsize == 1:
        return dtype
    big = {"little": False, "big": True}[str(header["endian"]).lower()]
    return dtype.newbyteorder(">" if big else "<")


def _told_directions(header: Header, dimension: int) -> Matrix | None:
    """Return the step along each axis, (dimension, space), NaN where there is none."""
    if "space directions" in header:
        told = np.asarray(header["space directions"], dtype=np.float64)
        if told.shape[0] != dimension or not 2 <= told.shape[1] <= 4:
            msg = f"expected {dimension} space directions, got {told.shape[0]}"
            raise ValueError(msg)
        return told
    return None


def _roles(
    header: Header,
    sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    directions: Matrix | None,
) -> tuple[str, ...]:
    """Return what each axis is, by its kind or by its having a direction."""
    kinds = [str(kind).lower() for kind in header.get("kinds", ["???"] * len(sizes))]
    if len(kinds) != len(sizes):
        msg = f"expected {len(sizes)} kinds, got {len(kinds)}"
        raise ValueError(msg)
    roles = []
    for axis, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
        pointing = directions is None or bool(np.isfinite(directions[axis]).all())
        if kind in _SPACE_KINDS or (kind in _NO_KIND and pointing):
            roles.append("space")
        elif kind in (*_COLOUR_KINDS, *_NO_KIND):
            roles.append(colour_role(size, dtype))
        else:
            roles.append("other")
    return tuple(roles)


def _world(
    header: Header, spatial: list[int], told: Matrix | None
) -> tuple[Matrix, Matrix, str]:
    """Return directions (axes, 3) and origin (3,) in RAS+, and their units."""
    directions = np.eye(len(spatial), 3)
    origin = np.zeros(3)
    known = False
    if told is not None:
        directions = _three(told[spatial])
        known = True
    elif "spacings" in header:
        spacings = np.asarray(header["spacings"], dtype=np.float64)[spatial]
        known = bool(np.isfinite(spacings).all() and spacings.all())
        directions = directions * np.where(known, spacings, 1)[:, None]
    corner = np.asarray(header.get("space origin", origin), dtype=np.float64)
    if np.isfinite(corner).all():
        origin = _three(corner[None])[0]
    unit = _unit(header, spatial)
    if not known or (unit is None and is_lost(directions, origin)):
        factor, units = 1.0, "pixel"
    else:
        factor = MM_PER_UNIT.get("mm" if unit is None else unit, 0.0)
        factor, units = (factor, "mm") if factor else (1.0, "pixel")
    signs = _body_signs(header)
    signs = (LPS_SIGNS if signs is None else signs) * factor
    return directions * signs + 0.0, origin * signs + 0.0, units  # no -0.0


def _unit(header: Header, spatial: list[int]) -> str | None:
    """Return the one unit of the world's axes, None where none is told."""
    told = header.get("space units")
    if told is None and "units" in header and "space directions" not in header:
        told = [header["units"][axis] for axis in spatial]
    names = {str(unit).strip().lower() for unit in (told or [])[:3]}
    return None if not names else ", ".join(sorted(names))


def _body_signs(header: Header) -> Matrix | None:
    """Return the signs that turn a space into RAS+, None for spaces of no body."""
    space = str(header.get("space", ""))
    words = space.lower().removesuffix("-time").split("-")
    if len(words) == 1:
        words = list(words[0])
    first = "".join(word[0] for word in words)[:3]
    known = len(first) == 3 and all(
        letter in pair for letter, pair in zip(first, ("lr", "pa", "si"), strict=True)
    )
    if not known:
        return None
    return np.array([1.0 if letter in "ras" else -1.0 for letter in first])


def _three(vectors: Matrix) -> Matrix:
    """Return vectors (N, 2 to 4) in three dimensions."""
    padded = np.zeros((len(vectors), 3))
    kept = vectors[:, :3]
    padded[:, : kept.shape[1]] = kept
    return padded


def _place(header: Header, path: Path, length: int) -> tuple[Path, int | None]:
    """Return the file that holds the voxels, and where they begin in it."""
    detached = header.get("data file", header.get("datafile"))
    if detached is None:
        data, offset = path, length
    else:
        data, offset = beside(path, str(detached)), 0
    lines = int(header.get("line skip") or header.get("lineskip") or 0)
    skip = int(header.get("byte skip") or header.get("byteskip") or 0)
    if skip == -1 and not lines:
        return data, None
    if skip < 0 or lines or (skip and header["encoding"] != "raw"):
        msg = f"expected voxels right after the header, got {lines} lines between"
        raise ValueError(msg)
    return data, offset + skip


def _facts(header: Header) -> dict[str, Any]:
    """Return the fields of a header that have only words of the format as values."""
    facts: dict[str, Any] = {"encoding": str(header["encoding"]).lower()}
    space = str(header.get("space", "")).lower()
    words = set(space.split("-"))
    body = {"left", "right", "posterior", "anterior", "superior", "inferior", "time"}
    if space and words <= body:
        facts["space"] = space
    return facts


NRRD = FileFormat(
    "NRRD",
    NRRD_SUFFIXES,
    read_one=lambda path, name: to_image(_grid_in(path), name),
    open_all=lambda path, name: open_grid(_grid_in(path), name),
    damage=_damage,
)
"""``.nrrd`` files, and ``.nhdr`` files beside their data."""
