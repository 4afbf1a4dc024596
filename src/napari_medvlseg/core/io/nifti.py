"""NIfTI volumes in and out, on their own grid and with their own header.

Symbols: I, J, K are the voxel axes as stored; nothing is reoriented here.
"""

from __future__ import annotations

import logging
import math
import zlib
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.file_format import FileFormat
from napari_medvlseg.core.io.grid import corner_error, geometry_facts, walk_axis
from napari_medvlseg.core.io.opened import (
    Opened,
    SeriesAxis,
    is_large,
    lazily,
    slowest_first,
)
from napari_medvlseg.core.io.stored import (
    check_stored,
    is_gzip,
    read_head,
    read_slab,
    read_stored,
)
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import nibabel as nib
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_logger = logging.getLogger(__name__)
_MOST_MENDED = 100
NIFTI_SUFFIXES = (".nii", ".nii.gz")
MM_PER_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
_TIME_UNITS = {"sec": "s", "msec": "ms", "usec": "us"}
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
QFORM_TOLERANCE_MM = 0.1
"""Largest error of a corner at which a qform, which cannot shear, is still written."""


def _read(path: Path, name: str) -> Image:
    """Read one volume with its affine in mm, its axes as stored."""
    header = _read_header(path)
    shape = _shape(header)
    _check_single(shape, path)
    voxels, rgb = _split_colours(_voxels(header, path, shape[:3]), path)
    affine = _affine_mm(header)
    units = _units(header, affine)
    spatial = voxels.ndim - rgb
    return Image(
        voxels,
        affine,
        rgb=rgb,
        units=units,
        slice_axis=_slice_axis(header, affine) if spatial == 3 else 0,
        name=name,
        facts={**_facts(header), **_geometry(header, affine, spatial)},
    )


def _open(path: Path, name: str) -> Opened:
    """Open all volumes, (*series, K, J, I); a large uncompressed file stays there."""
    header = _read_header(path)
    shape = _shape(header)
    affine = _affine_mm(header)
    units = _units(header, affine)
    spatial = len(shape[:3])
    voxels, rgb = _all_voxels(header, path, shape)
    walked = _slice_axis(header, affine) if spatial == 3 else 0
    return Opened(
        voxels=voxels,
        affine=slowest_first(affine, spatial),
        rgb=rgb,
        units=units,
        slice_axis=spatial - 1 - walked if spatial == 3 else 0,
        name=name,
        facts={**_facts(header), **_geometry(header, affine, spatial)},
        series=_series(header, shape),
        is_turned=True,
    )


def to_nifti(
    values: Array,
    affine: npt.NDArray[np.float64],
    source: Path | None,
    units: str = "mm",
) -> nib.Nifti1Image:
    """Lay values on a grid for saving.

    Parameters
    ----------
    values : (I, J[, K[, P]])
    affine : (4, 4)
        Voxel index to RAS+ mm.
    source : Path, optional
        The NIfTI file that the grid comes from: its forms, their codes and its units
        are kept where it is still there and still says the same.
    units : str
        Of a grid that comes from elsewhere: ``"mm"``, or unknown.
    """
    import nibabel as nib

    header = _header_of(source, affine)
    nifti = nib.Nifti1Image(values, affine, dtype=values.dtype)
    if header is not None:
        nifti.set_sform(*header.get_sform(coded=True))
        qform, code = header.get_qform(coded=True)
        nifti.set_qform(qform, code)
        nifti.header.set_xyzt_units(*header.get_xyzt_units())
        nifti.header["pixdim"][1:4] = header["pixdim"][1:4]
        return nifti
    nifti.header.set_xyzt_units("mm" if units == "mm" else "unknown")
    nifti.set_sform(affine, 1)
    nifti.set_qform(affine, 1, strip_shears=True)
    if corner_error(nifti.get_qform(), affine, values.shape) > QFORM_TOLERANCE_MM:
        nifti.set_qform(None, 0)
    return nifti


