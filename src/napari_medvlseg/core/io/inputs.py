"""Which images a user means, and what their results are called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.read import is_readable, stem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def expand(names: Iterable[str]) -> list[Path]:
    """Return the images that files, folders and globs stand for, each once.

    Parameters
    ----------
    names : iterable of str
        A folder stands for the images right inside it; ``**`` goes deeper.

    Raises
    ------
    UnsupportedFormatError
        If a folder or a glob holds no image that can be read.
    """
    found: dict[Path, Path] = {}
    for name in names:
        for path in _expand_one(name):
            found.setdefault(path.resolve(), path)
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
        inside = path.iterdir()
    elif not path.exists() and any(sign in name for sign in "*?["):
        inside = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    else:
        return [path]
    images = sorted(p for p in inside if is_readable(p) and p.is_file())
    shown = [image for image in images if not image.name.startswith(".")]
    if not shown:
        msg = f"{name}: expected images there, found none; check the path"
        raise UnsupportedFormatError(msg)
    return shown


def _with_parent(path: Path) -> str:
    """Return a stem with the name of its folder before it."""
    parent = path.resolve().parent.name
    return f"{parent}_{stem_of(path)}" if parent else stem_of(path)


def _suffix(path: Path) -> str:
    """Return a suffix as part of a name: ``nii_gz``."""
    return path.name[len(stem_of(path)) :].strip(".").replace(".", "_").lower()
