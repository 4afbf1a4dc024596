"""Napari's reader of medical images: which paths are ours, and their layers."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import MedVLSegError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from napari_medvlseg.core.io.dicom_series import Series

    LayerData = tuple[Any, ...]
    PathOrPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

PLUGIN = "napari-medvlseg"
NO_LAYERS: list[LayerData] = [(None,)]
"""What napari takes for: read, and nothing is to be shown."""


_MEANT: ContextVar[Collection[int] | None] = ContextVar("series meant", default=None)


@contextmanager
def only_series(numbers: Collection[int] | None) -> Iterator[None]:
    """Open the series of these numbers, without asking; None asks as ever."""
    token = _MEANT.set(numbers)
    try:
        yield
    finally:
        _MEANT.reset(token)


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """Return the function that reads a path, or None where it is not ours.

    Parameters
    ----------
    path : path or list of paths
        A file; a folder, ours if it or a folder in it holds DICOM; or several files to
        stack: DICOM files, or pictures.
    """
    from napari_medvlseg.core.io.open import holds_dicom, is_stackable
    from napari_medvlseg.core.io.read import is_readable

    paths = _paths(path)
    if not paths or any("://" in str(name) for name in _names(path)):
        return None
    if len(paths) > 1:
        files = all(path.is_file() for path in paths)
        alike = all(map(holds_dicom, paths)) or all(map(is_stackable, paths))
        return read_layers if files and alike else None
    (one,) = paths
    ours = holds_dicom(one) if one.is_dir() else is_readable(one)
    return read_layers if ours else None


def read_layers(path: PathOrPaths) -> list[LayerData]:
    """Return layer data for all that is read, or an error and none.

    Of a folder with several series the user is asked which to open; without a window
    all that are stacks of slices are opened, or all if none is. Files that make no
    image together, as scouts do, are passed over then.

    Parameters
    ----------
    path : path or list of paths
        As `get_reader` takes it.

    Raises
    ------
    MedVLSegError
        If a file is damaged, or slices are missing.
    """
    from napari_medvlseg.plugin.first_view import show_as_acquired

    paths = _paths(path)
    try:
        layers = _read(paths)
    except MedVLSegError as error:
        _tell(error, paths[0])
        raise
    show_as_acquired(layers)
    _tell_flaws(layers)
    return layers or NO_LAYERS


def _read(paths: Sequence[Path]) -> list[LayerData]:
    """Read a file, a stack, or the series that are wanted."""
    from napari_medvlseg.core.io import open as io_open
    from napari_medvlseg.plugin.opened_layer import to_layer_data

    first = paths[0]
    if first.is_dir() or (len(paths) > 1 and not io_open.is_stackable(first)):
        wanted = _wanted(io_open.find_series(paths))
        opened = [(one, io_open.open_series(one)) for one in wanted]
        layers = [
            to_layer_data(image, one.paths[0].parent, one.number)
            for one, image in opened
        ]
        return layers if first.is_dir() else [_stacked(one, paths) for one in layers]
    if len(paths) > 1:
        return [_stacked(to_layer_data(io_open.open_stack(paths), first), paths)]
    return [to_layer_data(io_open.open_image(first), first)]


def _stacked(layer: LayerData, paths: Sequence[Path]) -> LayerData:
    """Note the files of a stack, which napari does not: none if they lie apart."""
    together = len({path.parent for path in paths}) == 1
    entry = layer[1]["metadata"]["medvlseg"]
    entry["files"] = [path.name for path in paths] if together else []
    return layer


def _wanted(series: Sequence[Series]) -> Sequence[Series]:
    """Return the series to open, asking the user where there is one to ask."""
    if len(series) < 2:
        return series
    meant = _MEANT.get()
    if meant is not None:
        return [one for one in series if one.number in meant]
    if _has_window():
        from napari_medvlseg.plugin.series_dialog import choose_series

        return choose_series(series)
    images = [one for one in series if one.makes_image]
    return [one for one in images if one.is_stacked] or images or series


def _has_window() -> bool:
    """Whether a window is on the screen, without starting Qt to find out."""
    widgets = sys.modules.get("qtpy.QtWidgets")
    if widgets is None or widgets.QApplication.instance() is None:
        return False
    return any(one.isVisible() for one in widgets.QApplication.topLevelWidgets())


def _tell(error: MedVLSegError, path: Path) -> None:
    """Show an error that napari would not: of the reader that is preferred for a file.

    For that one napari says "but failed" and offers others; else it shows our error.
    """
    if "napari" not in sys.modules:
        return
    from napari.plugins.utils import get_preferred_reader
    from napari.utils.notifications import show_error

    if get_preferred_reader(path) == PLUGIN:
        show_error(str(error))


def _tell_flaws(layers: Sequence[LayerData]) -> None:
    """Say on the screen what should be known of slices; the log has it already."""
    from napari_medvlseg.core.io.dicom_layout import flaws_told
    from napari_medvlseg.plugin.layer_space import KEY

    flaws = [
        f"{layer[1]['name']}: {flaw}"
        for layer in layers
        for flaw in flaws_told(layer[1]["metadata"][KEY]["facts"])
    ]
    if flaws and _has_window():
        from napari.utils.notifications import show_info

        for flaw in flaws:
            show_info(flaw)


def _names(path: PathOrPaths) -> list[str | os.PathLike[str]]:
    """Return one or several paths as a list."""
    return [path] if isinstance(path, (str, os.PathLike)) else list(path)


def _paths(path: PathOrPaths) -> list[Path]:
    """Return one or several paths as a list of paths."""
    return [Path(name).expanduser() for name in _names(path)]