def _read_header(path: Path) -> nib.Nifti1Header:
    """Read the header of a NIfTI-1 or -2 file, and none of its extensions."""
    import nibabel as nib

    head = read_head(path, nib.Nifti2Header.sizeof_hdr)
    size = {int.from_bytes(head[:4], order) for order in _ORDERS}
    with _mending_told(path):
        if nib.Nifti2Header.sizeof_hdr in size:
            return nib.Nifti2Header(head)
        return nib.Nifti1Header(head[: nib.Nifti1Header.sizeof_hdr])


@contextmanager
def _mending_told(path: Path) -> Iterator[None]:
    """Tell in our log what nibabel mends; of what it refuses the error tells.

    It would print either to standard error, without the file's name.
    """
    from nibabel.imageglobals import LoggingOutputSuppressor, logger

    with LoggingOutputSuppressor():
        kept = BufferingHandler(capacity=_MOST_MENDED)
        logger.addHandler(kept)
        yield
    for record in kept.buffer:
        _logger.warning("%s: flaw in the header: %s", path, record.getMessage())


def _damage() -> tuple[type[Exception], ...]:
    """Return what nibabel raises on a damaged header."""
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    return (HeaderDataError, WrapStructError)


def _voxels(header: nib.Nifti1Header, path: Path, shape: tuple[int, ...]) -> Array:
    """Return voxels (I, J, K) as they are read by `_real`."""
    dtype = header.get_data_dtype()
    stored = read_stored(
        path,
        math.prod(shape) * dtype.itemsize,
        encoding="gzip" if is_gzip(path) else "raw",
        offset=int(header.get_data_offset()),
    )
    voxels: Array = np.ndarray(shape, dtype, buffer=stored, order="F")
    return np.ascontiguousarray(_real(voxels, header))


def _real(voxels: Array, header: nib.Nifti1Header) -> Array:
    """Return voxels in this machine's byte order, scaled ones in single precision."""
    slope, intercept = header.get_slope_inter()
    slope = None if (slope, intercept) == (1, 0) else slope
    if slope is not None and voxels.dtype.kind in "iuf" and voxels.dtype.names is None:
        voxels = np.multiply(voxels, slope, dtype=np.float32, casting="unsafe")
        voxels += np.float32(intercept or 0)
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def _all_voxels(
    header: nib.Nifti1Header, path: Path, shape: tuple[int, ...]
) -> tuple[Any, bool]:
    """Return voxels (*series, K, J, I[, 3 | 4]), perhaps lazy; whether in colours."""
    stored = header.get_data_dtype()
    rgb = stored.names is not None
    _check_real(stored, path)
    series = [size for size in shape[3:] if size > 1]
    turned = (*reversed(series), *reversed(shape[:3]))
    if rgb:  # RGB24 or RGBA32
        turned, stored = (*turned, stored.itemsize), np.dtype(np.uint8)
    offset, count = int(header.get_data_offset()), math.prod(turned) * stored.itemsize
    is_packed = is_gzip(path)
    if is_packed or len(turned) - rgb < 3 or not is_large(turned, stored):
        encoding = "gzip" if is_packed else "raw"
        held = read_stored(path, count, encoding=encoding, offset=offset)
        return _as_read(np.ndarray(turned, stored, buffer=held), header, rgb=rgb), rgb
    check_stored(path, count, offset)

    def read(places: tuple[slice, ...]) -> Array:
        first = (*(place.start for place in places), *[0] * (2 + rgb))
        start = int(np.ravel_multi_index(first, turned)) * stored.itemsize
        taken = tuple(place.stop - place.start for place in places)
        slab = read_slab(path, stored, offset + start, (*taken, *turned[len(taken) :]))
        return _as_read(slab, header, rgb=rgb)

    dtype = _as_read(np.empty(0, stored), header, rgb=rgb).dtype
    return lazily(read, turned, dtype, whole=2 + rgb), rgb


def _as_read(voxels: Array, header: nib.Nifti1Header, *, rgb: bool) -> Array:
    """Return voxels as `_real` does; colours are never scaled."""
    return voxels if rgb else _real(voxels, header)


