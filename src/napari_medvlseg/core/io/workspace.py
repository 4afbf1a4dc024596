"""A whole working session as one folder: images by reference, results, settings.

``workspace.json`` tells everything but voxels; ``result-N.npz`` holds the arrays of a
result, ``layer-N.npz`` those of a layer of the user's own and ``image-N.npy`` an image
that was never a file. Nothing in it is unpickled.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass, fields
from os.path import relpath
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import OutputError, UnsupportedFormatError
from napari_medvlseg.core.io.saved_layers import read_layers, write_layers
from napari_medvlseg.core.json_file import read_object
from napari_medvlseg.core.types import Midline, Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_medvlseg.core.io.saved_layers import SavedLayer

    Array = npt.NDArray[Any]

FORMAT = 1
FILE = "workspace.json"
EDITED = "edited"
"""Name, beside those of a `Segmentation`'s arrays, of labels that were painted."""
ARRAYS = (
    *("labels", "probability", "predictive_entropy", "mutual_information"),
    *("expected_entropy", "affine"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedImage:
    """An image of the session.

    Parameters
    ----------
    name : str
    path : Path or None
        Where it was read from; None where it was never a file.
    fingerprint : mapping
        `image_fingerprint` of the file when the session was saved.
    look : mapping
        How it was shown, ready for JSON.
    voxels : array or None
        Its own, where it was never a file.
    """

    name: str
    path: Path | None
    fingerprint: Mapping[str, Any]
    look: Mapping[str, Any]
    voxels: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedResult:
    """A result of the session.

    Parameters
    ----------
    image : int
        Which of the images it is of.
    segmentation : Segmentation
    job : mapping
        What was asked, ready for JSON.
    edited : (*spatial) or None
        The labels as they were corrected by hand.
    """

    image: int
    segmentation: Segmentation
    job: Mapping[str, Any]
    edited: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workspace:
    """A working session.

    Parameters
    ----------
    images : sequence of SavedImage
    results : sequence of SavedResult
    controls : mapping
        What was typed and chosen, ready for JSON.
    view : mapping
        What was on the screen, ready for JSON.
    layers : sequence of SavedLayer
        The user's own points, shapes and labels.
    """

    images: tuple[SavedImage, ...]
    results: tuple[SavedResult, ...]
    controls: Mapping[str, Any]
    view: Mapping[str, Any]
    layers: tuple[SavedLayer, ...] = ()


def save_workspace(folder: Path, workspace: Workspace) -> None:
    """Write a session beside its place, then move it there.

    Parameters
    ----------
    folder : Path
        New, empty, or an earlier session, which is replaced as a whole.
    workspace : Workspace

    Raises
    ------
    OutputError
        If the folder holds anything else, or the disk refuses. What was there stays.
    """
    folder = folder.expanduser().absolute()
    _check_replaceable(folder)
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        partial.chmod(0o755)
        _write_all(partial, folder, workspace)
        _swap(partial, folder)
    except OSError as error:
        reason = error.strerror or f"the disk may be full: {error}"
        msg = f"{folder}: cannot write here ({reason}); free space or choose another"
        raise OutputError(msg) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def load_workspace(folder: Path) -> Workspace:
    """Read a session, without its images that are files.

    Raises
    ------
    UnsupportedFormatError
        If it is none, damaged, or of a newer version.
    """
    told = read_object(folder / FILE, "a saved session's file", UnsupportedFormatError)
    if told.get("format") != FORMAT:
        msg = (
            f"{folder}: expected a session of format {FORMAT}, got "
            f"{told.get('format')!r}; update napari-medvlseg"
        )
        raise UnsupportedFormatError(msg)
    try:
        images = tuple(
            _image_from(folder, number, entry)
            for number, entry in enumerate(told["images"])
        )
        results = tuple(
            _result_from(folder, number, entry)
            for number, entry in enumerate(told["results"])
        )
        if any(not 0 <= result.image < len(images) for result in results):
            msg = "a result names an image that is not there"
            raise ValueError(msg)
        return Workspace(
            images=images,
            results=results,
            controls=dict(told["controls"]),
            view=dict(told["view"]),
            layers=read_layers(folder, told.get("layers", [])),
        )
    except _DAMAGE as error:
        msg = f"{folder}: expected a whole session, cannot read it ({error})"
        raise UnsupportedFormatError(msg) from error


def image_fingerprint(path: Path) -> dict[str, Any]:
    """Return what tells an image from another without reading it all.

    Of a file its size and a checksum of its first and last MiB; of a folder the
    number of its files and their size.
    """
    if path.is_dir():
        sizes = [each.stat().st_size for each in path.iterdir() if each.is_file()]
        return {"files": len(sizes), "bytes": sum(sizes)}
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(0, size - _ENDS))
        checksum = zlib.crc32(file.read(_ENDS), zlib.crc32(head))
    return {"bytes": size, "crc32": f"{checksum:08x}"}


def is_same_image(path: Path, image: SavedImage) -> bool:
    """Whether a path holds what a saved image was read from."""
    try:
        return path.exists() and image_fingerprint(path) == dict(image.fingerprint)
    except OSError:
        return False


def is_workspace(folder: Path) -> bool:
    """Whether a folder holds a session."""
    return (folder / FILE).is_file()


_ENDS = 2**20
_OURS = re.compile(r"workspace\.json|image-\d+\.npy|(result|layer)-\d+\.npz")
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)
"""What damaged files raise."""


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what is not a session."""
    if folder.is_dir() and (is_workspace(folder) or not any(folder.iterdir())):
        return
    if folder.exists():
        what = "a folder with other files" if folder.is_dir() else "a file"
        msg = (
            f"{folder}: expected a new folder or a saved session, got {what}; choose "
            "another name"
        )
        raise OutputError(msg)


def _write_all(partial: Path, folder: Path, workspace: Workspace) -> None:
    """Write the arrays and then what tells about them."""
    for number, image in enumerate(workspace.images):
        if image.voxels is not None:
            np.save(partial / f"image-{number}.npy", image.voxels, allow_pickle=False)
    for number, result in enumerate(workspace.results):
        arrays = {name: getattr(result.segmentation, name) for name in ARRAYS}
        if result.edited is not None:
            arrays[EDITED] = result.edited
        np.savez_compressed(partial / f"result-{number}.npz", **arrays)
    told = {
        "format": FORMAT,
        "images": [_image_told(image, folder) for image in workspace.images],
        "results": [_result_told(result) for result in workspace.results],
        "controls": dict(workspace.controls),
        "view": dict(workspace.view),
        "layers": write_layers(partial, workspace.layers),
    }
    text = json.dumps(told, indent=2, ensure_ascii=False, default=str)
    (partial / FILE).write_text(text + "\n", encoding="utf-8")


def _swap(partial: Path, folder: Path) -> None:
    """Put a whole session in the place of an earlier one; keep the user's own files."""
    if not folder.exists():
        partial.rename(folder)
        return
    holder = Path(mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    old = holder / folder.name
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        holder.rmdir()
        raise
    for path in old.iterdir():
        if not _OURS.fullmatch(path.name):
            path.rename(folder / path.name)
    shutil.rmtree(holder, ignore_errors=True)


def _image_told(image: SavedImage, folder: Path) -> dict[str, Any]:
    """Return what the JSON tells of an image; its path also as seen from the folder."""
    told = {
        "name": image.name,
        "path": None,
        "fingerprint": dict(image.fingerprint),
        "look": dict(image.look),
    }
    if image.path is not None:
        absolute = image.path.expanduser().absolute()
        told["path"] = str(absolute)
        if absolute.anchor == folder.anchor:  # else it lies on another drive
            told["relative"] = Path(relpath(absolute, folder)).as_posix()
    return told


def _result_told(result: SavedResult) -> dict[str, Any]:
    """Return what the JSON tells of a result."""
    plain = {
        field.name: getattr(result.segmentation, field.name)
        for field in fields(Segmentation)
        if field.name not in ARRAYS
    }
    if result.segmentation.midline is not None:
        plain["midline"] = asdict(result.segmentation.midline)
    return {"image": result.image, "job": dict(result.job), "segmentation": plain}


def _image_from(folder: Path, number: int, told: Mapping[str, Any]) -> SavedImage:
    """Read an image's entry; prefer the place seen from the folder, if it is there."""
    path, voxels = None, None
    if told["path"] is None:
        voxels = np.load(folder / f"image-{number}.npy", allow_pickle=False)
    else:
        path = Path(told["path"])
        if not path.exists() and "relative" in told:
            beside = (folder / told["relative"]).resolve()
            path = beside if beside.exists() else path
    return SavedImage(
        name=str(told["name"]),
        path=path,
        fingerprint=dict(told["fingerprint"]),
        look=dict(told["look"]),
        voxels=voxels,
    )


def _result_from(folder: Path, number: int, told: Mapping[str, Any]) -> SavedResult:
    """Read a result's entry and arrays."""
    path = folder / f"result-{number}.npz"
    # Opened here, because NumPy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        read = {name: arrays[name] for name in ARRAYS}
        edited = arrays.get(EDITED)
    plain = dict(told["segmentation"])
    plain["prompts"] = tuple(plain["prompts"])
    plain["colors"] = tuple(plain.get("colors", ()))
    if plain.get("midline") is not None:
        plain["midline"] = Midline(**plain["midline"])
    segmentation = Segmentation(**read, **plain)
    _check_arrays(segmentation, edited)
    return SavedResult(
        image=int(told["image"]),
        segmentation=segmentation,
        job=dict(told["job"]),
        edited=edited,
    )


def _check_arrays(segmentation: Segmentation, edited: Array | None) -> None:
    """Refuse arrays that do not belong together."""
    shape = segmentation.labels.shape
    wanted = (len(segmentation.prompts), *shape)
    allowed = {wanted, (1, *shape)} if segmentation.exclusive else {wanted}
    shapes = {getattr(segmentation, name).shape for name in ARRAYS[1:5]}
    fits = shapes <= allowed and segmentation.probability.shape == wanted
    if not fits or (edited is not None and edited.shape != shape):
        msg = f"arrays of {sorted(shapes)} beside labels of {shape}"
        raise ValueError(msg)
