"""Arrays to files of each format, on the grid of the image that they belong to.

Symbols: i, j, k are column, row and slice, the order of NIfTI; arrays of pictures,
NRRD and MetaImage come in the opposite one, slices first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.config import FORMATS
from napari_medvlseg.core.io.dicom_seg import write_dicom_seg
from napari_medvlseg.core.io.dicom_source import Reference, reference_of
from napari_medvlseg.core.io.grid import LPS_SIGNS
from napari_medvlseg.core.io.nifti import to_nifti
from napari_medvlseg.core.io.nrrd import write_nrrd
from napari_medvlseg.core.io.raster import RASTER
from napari_medvlseg.core.io.read import is_itk, is_nifti

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.types import Image, Segmentation

    Array = npt.NDArray[Any]
    Matrix = npt.NDArray[np.float64]

ENDINGS = (".png", ".tif", ".nii.gz", ".nrrd", ".dcm")
"""Of the files that results are written to."""
DICOM_SEG = "dicom-seg"
IN_DICOM = ("labels", "probability")
"""What a DICOM-SEG holds; other maps go beside it."""
_AXES = ("column", "row", "slice")
_TIFF_NOTE = "TIFF tells the spacing only; position and orientation are in this affine"


@dataclass(frozen=True, slots=True)
class Source:
    """What an image was read from.

    Parameters
    ----------
    path : Path
        A file, or a folder with a DICOM series.
    series : str, optional
        Which series of a folder with several: its number or its UID.
    """

    path: Path
    series: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What a result is written as, and where its voxels lie.

    Parameters
    ----------
    kind : str
        ``"nifti"``, ``"nrrd"``, ``"tiff"``, ``"png"`` (labels of a picture; its maps
        are TIFF) or ``"dicom-seg"``.
    maps_kind : str
        Of what `kind` cannot hold: of a DICOM-SEG, the maps that are no probability.
    size : 2 or 3 ints
        Columns, rows and slices.
    affine : (4, 4)
        Index (i, j, k) to RAS+.
    units : str
        ``"mm"`` or ``"pixel"``.
    is_slices_last : bool
        Whether the arrays have the axes (i, j, k) and not (k, j, i).
    source : Path
        What was segmented.
    reference : Reference, optional
        The files that a DICOM-SEG refers to.
    step : float and str, optional
        From one volume of a series to the next, and its unit as NIfTI calls it.
    is_placed : bool
        Whether position and orientation are known, and not the spacing alone.
    """

    kind: str
    maps_kind: str
    size: tuple[int, ...]
    affine: Matrix
    units: str
    is_slices_last: bool
    source: Path
    reference: Reference | None = None
    step: tuple[float, str] | None = None
    is_placed: bool = True

    def geometry(self) -> dict[str, Any]:
        """Return where the voxels lie, ready for JSON."""
        told: dict[str, Any] = {
            "axes": list(_AXES[: len(self.size)]),
            "size": list(self.size),
            "units": self.units,
        }
        if self.units == "mm" and not self.is_placed:
            edges = np.linalg.norm(self.affine[:3, : len(self.size)], axis=0)
            told["spacing_mm"] = edges.tolist()
        elif self.units == "mm":
            told["affine"] = self.affine.tolist()
            if "tiff" in (self.kind, self.maps_kind) or self.kind == "png":
                told["note"] = _TIFF_NOTE
        return told

    def slices_first(self, values: Array) -> Array:
        """Return values ([P,] *spatial) as ([P,] k, j, i) or ([P,] j, i)."""
        if not self.is_slices_last:
            return values
        lead = values.ndim - len(self.size)
        return values.transpose(*range(lead), *reversed(range(lead, values.ndim)))


def target_of(segmentation: Segmentation, source: Source, file_format: str) -> Target:
    """Find out what a result is written as.

    Parameters
    ----------
    segmentation : Segmentation
    source : Source
    file_format : str
        One of `FORMATS`.

    Raises
    ------
    UnsupportedFormatError, GeometryError
        If DICOM-SEG is asked for and the image is not the DICOM that it refers to.
    ValueError
        If there is no such format.
    """
    if file_format not in FORMATS:
        msg = f"file_format must be one of {', '.join(FORMATS)}, got {file_format!r}"
        raise ValueError(msg)
    shape, affine = segmentation.labels.shape, segmentation.affine
    own = _own_kind(source.path, len(shape), segmentation.units)
    kind = own if file_format == "auto" else file_format
    is_dicom_volume = own == "nifti" and not is_nifti(source.path)
    is_slices_last = is_nifti(source.path) or is_dicom_volume
    if not is_slices_last:
        turned = [*reversed(range(len(shape))), *range(len(shape), 4)]
        affine = affine[:, turned]
    return Target(
        kind=kind,
        maps_kind=own if kind == DICOM_SEG else kind,
        size=shape if is_slices_last else shape[::-1],
        affine=affine,
        units=segmentation.units,
        is_slices_last=is_slices_last,
        source=source.path,
        reference=_reference(segmentation.labels.shape, segmentation.affine, source)
        if kind == DICOM_SEG
        else None,
        is_placed=not segmentation.provenance.get("spacing_from"),
    )


def check_format(image: Image, source: Source, file_format: str) -> None:
    """Refuse, before anything is computed, a format that cannot hold the result.

    Raises
    ------
    UnsupportedFormatError, GeometryError
        If DICOM-SEG is asked for and the image is not the DICOM that it refers to.
    """
    if file_format == DICOM_SEG:
        _reference(image.spatial_shape, image.affine, source)


