"""NIfTI volumes in and out, on their own grid and with their own header.

Symbols: I, J, K are the voxel axes as stored; nothing is reoriented here.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_medvlseg.core.errors import (
    GeometryError,
    ImageError,
    UnsupportedFormatError,
)
from napari_medvlseg.core.io.grid import corner_error, geometry_facts, walk_axis
from napari_medvlseg.core.io.stored import is_gzip, read_head, read_stored
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from pathlib import Path

    import nibabel as nib
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MM_PER_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
QFORM_TOLERANCE_MM = 0.1
"""Largest error of a corner at which a qform, which cannot shear, is still written."""


def read_nifti(path: Path, name: str) -> Image:
    """Read one volume with its affine in mm.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    name : str
        Of the image.

    Raises
    ------
    UnsupportedFormatError
        If the file is damaged, foreign, or a series of volumes.
    """
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    damage = (
        *(OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError),
        *(zlib.error, HeaderDataError, WrapStructError, ImageError, GeometryError),
    )
    try:
        header = _read_header(path)
        voxels, rgb = _split_colours(_voxels(header, path), path)
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
            facts={**_facts(header), **geometry_facts(affine, spatial, units)},
        )
    except damage as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: cannot be read as NIfTI, it may be damaged ({reason})"
        raise UnsupportedFormatError(msg) from error


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
    if nib.Nifti2Header.sizeof_hdr in size:
        return nib.Nifti2Header(head)
    return nib.Nifti1Header(head[: nib.Nifti1Header.sizeof_hdr])


def _voxels(header: nib.Nifti1Header, path: Path) -> Array:
    """Return voxels in this machine's byte order, scaled ones in single precision."""
    dtype = header.get_data_dtype()
    shape = _shape(header, path)
    slope, intercept = header.get_slope_inter()
    stored = read_stored(
        path,
        math.prod(shape) * dtype.itemsize,
        encoding="gzip" if is_gzip(path) else "raw",
        offset=int(header.get_data_offset()),
    )
    voxels: Array = np.ndarray(shape, dtype, buffer=stored, order="F")
    scaled = slope is not None and (slope, intercept) != (1, 0)
    if scaled and dtype.kind in "iuf":
        voxels = np.multiply(voxels, slope, dtype=np.float32, casting="unsafe")
        voxels += np.float32(intercept)
    return np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("="))


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, ...]:
    """Return the shape of the one volume that there is."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if not shape or min(shape) < 1:
        msg = f"expected positive sizes, got {shape}"
        raise ValueError(msg)
    if math.prod(shape[3:]) > 1:
        msg = (
            f"{path}: expected one volume, got a series of shape {shape}; "
            "save one time point or channel of it, for instance with nibabel's "
            "image.slicer[..., 0]"
        )
        raise UnsupportedFormatError(msg)
    return shape[:3]


def _split_colours(voxels: Array, path: Path) -> tuple[Array, bool]:
    """Return voxels with their colours last, and whether they have any."""
    if voxels.dtype.names is not None:  # RGB24 or RGBA32
        colours = [voxels[name] for name in voxels.dtype.names]
        return np.stack(colours, axis=-1), True
    if voxels.dtype.kind not in "buif":
        msg = f"{path}: expected real numbers, got {voxels.dtype}; save the magnitude"
        raise UnsupportedFormatError(msg)
    return voxels, False


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
    header = _read_header(source)
    same = np.allclose(_affine_mm(header), affine, rtol=1e-6, atol=1e-6)
    return header if same else None
