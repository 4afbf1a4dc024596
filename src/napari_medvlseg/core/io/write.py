"""A segmentation to files beside each other: labels, maps, and a JSON that explains.

All files of a result are first written whole into a hidden folder beside their final
place and then renamed, the JSON last: what has its name is complete.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.io.formats import ENDINGS, Source, save, target_of
from napari_medvlseg.core.io.read import stem_of
from napari_medvlseg.core.palette import label_color
from napari_medvlseg.core.sides import side_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from napari_medvlseg.core.types import Segmentation

MAPS = (
    "probability",
    "predictive_entropy",
    "mutual_information",
    "expected_entropy",
)
_ENDINGS = (
    *(f"_{name}{ending}" for name in ("labels", *MAPS) for ending in ENDINGS),
    ".json",
)


def write(
    segmentation: Segmentation,
    image_path: Path | Source,
    output: Path,
    *,
    stem: str | None = None,
    overwrite: bool = False,
    file_format: str = "auto",
) -> list[Path]:
    """Write a result on the grid of its image.

    Parameters
    ----------
    segmentation : Segmentation
    image_path : Path or Source
        What was segmented; a `Source` also says which series of a folder. A NIfTI
        image that is still there passes its forms and units on.
    output : Path
        A folder, made if need be.
    stem : str, optional
        What the names begin with; the image's own without.
    overwrite : bool
        Whether an earlier result of that stem is replaced.
    file_format : str
        One of `FORMATS`. By ``"auto"`` results of NRRD and MetaImage are NRRD, of
        NIfTI and other volumes in mm NIfTI, of the rest PNG and float32 TIFF. By
        ``"dicom-seg"`` labels and probability are DICOM, the other maps as by auto.

    Returns
    -------
    list of Path
        Labels, four maps and the JSON.

    Raises
    ------
    OutputError
        If an earlier result is there, or the disk refuses. Nothing is left then.
    UnsupportedFormatError, GeometryError
        If DICOM-SEG is asked for and the image is not the DICOM that it refers to.
    """
    source = image_path if isinstance(image_path, Source) else Source(image_path)
    stem = stem_of(source.path) if stem is None else stem
    if not overwrite:
        refuse_earlier(output, stem)
    target = target_of(segmentation, source, file_format)
    with staging_folder(output) as staging:
        save(staging, stem, segmentation, _arrays(segmentation), target)
        files = sorted(path.name for path in staging.iterdir())
        report = {
            "image": source.path.name,
            "files": files,
            "format": target.kind,
            "geometry": target.geometry(),
            **figures(segmentation),
        }
        text = json.dumps(report, indent=2, ensure_ascii=False, default=str)
        (staging / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        written = [output / name for name in (*files, f"{stem}.json")]
        for path in written:
            (staging / path.name).replace(path)
        for path in set(earlier_results(output, stem)) - set(written):
            path.unlink()
    return written


def earlier_results(output: Path, stem: str) -> list[Path]:
    """Return the files of an earlier result of that stem."""
    paths = [output / f"{stem}{ending}" for ending in _ENDINGS]
    return [path for path in paths if path.exists()]


def refuse_earlier(output: Path, stem: str) -> None:
    """Raise `OutputError` if an earlier result of that stem is there."""
    there = earlier_results(output, stem)
    if there:
        msg = f"{there[0]}: exists; choose another --output folder or pass --overwrite"
        raise OutputError(msg)


def check_output(output: Path, stems: Mapping[Path, str], *, overwrite: bool) -> None:
    """Refuse a folder for results before they are made; leave no trace.

    Parameters
    ----------
    output : Path
    stems : mapping of path to str
        The images, and what the names of their results begin with.
    overwrite : bool
        Whether earlier results are replaced; an image never is.

    Raises
    ------
    OutputError
        If an earlier result or an image is there, or nothing can be written.
    """
    if not overwrite:
        for stem in stems.values():
            refuse_earlier(output, stem)
    _refuse_images(output, stems)
    check_writable(output)


def _refuse_images(output: Path, stems: Mapping[Path, str]) -> None:
    """Raise `OutputError` if a result would replace one of the images."""
    images = {path.resolve() for path in stems}
    for stem in stems.values():
        for path in earlier_results(output, stem):
            if path.resolve() in images:
                msg = (
                    f"{path}: expected a new name for a result of {stem}, got that of "
                    "an image; choose another --output folder"
                )
                raise OutputError(msg)


def check_writable(output: Path) -> None:
    """Raise `OutputError` if nothing can be written to a folder; leave no trace."""
    made = _missing_folders(output)
    with staging_folder(output):
        pass
    _remove(made)


def check_file(path: Path) -> None:
    """Raise `OutputError` if a file cannot be written there; leave no trace."""
    if path.is_dir():
        msg = f"{path}: expected the name of a file, got a folder; choose another"
        raise OutputError(msg)
    check_writable(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    with staging_folder(path.parent) as staging:
        (staging / path.name).write_text(text, encoding="utf-8")
        (staging / path.name).replace(path)


def figures(segmentation: Segmentation) -> dict[str, Any]:
    """Return what the JSON tells: how the result was made, and its measures.

    Areas are in pixels, volumes also in mm3; means are over a prompt's own mask, which
    may overlap with another prompt's, and None where that mask is empty.
    ``side_warning`` is there where a result lies on the patient's other side.
    """
    warnings = side_warnings(segmentation)
    return {
        "provenance": dict(segmentation.provenance),
        "threshold": segmentation.threshold,
        "units": segmentation.units,
        "exclusive": segmentation.exclusive,
        "shape": list(segmentation.labels.shape),
        "overlap_fraction": segmentation.overlap_fraction,
        "prompts": [
            _prompt_figures(segmentation, index, mask)
            | ({"side_warning": warnings[index]} if warnings[index] else {})
            for index, mask in enumerate(segmentation.masks)
        ],
    }


def _prompt_figures(
    segmentation: Segmentation, index: int, mask: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return the measures of one prompt's mask."""
    count = int(mask.sum())
    doubt = segmentation.doubt_at(index)
    measures: dict[str, Any] = {
        "prompt": segmentation.prompts[index],
        "label": index + 1,
        "color": label_color(index + 1, segmentation.colors),
        "present": count > 0,
        "pixels": count,
        "labelled_pixels": int((segmentation.labels == index + 1).sum()),
        "max_probability": float(segmentation.probability[index].max()),
        "doubt": doubt,
        "doubtful": segmentation.calls_doubtful(doubt),
    }
    if segmentation.units == "mm":
        edges = segmentation.affine[:3, :3]
        if segmentation.labels.ndim == 3:
            voxel_mm3 = abs(float(np.linalg.det(edges)))
            measures["volume_mm3"] = count * voxel_mm3
        else:
            pixel_mm2 = float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1])))
            measures["area_mm2"] = count * pixel_mm2
    for name in MAPS:
        values = segmentation.map_of(name, index)[mask]
        measures[f"mean_{name}"] = float(values.mean(dtype=float)) if count else None
    return measures


def _arrays(segmentation: Segmentation) -> dict[str, npt.NDArray[Any]]:
    """Return what is saved, a map of one prompt without its prompt axis."""
    arrays: dict[str, npt.NDArray[Any]] = {"labels": segmentation.labels}
    for name in MAPS:
        values = getattr(segmentation, name).astype(np.float32, copy=False)
        arrays[name] = values[0] if values.shape[0] == 1 else values
    return arrays


@contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Lend a hidden folder inside `output`, and turn the disk's refusals into ours.

    Files are renamed from it to `output` once they are whole; it is then removed, and
    so are the folders that had to be made, if nothing came of it.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    made = _missing_folders(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".medvlseg-", dir=output) as staging:
            yield Path(staging)
    except OSError as error:
        _remove(made)
        reason = error.strerror or f"the disk may be full: {error}"
        msg = f"{output}: cannot write here ({reason}); free space or choose another"
        raise OutputError(msg) from error
    except BaseException:
        _remove(made)
        raise


def _missing_folders(output: Path) -> list[Path]:
    """Return the folders that have to be made, the innermost first."""
    return [path for path in (output, *output.parents) if not path.exists()]


def _remove(folders: list[Path]) -> None:
    """Remove the folders that we made, where nothing is in them."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
