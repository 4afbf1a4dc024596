"""A kind of image file: its names, its two ways of being read, its damage in words."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import (
    GeometryError,
    ImageError,
    UnsupportedFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_medvlseg.core.io.opened import Opened
    from napari_medvlseg.core.types import Image

    Errors = tuple[type[Exception], ...]

_DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError),
    *(zlib.error, ImageError, GeometryError),
)
"""What every reader may raise on a damaged file."""


def _none() -> Errors:
    """Return no errors."""
    return ()


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A kind of image file.

    Parameters
    ----------
    title : str
        For messages.
    suffixes : tuple of str
        Of its files, in small letters.
    read_one : callable
        Given path and name, returns the one image that there is.
    open_all : callable
        Given path and name, returns all that a viewer shows, perhaps unread.
    damage : callable
        Returns what else its libraries raise on a damaged file; called when a file is
        read, so that they are imported no earlier.
    """

    title: str
    suffixes: tuple[str, ...]
    read_one: Callable[[Path, str], Image]
    open_all: Callable[[Path, str], Opened]
    damage: Callable[[], Errors] = _none

    def has_name_of(self, path: Path) -> bool:
        """Whether a file is called like one of this kind."""
        return path.name.lower().endswith(self.suffixes)

    def read(self, path: Path, name: str) -> Image:
        """Read one picture or volume with its own dtype, grid and geometry.

        Raises
        ------
        UnsupportedFormatError
            If the file is damaged, foreign, or a series; or if its data are absent.
        """
        with self._damage_told(path):
            return self.read_one(path, name)

    def open(self, path: Path, name: str) -> Opened:
        """Open all volumes; those of a large file that is not packed stay there.

        Raises
        ------
        UnsupportedFormatError
            If the file is damaged or foreign, or its data are absent.
        """
        with self._damage_told(path):
            return self.open_all(path, name)

    @contextmanager
    def _damage_told(self, path: Path) -> Iterator[None]:
        """Turn what a damaged file raises into one sentence."""
        damage: Errors = (*_DAMAGE, *self.damage())
        try:
            yield
        except damage as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            msg = (
                f"{path}: cannot be read as {self.title}, it may be damaged ({reason})"
            )
            raise UnsupportedFormatError(msg) from error