def _series(header: nib.Nifti1Header, shape: tuple[int, ...]) -> tuple[SeriesAxis, ...]:
    """Return what the axes after the third are, the last first."""
    axes = []
    for axis, size in enumerate(shape):
        if axis < 3 or size == 1:
            continue
        unit = _TIME_UNITS.get(str(header.get_xyzt_units()[1]), "") if axis == 3 else ""
        step = abs(float(header["pixdim"][axis + 1])) if unit else 1.0
        known = math.isfinite(step) and step > 0
        name = "time" if axis == 3 else "value"
        axes.append(SeriesAxis(name, step, unit) if known else SeriesAxis(name))
    return tuple(reversed(axes))


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Return the shape of all that there is."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if not shape or min(shape) < 1:
        msg = f"expected positive sizes, got {shape}"
        raise ValueError(msg)
    return shape


def _check_single(shape: tuple[int, ...], path: Path) -> None:
    """Refuse a series of volumes."""
    if math.prod(shape[3:]) > 1:
        msg = (
            f"{path}: expected one volume, got a series of shape {shape}; "
            "save one time point or channel of it, for instance with nibabel's "
            "image.slicer[..., 0]"
        )
        raise UnsupportedFormatError(msg)


def _split_colours(voxels: Array, path: Path) -> tuple[Array, bool]:
    """Return voxels with their colours last, and whether they have any."""
    _check_real(voxels.dtype, path)
    if voxels.dtype.names is not None:  # RGB24 or RGBA32
        colours = [voxels[name] for name in voxels.dtype.names]
        return np.stack(colours, axis=-1), True
    return voxels, False


def _check_real(dtype: np.dtype[Any], path: Path) -> None:
    """Refuse complex numbers and numbers that numpy does not know."""
    if dtype.names is None and dtype.kind not in "buif":
        msg = f"{path}: expected real numbers, got {dtype}; save the magnitude"
        raise UnsupportedFormatError(msg)


def _affine_mm(header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    """Return voxel index to RAS+ mm, whatever unit the file is in."""
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= MM_PER_UNIT[str(header.get_xyzt_units()[0])]
    return affine


def _units(header: nib.Nifti1Header, affine: npt.NDArray[np.float64]) -> str:
    """Return "mm", or "pixel" where the header shows that the spacing was lost."""
    unit = str(header.get_xyzt_units()[0])
    lost = unit == "unknown" and np.array_equal(np.abs(affine), np.eye(4))
    return "pixel" if lost else "mm"


def _geometry(
    header: nib.Nifti1Header, affine: npt.NDArray[np.float64], spatial: int
) -> dict[str, Any]:
    """Return what is told of the place; codes of 0 say that only the spacing is."""
    told = any(int(np.asarray(header[key])) > 0 for key in ("sform_code", "qform_code"))
    return geometry_facts(affine, spatial, _units(header, affine), told=told)


def _slice_axis(header: nib.Nifti1Header, affine: npt.NDArray[np.float64]) -> int:
    """Return the axis of acquisition if told or thick, otherwise head to foot."""
    told = header.get_dim_info()[2]
    return walk_axis(affine) if told is None else int(told)


def _facts(header: nib.Nifti1Header) -> dict[str, Any]:
    """Return what may be told of a header: its texts may name the patient."""
    facts: dict[str, Any] = {
        "format": "NIfTI-1" if header.sizeof_hdr == 348 else "NIfTI-2",
        "datatype": str(header.get_value_label("datatype")),
        "sform_code": str(header.get_value_label("sform_code")),
        "qform_code": str(header.get_value_label("qform_code")),
        "spatial_unit": str(header.get_xyzt_units()[0]),
    }
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if math.isfinite(low) and math.isfinite(high) and low < high:
        facts |= {"cal_min": low, "cal_max": high}
    return facts


def _header_of(
    source: Path | None, affine: npt.NDArray[np.float64]
) -> nib.Nifti1Header | None:
    """Return the header of the file that a grid comes from, if it still fits."""
    if source is None or not source.is_file():
        return None
    damage: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, *_damage())
    try:
        header = _read_header(source)
    except damage:
        return None  # it has become something else
    same = np.allclose(_affine_mm(header), affine, rtol=1e-6, atol=1e-6)
    return header if same else None


NIFTI = FileFormat("NIfTI", NIFTI_SUFFIXES, _read, _open, _damage)
"""``.nii`` and ``.nii.gz`` files of either version."""
