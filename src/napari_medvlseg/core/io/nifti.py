"""NIfTI volumes in and out, on their own grid and with their own header.

Symbols: I, J, K are the voxel axes as stored; nothing is reoriented here.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from pathlib import Path

    import nibabel as nib
    import numpy.typing as npt

    Array = npt.NDArray[Any]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MM_PER_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
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
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    damage = (
        *(OSError, EOFError, ValueError, KeyError, zlib.error, MemoryError),
        *(ImageFileError, HeaderDataError),
    )
    try:
        nifti = _load(path)
        voxels = _native(np.asanyarray(nifti.dataobj))
        units = _units(nifti)
    except damage as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: cannot be read as NIfTI, it may be damaged ({reason})"
        raise UnsupportedFormatError(msg) from error
    voxels, rgb = _take_volume(voxels, path)
    affine = _affine_mm(nifti)
    return Image(
        voxels,
        affine,
        rgb=rgb,
        units=units,
        slice_axis=_slice_axis(nifti, affine) if voxels.ndim - rgb == 3 else 0,
        name=name,
    )


def to_nifti(
    values: Array, affine: npt.NDArray[np.float64], source: Path | None
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
    nifti.header.set_xyzt_units("mm")
    nifti.set_sform(affine, 1)
    nifti.set_qform(affine, 1, strip_shears=True)
    if _corner_error(nifti.get_qform(), affine, values.shape) > QFORM_TOLERANCE_MM:
        nifti.set_qform(None, 0)
    return nifti


def _load(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI-1 or -2 file."""
    import nibabel as nib

    nifti = nib.load(path)
    if not isinstance(nifti, nib.Nifti1Image):
        msg = f"expected NIfTI, got {type(nifti).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - a property of the file
    return nifti


def _native(voxels: Array) -> Array:
    """Return voxels in this machine's byte order, scaled ones in single precision."""
    if voxels.dtype == np.float64:
        return voxels.astype(np.float32)
    return np.ascontiguousarray(voxels.astype(voxels.dtype.newbyteorder("=")))


def _take_volume(voxels: Array, path: Path) -> tuple[Array, bool]:
    """Return the one volume that there is, and whether it is in colour."""
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim > 3:
        msg = (
            f"{path}: expected one volume, got a series of shape {voxels.shape}; "
            "save one time point or channel of it, for instance with nibabel's "
            "image.slicer[..., 0]"
        )
        raise UnsupportedFormatError(msg)
    if voxels.dtype.names is not None:  # RGB24 or RGBA32
        colours = [voxels[name] for name in voxels.dtype.names]
        return np.stack(colours, axis=-1), True
    if voxels.dtype.kind not in "buif":
        msg = f"{path}: expected real numbers, got {voxels.dtype}; save the magnitude"
        raise UnsupportedFormatError(msg)
    return voxels, False


def _affine_mm(nifti: nib.Nifti1Image) -> npt.NDArray[np.float64]:
    """Return voxel index to RAS+ mm, whatever unit the file is in."""
    if nifti.affine is None:
        msg = "expected a NIfTI file with an affine, got none"
        raise GeometryError(msg)
    affine = np.array(nifti.affine, dtype=np.float64)
    affine[:3] *= MM_PER_UNIT[str(nifti.header.get_xyzt_units()[0])]
    return affine


def _units(nifti: nib.Nifti1Image) -> str:
    """Return "mm", or "pixel" where the header shows that the spacing was lost."""
    unit = str(nifti.header.get_xyzt_units()[0])
    lost = unit == "unknown" and np.array_equal(
        np.abs(np.asarray(nifti.affine)), np.eye(4)
    )
    return "pixel" if lost else "mm"


def _slice_axis(nifti: nib.Nifti1Image, affine: npt.NDArray[np.float64]) -> int:
    """Return the axis of acquisition if told or thick, otherwise head to foot."""
    told = nifti.header.get_dim_info()[2]
    if told is not None:
        return int(told)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    thickest = int(spacing.argmax())
    if spacing[thickest] > 1.5 * np.median(spacing):
        return thickest
    upward = np.abs(affine[2, :3]) / spacing
    return 2 - int(upward[::-1].argmax())


def _header_of(
    source: Path | None, affine: npt.NDArray[np.float64]
) -> nib.Nifti1Header | None:
    """Return the header of the file that a grid comes from, if it still fits."""
    if source is None or not source.is_file():
        return None
    nifti = _load(source)
    same = np.allclose(_affine_mm(nifti), affine, rtol=1e-6, atol=1e-6)
    return nifti.header if same else None


def _corner_error(
    form: npt.NDArray[np.float64],
    affine: npt.NDArray[np.float64],
    shape: tuple[int, ...],
) -> float:
    """Return how far, in mm, two affines put the corners of a grid apart."""
    corners = np.stack(
        [axis.ravel() for axis in np.meshgrid(*[[0, size - 1] for size in shape[:3]])]
    )
    homogeneous = np.zeros((4, corners.shape[1]))
    homogeneous[: corners.shape[0]] = corners
    homogeneous[3] = 1
    return float(np.linalg.norm((form - affine) @ homogeneous, axis=0).max())
