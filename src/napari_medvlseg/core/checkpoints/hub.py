"""Files of the Hugging Face hub: downloaded piece by piece, resumed, and checked.

huggingface_hub's own download no longer goes on from an interrupted one, and cannot be
stopped in between; so the address is its, and the transfer is ours.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

from napari_medvlseg.core.errors import DownloadError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from requests import Response, Session

CHUNK_BYTES = 262_144
"""Small, so that a slow download can be stopped at once."""
TIMEOUT_S = (10, 30)
"""To connect, and for the next bytes."""
_REDIRECTS = 5
_SHA256, _SHA1 = 64, 40
"""Hexadecimal digits: of large files, and of small ones, which are Git's."""


class HubFile(NamedTuple):
    """A file in a repository of the hub."""

    repo: str
    name: str
    endpoint: str | None = None
    """The hub's address; by default ``HF_ENDPOINT``, or https://huggingface.co."""

    @property
    def url(self) -> str:
        """Where it is."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo, self.name, endpoint=self.endpoint)


class Fetched(NamedTuple):
    """How far a download is, in bytes."""

    done: int
    total: int


class _Told(NamedTuple):
    """What the hub says of a file before it is fetched."""

    size: int
    digest: str


def download(file: HubFile, target: Path) -> Iterator[Fetched]:
    """Fetch a file of the hub, and yield how far it is.

    What an interrupted download left, ``TARGET.DIGEST.part``, is gone on from. The
    file has its name only once it is whole and its hash is the hub's.

    Raises
    ------
    DownloadError
        If the hub cannot be reached, has no such file, ends too early, or sends
        something else than its hash says.
    OutputError
        If the disk refuses, or is too full.
    """
    import requests

    _refuse_offline(file)
    try:
        with requests.Session() as session:
            told = _ask(session, file)
            part = target.with_name(f"{target.name}.{told.digest[:12]}.part")
            target.parent.mkdir(parents=True, exist_ok=True)
            _make_room(part, target, told)
            yield from _transfer(session, file, told, part)
    except requests.RequestException as error:
        kind = type(error).__name__
        msg = f"expected to reach {file.url}, got no connection ({kind})"
        raise DownloadError(msg) from error
    except OSError as error:
        msg = f"{target}: expected to write the download, the disk refused ({error})"
        raise OutputError(msg) from error
    part.replace(target)


def _refuse_offline(file: HubFile) -> None:
    """Raise where the user has forbidden the hub."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        msg = f"expected to reach {file.url}, but HF_HUB_OFFLINE forbids it"
        raise DownloadError(msg)


def _ask(session: Session, file: HubFile) -> _Told:
    """Ask for a file's size and hash; the hub tells them where it redirects."""
    from urllib.parse import urljoin, urlsplit

    response = _head(session, file.url, file)
    for _ in range(_REDIRECTS):
        place = response.headers.get("Location", "")
        if not response.is_redirect or urlsplit(place).netloc:
            break
        response = _head(session, urljoin(response.url, place), file)  # renamed
    headers = response.headers
    tag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
    digest = tag.removeprefix("W/").strip('"')
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    is_hash = re.fullmatch(r"[0-9a-f]+", digest) and len(digest) in (_SHA256, _SHA1)
    if not is_hash or not size.isdecimal():
        msg = (
            f"{file.url}: expected the hub to tell size and hash of the file, it does "
        )
        raise DownloadError(msg + "not; nothing was fetched")
    return _Told(int(size), digest)


def _head(session: Session, url: str, file: HubFile) -> Response:
    """Return what the hub tells of an address, without going where it redirects."""
    response = session.head(url, timeout=TIMEOUT_S, allow_redirects=False)
    _check_status(response, file)
    return response


def _make_room(part: Path, target: Path, told: _Told) -> None:
    """Remove what an earlier version of the file left, and see that this one fits."""
    for older in target.parent.glob(f"{target.name}.*.part"):
        if older != part:
            older.unlink()
    have = part.stat().st_size if part.is_file() else 0
    wanted = told.size - have
    free = shutil.disk_usage(target.parent).free
    if free < wanted:
        msg = (
            f"{target.parent}: expected {wanted / 1e9:.1f} GB of free space for the "
            f"download, got {free / 1e9:.1f}; free some"
        )
        raise OutputError(msg)


def _transfer(
    session: Session, file: HubFile, told: _Told, part: Path
) -> Iterator[Fetched]:
    """Fetch what is missing of a part, again where the connection breaks, and check it.

    Raises
    ------
    DownloadError
        If no further byte comes, or the whole is something else.
    """
    import requests

    done = part.stat().st_size if part.is_file() else 0
    yield Fetched(done, told.size)
    while done < told.size:
        before = done
        try:
            for done in _receive(session, file, part, told):
                yield Fetched(done, told.size)
        except requests.RequestException:
            done = part.stat().st_size if part.is_file() else 0
            if done <= before:
                raise
        if done <= before:
            msg = (
                f"{file.url}: expected {told.size:,} bytes, got {done:,} and no more; "
                "try again later: it goes on from there"
            )
            raise DownloadError(msg)
    found = _digest(part, told)
    if found != told.digest:
        part.unlink()
        msg = (
            f"{file.url}: expected the hash {told.digest[:12]}, got {found[:12]}; "
            "what came is removed, try again"
        )
        raise DownloadError(msg)


def _receive(session: Session, file: HubFile, part: Path, told: _Told) -> Iterator[int]:
    """Append to a part what one request brings, and yield how many bytes are there."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(
        file.url, headers=headers, stream=True, timeout=TIMEOUT_S
    ) as response:
        _check_status(response, file)
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if response.status_code == 206 and goes_on else 0
        with part.open("ab" if have else "wb") as stream:
            for chunk in response.iter_content(CHUNK_BYTES):
                stream.write(chunk)
                have += len(chunk)
                if have > told.size:
                    break
                yield have


def _check_status(response: Response, file: HubFile) -> None:
    """Raise what a server's refusal means."""
    code = response.status_code
    if code < 400:
        return
    reasons = {
        401: "it is absent or private",
        403: "it is not public",
        404: "there is no such file",
        429: "too many requests, try again later",
    }
    why = reasons.get(code, "try again later" if code >= 500 else "it refuses")
    msg = f"{file.url}: expected the file, the hub answers {code}: {why}"
    raise DownloadError(msg)


def _digest(path: Path, told: _Told) -> str:
    """Return a file's hash of the kind that the hub tells."""
    with path.open("rb") as file:
        if len(told.digest) == _SHA256:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = f"blob {path.stat().st_size}\0".encode()
        blob = hashlib.sha1(start, usedforsecurity=False)
        while chunk := file.read(CHUNK_BYTES):
            blob.update(chunk)
        return blob.hexdigest()
