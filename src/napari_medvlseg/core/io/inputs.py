"""Which images a user means, and what their results are called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_series import list_series
from napari_medvlseg.core.io.read import is_readable, stem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def expand(names: Iterable[str]) -> list[Path]:
    """Return the images that files, folders and globs stand for, each once.

    Parameters
    ----------
    names : iterable of str
        A folder stands for the images right inside it, the slices of DICOM series
        for one image, which the folder's own path names; ``**`` goes deeper.

    Raises
    ------
    UnsupportedFormatError
        If a folder or a glob holds no image that can be read, or a name is none.
    """
    found: dict[Path, Path] = {}
    for name in names:
        if not name:
            msg = "expected the name of an image, got an empty one; check the path"
            raise UnsupportedFormatError(msg)
        try:
            for path in _expand_one(name):
                found.setdefault(path.resolve(), path)
        except (OSError, ValueError, RuntimeError) as error:  # too long, or forbidden
            reason = getattr(error, "strerror", None) or error
            msg = f"{name}: expected images there, cannot look ({reason}); check it"
            raise UnsupportedFormatError(msg) from error
    return list(found.values())


def result_stems(paths: Sequence[Path]) -> list[str]:
    """Return a name for the results of each image, no two alike.

    It is the file's own without suffix; where two are alike, their parent's name is
    put before it, then the suffix after it, then a number.
    """
    spellings: list[Callable[[int], str]] = [
        lambda index: stem_of(paths[index]),
        lambda index: _with_parent(paths[index]),
        lambda index: f"{_with_parent(paths[index])}_{_suffix(paths[index])}",
        lambda index: f"{_with_parent(paths[index])}_{index + 1}",
    ]
    chosen = [""] * len(paths)
    for spell in spellings:
        alike = Counter(name.casefold() for name in chosen)
        for index, name in enumerate(list(chosen)):
            if not name or alike[name.casefold()] > 1:
                chosen[index] = spell(index)
    return chosen


def _expand_one(name: str) -> list[Path]:
    """Return the images of one file, folder or glob, sorted."""
    path = Path(name).expanduser()
    if path.is_dir():
        images = _in_folder(path)
    elif not path.exists() and any(sign in name for sign in "*?["):
        inside = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        images = [p for p in inside if _is_shown(p)]
    else:
        return [path]
    if not images:
        msg = f"{name}: expected images there, found none; check the path"
        raise UnsupportedFormatError(msg)
    return sorted(images)


def _in_folder(folder: Path) -> list[Path]:
    """Return the images right inside a folder; itself for its slices of a volume."""
    found = list_series(folder)
    if not any(series.is_stacked for series in found):
        return [path for path in folder.iterdir() if _is_shown(path)]
    in_series = {path for series in found for path in series.paths}
    others = [p for p in folder.iterdir() if p not in in_series and _is_shown(p)]
    return [*others, folder if folder.name not in ("", "..") else folder.resolve()]


def _is_shown(path: Path) -> bool:
    """Whether a path is an image that is not hidden."""
    return not path.name.startswith(".") and path.is_file() and is_readable(path)


def _with_parent(path: Path) -> str:
    """Return a stem with the name of its folder before it."""
    parent = path.resolve().parent.name
    return f"{parent}_{stem_of(path)}" if parent else stem_of(path)


def _suffix(path: Path) -> str:
    """Return a suffix as part of a name: ``nii_gz``."""
    return path.name[len(stem_of(path)) :].strip(".").replace(".", "_").lower()
