"""Arrays on an image's grid to files that someone named, and a JSON that explains.

`write` names the files of a whole result itself; here it is a viewer's user who does,
for one mask or map or several, perhaps corrected by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import (
    GeometryError,
    OutputError,
    UnsupportedFormatError,
)
from napari_medvlseg.core.io.dicom_seg import new_tracks, write_segments
from napari_medvlseg.core.io.dicom_source import reference_of
from napari_medvlseg.core.io.formats import (
    DICOM_SEG,
    IN_DICOM,
    Source,
    Target,
    is_png,
    save_colours,
    save_values,
)
from napari_medvlseg.core.io.write import staging_folder
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.palette import label_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_medvlseg.core.io.dicom_seg import Findings
    from napari_medvlseg.core.io.dicom_source import Reference

    Array = npt.NDArray[Any]
    Files = Mapping[Path, "Item"]

KINDS = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".dcm": DICOM_SEG,
    ".tiff": "tiff",
    ".tif": "tiff",
    ".png": "png",
}
"""The endings of files that are written, and their formats."""
LABELS = "labels"
MOST_SEGMENTS = 255
_CLAIMS_PLACE = ("nifti", "nrrd", DICOM_SEG)
_WIDE = {"i": (np.int32, np.float64), "u": (np.uint32, np.float64)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Where an image's voxels lie, its slowest axis first, and where it is from.

    Parameters
    ----------
    shape : 2 or 3 ints
    affine : (4, 4)
        Index to RAS+.
    units : str
        ``"mm"`` or ``"pixel"``.
    is_known : bool
        Whether the affine is what the image's file says of it.
    is_placed : bool
        Whether that is a place in the body, and not a spacing alone.
    name : str
        Of the image, for messages and the JSON.
    source : Source, optional
        What it was read from.
    step : float and str, optional
        As `Target` has it.
    """

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    units: str
    is_known: bool
    is_placed: bool
    name: str
    source: Source | None = None
    step: tuple[float, str] | None = None

    def fastest_first(self) -> npt.NDArray[np.float64]:
        """Return the affine for the opposite order of axes."""
        ndim = len(self.shape)
        return self.affine[:, [*reversed(range(ndim)), *range(ndim, 4)]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """What one file holds.

    Parameters
    ----------
    kind : str
        ``"labels"``, the name of a map, or ``"image"``.
    values : ([P,] *shape[, 3 | 4])
        On a `Grid`; the first axis may be prompts, or a series.
    prompts : P texts
        Of labels 1..P, or of the maps.
    rgb : bool
        Whether the last axis is colour.
    """

    kind: str
    values: Array
    prompts: tuple[str, ...] = ()
    rgb: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """What is saved together: the grid of all, how it was found, and what to tell."""

    grid: Grid
    findings: Findings
    told: Mapping[str, Any] = field(default_factory=dict)


def write_group(
    group: Group, files: Files, report: Path, *, overwrite: bool
) -> list[Path]:
    """Write arrays and the JSON that explains them; all of them or none.

    Parameters
    ----------
    group : Group
    files : mapping of path to Item
        All in one folder, each ending with one of `KINDS`.
    report : Path
        The JSON, in the same folder. An earlier one is replaced if it is ours.
    overwrite : bool
        Whether earlier files are replaced; the image itself never is.

    Returns
    -------
    list of Path
        The files, the JSON last.

    Raises
    ------
    OutputError
        If something else has the name, or the disk refuses. Nothing is left then.
    UnsupportedFormatError, GeometryError
        If a format cannot hold an array, or DICOM-SEG finds no DICOM to refer to.
    """
    for path, item in files.items():
        _check_name(path, group.grid, overwrite=overwrite)
        _check_fits(path, item, group.grid)
    _check_report(report)
    in_dicom = [path for path in files if kind_of(path) == DICOM_SEG]
    reference = _reference(group.grid) if in_dicom else None
    tracks = new_tracks(group.findings) if in_dicom else []
    with staging_folder(report.parent) as staging:
        for path, item in files.items():
            if reference is not None and path in in_dicom:
                values = _for_dicom(item, group.grid)
                file = staging / path.name
                write_segments(file, values, group.findings, reference, tracks)
            else:
                _save(staging / path.name, item, _target(path, group.grid))
        text = json.dumps(_report(group, files), indent=2, default=str)
        (staging / report.name).write_text(text + "\n", encoding="utf-8")
        for path in (*files, report):
            (staging / path.name).replace(path)
    return [*files, report]


def kind_of(path: Path) -> str:
    """Return the format that a name's ending tells; nothing for any other."""
    name = path.name.lower()
    return next((kind for end, kind in KINDS.items() if name.endswith(end)), "")


def whole_numbers(labels: Array) -> Array:
    """Return labels in the smallest unsigned type; negative ones as they are."""
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        return labels
    kind = next(k for k in "BHIQ" if highest <= np.iinfo(k).max)
    return labels.astype(kind, copy=False)


def _check_name(path: Path, grid: Grid, *, overwrite: bool) -> None:
    """Refuse a name that belongs to the image or to an earlier file."""
    source = grid.source
    if not path.exists():
        return
    if source is not None and source.path.exists() and path.samefile(source.path):
        msg = f"{path}: expected a new name, got that of the image; choose another"
        raise OutputError(msg)
    if not overwrite:
        msg = f"{path}: exists; choose another name or move it away"
        raise OutputError(msg)


def _check_report(path: Path) -> None:
    """Refuse to replace a JSON that is not ours."""
    if not path.exists():
        return
    try:
        told = read_object(path, "a result's JSON", OutputError)
    except OutputError:
        told = {}
    if not {"files", "format", "geometry"} <= set(told):
        msg = (
            f"{path}: expected no file, or the JSON of an earlier result, got another; "
            "choose another name"
        )
        raise OutputError(msg)


def _check_fits(path: Path, item: Item, grid: Grid) -> None:
    """Refuse a format that cannot hold an array."""
    kind = kind_of(path)
    picture = item.values[..., 0] if item.rgb else item.values
    if kind in _CLAIMS_PLACE and not grid.is_known:
        msg = (
            f"{path}: expected an image whose place is known, one that MedVLSeg "
            f"opened, got {grid.name!r}; save it as .tif, or open its file with "
            "MedVLSeg first"
        )
        raise GeometryError(msg)
    if kind == "png" and not is_png(picture):
        what = f"{item.values.dtype} of shape {item.values.shape}"
        msg = (
            f"{path}: expected a picture of whole numbers of 8 or 16 bits for PNG, got "
            f"{what}; save it as .tif or .nii.gz"
        )
        raise UnsupportedFormatError(msg)
    if kind in ("nifti", "nrrd") and item.rgb:
        msg = f"{path}: expected grey values, got colours; save them as .tif or .png"
        raise UnsupportedFormatError(msg)
    if picture.ndim > len(grid.shape) + 1:
        msg = (
            f"{path}: expected a picture, a volume or a series of them, got the shape "
            f"{picture.shape}; save a part of it"
        )
        raise UnsupportedFormatError(msg)
    if kind == DICOM_SEG:
        _check_segments(path, item, grid)


def _check_segments(path: Path, item: Item, grid: Grid) -> None:
    """Refuse what a DICOM-SEG cannot hold."""
    expected, what = "", ""
    if item.kind not in IN_DICOM:
        expected, what = "labels or a probability", item.kind.replace("_", " ")
    elif item.kind == LABELS and item.values.ndim > len(grid.shape):
        expected, what = "labels of one volume", f"the shape {item.values.shape}"
    elif item.kind == LABELS and not 0 <= item.values.min() <= item.values.max() <= (
        MOST_SEGMENTS
    ):
        expected = f"labels from 1 to {MOST_SEGMENTS}"
        what = f"{item.values.min()} to {item.values.max()}"
    if expected:
        msg = (
            f"{path}: expected {expected} for DICOM-SEG, got {what}; choose another "
            "format"
        )
        raise UnsupportedFormatError(msg)


def _reference(grid: Grid) -> Reference:
    """Find the DICOM files that the image was opened from."""
    if grid.source is None:
        msg = (
            f"{grid.name}: expected an image that was opened from DICOM files for "
            "DICOM-SEG to refer to, got another; choose another format"
        )
        raise UnsupportedFormatError(msg)
    is_volume = len(grid.shape) == 3
    return reference_of(
        grid.source.path,
        grid.source.series,
        grid.shape[::-1] if is_volume else grid.shape,
        grid.fastest_first() if is_volume else grid.affine,
    )


def _for_dicom(item: Item, grid: Grid) -> Array:
    """Return values as `write_segments` takes them, on the axes of the DICOM."""
    values = item.values[None] if item.values.ndim == len(grid.shape) else item.values
    return values.transpose(0, 3, 2, 1) if len(grid.shape) == 3 else values


def _target(path: Path, grid: Grid) -> Target:
    """Return what a file is and where its voxels lie."""
    kind = kind_of(path)
    return Target(
        kind=kind,
        maps_kind=kind,
        size=grid.shape[::-1],
        affine=grid.fastest_first(),
        units=grid.units,
        is_slices_last=False,
        source=Path() if grid.source is None else grid.source.path,
        step=grid.step,
        is_placed=grid.is_placed,
    )


def _save(file: Path, item: Item, target: Target) -> None:
    """Save one array."""
    values = _storable(item.values, target.kind)
    if item.rgb:
        save_colours(file, values, target)
    else:
        names = item.prompts if item.kind != LABELS else ()
        save_values(file, values, target, names)


def _storable(values: Array, kind: str) -> Array:
    """Return values in a type that files know."""
    dtype = values.dtype
    if dtype.kind == "b":
        return values.astype(np.uint8)
    if dtype == np.float16:
        return values.astype(np.float32)
    if dtype.kind in "iu" and dtype.itemsize == 8 and kind == "tiff":
        narrow, other = _WIDE[dtype.kind]
        limits = np.iinfo(narrow)
        fits = limits.min <= values.min() and values.max() <= limits.max
        return values.astype(narrow if fits else other)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _report(group: Group, files: Files) -> dict[str, Any]:
    """Return what the JSON tells, under the names that `write` gives."""
    grid, findings = group.grid, group.findings
    first = next(iter(files))
    labels = [item for item in files.values() if item.kind == LABELS]
    return {
        "image": grid.name if grid.source is None else grid.source.path.name,
        "files": [path.name for path in files],
        "format": kind_of(first),
        "geometry": _target(first, grid).geometry(),
        "provenance": dict(findings.provenance),
        "threshold": findings.threshold,
        "units": grid.units,
        **group.told,
        "prompts": _label_figures(labels[0], grid)
        if labels
        else [{"prompt": prompt} for prompt in findings.prompts],
    }


def _label_figures(item: Item, grid: Grid) -> list[dict[str, Any]]:
    """Return name, colour and size of each label; painted ones have no prompt."""
    counts: Counter[int] = Counter()
    for part in item.values:  # by parts: they are counted by sorting
        numbers, found = np.unique(part, return_counts=True)
        counts.update(dict(zip(numbers.tolist(), found.tolist(), strict=True)))
    prompts = dict(enumerate(item.prompts, start=1))
    wanted = sorted({*prompts, *(label for label in counts if label > 0)})
    edges = grid.affine[:3, : len(grid.shape)]
    voxel = float(np.sqrt(np.linalg.det(edges.T @ edges)))  # of an area too
    name = "labelled_mm3" if len(grid.shape) == 3 else "labelled_mm2"
    return [
        {
            "prompt": prompts.get(label),
            "label": label,
            "color": label_color(label),
            "present": counts[label] > 0,
            "labelled_pixels": counts[label],
            **({name: counts[label] * voxel} if grid.units == "mm" else {}),
        }
        for label in wanted
    ]