def save(
    folder: Path,
    stem: str,
    segmentation: Segmentation,
    arrays: Mapping[str, Array],
    target: Target,
) -> None:
    """Save labels and maps, each to ``STEM_NAME`` with the ending of its format.

    Parameters
    ----------
    folder : Path
    stem : str
    segmentation : Segmentation
    arrays : mapping of name to ([P,] *spatial)
        ``labels`` and the maps, with the image's axes.
    target : Target
    """
    if target.reference is not None:
        write_dicom_seg(folder, stem, segmentation, target.reference)
    for name, values in arrays.items():
        if target.reference is None or name not in IN_DICOM:
            turned = target.slices_first(values)
            file = folder / f"{stem}_{name}{ending_of(turned, target)}"
            save_values(file, turned, target, segmentation.prompts)


def _own_kind(path: Path, ndim: int, units: str) -> str:
    """Return the format of results that is nearest to the image's own."""
    if is_nifti(path):
        return "nifti"
    if is_itk(path):
        return "nrrd"
    is_raster = RASTER.has_name_of(path)
    return "nifti" if units == "mm" and ndim == 3 and not is_raster else "png"


def _reference(shape: tuple[int, ...], affine: Matrix, source: Source) -> Reference:
    """Find the files that a DICOM-SEG refers to."""
    return reference_of(source.path, source.series, shape, affine)


def ending_of(values: Array, target: Target) -> str:
    """Return how the name of a file with such values ends."""
    if target.maps_kind == "png" and is_png(values):
        return ".png"
    return {"nifti": ".nii.gz", "nrrd": ".nrrd"}.get(target.maps_kind, ".tif")


def is_png(values: Array) -> bool:
    """Whether a PNG can hold values: a picture of whole numbers of 8 or 16 bits."""
    return values.ndim == 2 and values.dtype in (np.uint8, np.uint16)


def save_values(
    file: Path, values: Array, target: Target, prompts: tuple[str, ...]
) -> None:
    """Save one array to a file of the kind that its name's ending tells.

    Parameters
    ----------
    file : Path
        Its ending is one of `ENDINGS`, ``.nii`` or ``.tiff``, but not ``.dcm``.
    values : ([P,] [k,] j, i)
        The slowest axis may also be a series, as of volumes in time.
    target : Target
    prompts : P texts
        Names of the channels of a TIFF; none of a series.
    """
    name = file.name.lower()
    if is_nifti(file):
        _save_nifti(file, values, target)
    elif name.endswith(".nrrd"):
        _save_nrrd(file, values, target)
    elif name.endswith(".png"):
        import PIL.Image

        PIL.Image.fromarray(values).save(file)
    else:
        _save_tiff(file, values, target, prompts)


def save_colours(file: Path, values: Array, target: Target) -> None:
    """Save red, green and blue, perhaps with alpha, to a PNG or TIFF.

    Parameters
    ----------
    file : Path
    values : ([k,] j, i, 3 | 4) uint8
    target : Target
    """
    if file.suffix.lower() == ".png":
        import PIL.Image

        PIL.Image.fromarray(values).save(file)
    else:
        _save_tiff(file, values, target, rgb=True)


def _save_nifti(path: Path, values: Array, target: Target) -> None:
    """Save as (i, j[, k[, P]])."""
    turned = values.T
    if turned.ndim > len(target.size) == 2:
        turned = turned[:, :, None]  # prompts are NIfTI's fourth axis
    from_nifti = is_nifti(target.source)
    known = from_nifti or target.units == "mm"
    nifti = to_nifti(
        turned,
        target.affine if known else np.eye(4),
        target.source if from_nifti else None,
        target.units,
    )
    if target.step is not None:
        length, unit = target.step
        nifti.header["pixdim"][4] = length
        nifti.header.set_xyzt_units(nifti.header.get_xyzt_units()[0], unit)
    nifti.to_filename(path)


def _save_nrrd(path: Path, values: Array, target: Target) -> None:
    """Save with the prompts as the slowest axis."""
    ndim = len(target.size)
    known = is_itk(target.source) or target.units == "mm"
    affine = target.affine if known else np.diag([*LPS_SIGNS, 1.0])
    turned = [*reversed(range(ndim)), *range(ndim, 4)]
    write_nrrd(
        path,
        values,
        affine[:, turned],
        ndim=ndim,
        units=target.units,
    )


def _save_tiff(
    path: Path,
    values: Array,
    target: Target,
    prompts: tuple[str, ...] = (),
    *,
    rgb: bool = False,
) -> None:
    """Save pages in order; where the spacing is known as OME-TIFF, which tells it."""
    import tifffile

    kind = "rgb" if rgb else "minisblack"
    if target.units != "mm":
        tifffile.imwrite(path, values, photometric=kind)
        return
    ndim = len(target.size)
    edges = np.linalg.norm(target.affine[:3, :ndim], axis=0).tolist()
    told: dict[str, Any] = {"axes": "ZYX"[-ndim:] + "S" * rgb}
    for letter, edge in zip("XYZ", edges, strict=False):
        told[f"PhysicalSize{letter}"] = edge
        told[f"PhysicalSize{letter}Unit"] = "mm"
    if values.ndim > ndim + rgb:
        lead = "C" if len(prompts) == len(values) else "T"
        told["axes"] = f"{lead}{told['axes']}"
        if lead == "C":
            told["Channel"] = {"Name": list(prompts)}
    tifffile.imwrite(
        path,
        values,
        photometric=kind,
        ome=True,
        metadata=told,
        resolution=(10 / edges[0], 10 / edges[1]),
        resolutionunit="CENTIMETER",
    )
