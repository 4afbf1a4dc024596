"""A bundle's files from a folder or a zip to a folder or a zip, checked on the way."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NamedTuple

from napari_medvlseg.core.bundle import SUMS, WEIGHTS, sums_text
from napari_medvlseg.core.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CHUNK_BYTES = 4_000_000
SMALL_BYTES = 50_000_000
"""No file of a bundle but the weights is larger."""
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
"""Of a model or of a bundle's file."""


class Member(NamedTuple):
    """A file of a bundle."""

    size: int
    """In bytes, as the folder or the archive says."""
    open: Callable[[], IO[bytes]]


class Copied(NamedTuple):
    """How far a copy is, in bytes; with the bundle's folder or file at the end."""

    done: int
    total: int
    path: Path | None = None


@contextmanager
def opened_bundle(source: Path) -> Iterator[dict[str, Member]]:
    """Lend the files of a bundle's folder or zip by name.

    Raises
    ------
    CheckpointError
        If it is neither.
    """
    if source.is_dir():
        yield {
            path.name: Member(path.stat().st_size, lambda path=path: path.open("rb"))  # type: ignore[misc]
            for path in sorted(source.iterdir())
            if path.is_file() and NAME.fullmatch(path.name)
        }
        return
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"{source}: expected a bundle's folder or zip file ({error})"
        raise CheckpointError(msg) from error
    with archive:
        yield {
            PurePosixPath(info.filename).name: Member(
                info.file_size,
                lambda info=info: archive.open(info),  # type: ignore[misc]
            )
            for info in archive.infolist()
            if len(PurePosixPath(info.filename).parts) <= 2
            and NAME.fullmatch(PurePosixPath(info.filename).name)
            and not info.is_dir()
        }


def read_small(members: Mapping[str, Member], name: str, source: Path) -> str:
    """Return the text of one of a bundle's small files.

    Raises
    ------
    CheckpointError
        If it is absent, damaged or not text.
    """
    if name not in members:
        msg = f"{source}: expected a bundle, there is no {name} in it"
        raise CheckpointError(msg)
    try:
        return b"".join(_chunks(members[name], name)).decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{source}: expected text in a bundle's {name}, got something else"
        raise CheckpointError(msg) from error


def copy_to_folder(
    members: Mapping[str, Member], sums: Mapping[str, str], folder: Path
) -> Iterator[Copied]:
    """Copy the files that a bundle names into an empty folder.

    Raises
    ------
    CheckpointError
        If a file is absent, or is not what its SHA-256 says.
    """
    place = _Place(members, sums)
    for name in sums:
        with (folder / name).open("wb") as file:
            for chunk in place.chunks(name):
                file.write(chunk)
                yield place.copied


def copy_to_zip(
    members: Mapping[str, Member], sums: Mapping[str, str], target: Path, name: str
) -> Iterator[Copied]:
    """Write the files that a bundle names into one zip, in a folder of that name.

    Raises
    ------
    CheckpointError
        If a file is absent, or is not what its SHA-256 says.
    OutputError
        If the disk refuses. Nothing is left then.
    """
    place = _Place(members, sums)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        number, text = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        os.close(number)
        partial = Path(text)
        with zipfile.ZipFile(partial, "w") as archive:
            for file_name in sums:
                info = zipfile.ZipInfo(f"{name}/{file_name}")
                with archive.open(info, "w", force_zip64=True) as file:
                    for chunk in place.chunks(file_name):
                        file.write(chunk)
                        yield place.copied
            archive.writestr(f"{name}/{SUMS}", sums_text(sums))
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        msg = f"{target}: expected to write a bundle, the disk refused ({error})"
        raise OutputError(msg) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


class _Place:
    """Reads members in turn, checks them, and knows how far it is."""

    def __init__(self, members: Mapping[str, Member], sums: Mapping[str, str]) -> None:
        absent = [name for name in sums if name not in members]
        if absent:
            msg = f"{absent[0]}: expected it in the bundle, it is absent; copy it again"
            raise CheckpointError(msg)
        self._members = members
        self._sums = sums
        self._total = sum(members[name].size for name in sums)
        self._done = 0

    @property
    def copied(self) -> Copied:
        """How far it is."""
        return Copied(self._done, self._total)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes; at the end their SHA-256 is compared."""
        digest = hashlib.sha256()
        for chunk in _chunks(self._members[name], name):
            digest.update(chunk)
            self._done += len(chunk)
            yield chunk
        found, expected = digest.hexdigest(), self._sums[name]
        if found != expected:
            msg = (
                f"{name}: expected SHA-256 {expected[:12]}, got {found[:12]}; the "
                "bundle is damaged, copy it again"
            )
            raise CheckpointError(msg)


def _chunks(member: Member, name: str) -> Iterator[bytes]:
    """Yield a member's bytes, and refuse what is larger than it may be."""
    if name != WEIGHTS and member.size > SMALL_BYTES:
        msg = f"{name}: expected a small file of a bundle, got {member.size:,} bytes"
        raise CheckpointError(msg)
    try:
        with member.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (zipfile.BadZipFile, EOFError) as error:
        msg = f"{name}: expected a whole file of a bundle, got a damaged one ({error})"
        raise CheckpointError(msg) from error
