"""The finished slices of a run in a hidden folder, to go on from after it was cut off.

A slice is written to a temporary file and renamed: what has its name is complete. The
folder's name holds a hash of everything that a slice depends on, so slices of different
runs never meet.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import shutil
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.json_file import read_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    Arrays = list[npt.NDArray[Any]]

SETTINGS = "settings.json"
DIGEST_BYTES = 6
_ENDING = ".unfinished"
_logger = logging.getLogger(__name__)


class KeptSlices:
    """What a run has finished, a file for each slice.

    Parameters
    ----------
    output : Path
        The folder of the results; it is made when the first slice is kept.
    stem : str
        What the names of the results begin with.
    settings : mapping
        Everything that a slice depends on, ready for JSON.
    what : str
        What is kept, for messages.
    """

    def __init__(
        self,
        output: Path,
        stem: str,
        settings: Mapping[str, Any],
        what: str = "slices",
    ) -> None:
        text = json.dumps(settings, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
        self.settings = dict(settings)
        self._output, self._stem, self._text = output, stem, text
        self._what = what
        self._folder = output / f".{stem}-{digest}{_ENDING}"
        self._is_broken = False

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    @property
    def count(self) -> int:
        """How many slices are kept."""
        return sum(1 for _ in self._folder.glob("*.npz"))

    def load(self, index: int) -> Arrays | None:
        """Return what was kept of a slice; None if nothing is, or it is damaged."""
        try:
            with (
                self._path(index).open("rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, index: int, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Keep a slice. Where the disk refuses, the run goes on without."""
        if self._is_broken:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / SETTINGS).exists():
                with self._renamed(self._folder / SETTINGS) as file:
                    file.write(self._text.encode())
            with self._renamed(self._path(index)) as file:
                np.savez(file, *arrays)
        except OSError as error:
            self._is_broken = True
            if not self.count:
                self.remove()
            _logger.warning(
                "%s: cannot keep finished %s there (%s); an interrupted run will "
                "begin anew",
                self._output,
                self._what,
                error.strerror or error,
            )

    def remove(self) -> None:
        """Forget all slices."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def others(self) -> list[dict[str, Any]]:
        """Return the settings of other unfinished runs into the same files."""
        found = (_settings_of(folder) for folder in self._other_folders())
        return [settings for settings in found if settings]

    def _path(self, index: int) -> Path:
        """Return the file of a slice."""
        return self._folder / f"{index:05d}.npz"

    @contextmanager
    def _renamed(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a temporary file that gets its name when it is whole."""
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            partial = Path(file.name)
            try:
                yield file
            except BaseException:
                with suppress(OSError):  # a full disk refuses what is still to write
                    file.close()
                partial.unlink(missing_ok=True)
                raise
        partial.replace(path)

    def _other_folders(self) -> list[Path]:
        """Return the folders of other runs into the same files."""
        return [
            path for path in _folders(self._output, self._stem) if path != self._folder
        ]


def forget(output: Path, stem: str) -> None:
    """Remove the slices of all runs into the same files, once those are written."""
    for folder in _folders(output, stem):
        shutil.rmtree(folder, ignore_errors=True)


def left_over(output: Path, *, idle_seconds: float = 3600) -> list[Path]:
    """Return folders of unfinished runs that nothing has been added to for a while."""
    newest = time.time() - idle_seconds
    return [one for one in _folders(output) if one.stat().st_mtime < newest]


def _folders(output: Path, stem: str | None = None) -> list[Path]:
    """Return the folders of unfinished runs, of one stem or of all."""
    name = "*" if stem is None else glob.escape(stem)
    pattern = f".{name}-{'?' * 2 * DIGEST_BYTES}{_ENDING}"
    return sorted(path for path in output.glob(pattern) if path.is_dir())


def what_differs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return in words what two runs do not share, for instance ``seed 0, not 1``."""
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return ", ".join(
        "another image"
        if name == "image"
        else f"{name} {theirs.get(name)}, not {ours[name]}"
        for name in names
    )


def _settings_of(folder: Path) -> dict[str, Any]:
    """Return what a run was about; nothing if that cannot be read."""
    try:
        return read_object(folder / SETTINGS, "settings", OutputError)
    except OutputError:
        return {}
