"""The user's models: install, carry away, check and remove bundles.

A bundle travels as a folder or as one zip file. Nothing here opens a connection.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

from napari_medvlseg.core.backbones.vocabulary import VOCABULARY, read_vocabulary
from napari_medvlseg.core.bundle import (
    CONFIG,
    SUMS,
    ModelCard,
    models_folder,
    packaged_folder,
    parse_sums,
    read_card,
    sha256_of,
    to_json,
    verify,
    write_sums,
)
from napari_medvlseg.core.checkpoints.copying import (
    NAME,
    Copied,
    copy_to_folder,
    copy_to_zip,
    opened_bundle,
    read_small,
)
from napari_medvlseg.core.config import cache_folder
from napari_medvlseg.core.errors import CheckpointError, OutputError
from napari_medvlseg.core.staging import staged_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_medvlseg.core.checkpoints.copying import Member


def downloads_folder() -> Path:
    """Return where downloads lie until they are installed."""
    return cache_folder() / "downloads"


def holds_bundle(path: Path) -> bool:
    """Whether a path is a bundle's folder, or a zip that holds one.

    PyTorch's checkpoints are zip files, too.
    """
    if path.is_dir():
        return True
    if not zipfile.is_zipfile(path):
        return False
    with opened_bundle(path) as members:
        return CONFIG in members


def installed_ids() -> list[str]:
    """Return the ids of all models that are there, the damaged ones included."""
    folders = [*packaged_folder().glob("*"), *models_folder().glob("[!.]*")]
    names = [folder.name for folder in folders if (folder / CONFIG).is_file()]
    return sorted(set(names))


def free_place(name: str, *, overwrite: bool) -> Path:
    """Return the folder that a model of that name is installed in.

    Raises
    ------
    CheckpointError
        If the name cannot be one.
    OutputError
        If a model of that name is there, and is not to be replaced.
    """
    if not NAME.fullmatch(name):
        msg = f"expected a name of letters, digits, '.', '_' and '-', got {name!r}"
        raise CheckpointError(msg)
    if (packaged_folder() / name).exists():
        msg = f"{name}: a model of that name comes with the package; choose another"
        raise OutputError(msg)
    folder = models_folder() / name
    if folder.exists() and not overwrite:
        msg = (
            f"{name}: is installed already; choose another name (--name) or replace "
            "it (--overwrite)"
        )
        raise OutputError(msg)
    return folder


def install_bundle(
    source: Path, name: str | None = None, *, overwrite: bool = False
) -> Iterator[Copied]:
    """Copy a bundle to the user's models, and yield how far it is.

    Parameters
    ----------
    source : Path
        A bundle's folder, or the zip file of one.
    name : str, optional
        The model's id; by default the bundle's own.
    overwrite : bool
        Whether an installed model of that name is replaced.

    Raises
    ------
    CheckpointError
        If it is no whole bundle, or a file is not what its SHA-256 says.
    OutputError
        If a model of that name is there, or the disk refuses. Nothing is left then.
    """
    last = Copied(0, 0)
    with opened_bundle(source) as members:
        own = _own_name(members, source)
        folder = free_place(own if name is None else name, overwrite=overwrite)
        with staged_folder(folder) as staging:
            for last in _copy(members, source, staging, name):
                yield last
            read_card(staging)
    yield last._replace(path=folder)


def pack_bundle(
    card: ModelCard, target: Path, *, overwrite: bool = False
) -> Iterator[Copied]:
    """Copy a bundle to a folder, or into one file if that is called ``.zip``.

    Raises
    ------
    CheckpointError
        If a file is absent, or is not what its SHA-256 says.
    OutputError
        If the target is there, or the disk refuses. Nothing is left then.
    """
    if target.exists() and not overwrite:
        msg = f"{target}: exists; choose another --output or pass --overwrite"
        raise OutputError(msg)
    last = Copied(0, 0)
    with opened_bundle(card.path) as members:
        if target.suffix.lower() == ".zip":
            sums = _sums(members, card.path)
            for last in copy_to_zip(members, sums, target, card.model_id):
                yield last
        else:
            with staged_folder(target) as staging:
                for last in _copy(members, card.path, staging, None):
                    yield last
    yield last._replace(path=target)


def remove_model(model_id: str) -> Path:
    """Remove an installed model and what is left of its download; return its folder.

    Raises
    ------
    CheckpointError
        If no such model is installed.
    OutputError
        If it comes with the package, or the disk refuses.
    """
    folder = models_folder() / model_id
    is_name = NAME.fullmatch(model_id) is not None
    parts = [*downloads_folder().glob(f"{model_id}.pth*")] if is_name else []
    if not is_name or not (folder.is_dir() or parts):
        if (packaged_folder() / model_id / CONFIG).is_file():
            msg = f"{model_id}: comes with the package and stays as long as it does"
            raise OutputError(msg)
        there = sorted(path.name for path in models_folder().glob("[!.]*"))
        msg = f"expected an installed model ({', '.join(there) or 'there is none'}), "
        raise CheckpointError(msg + f"got {model_id!r}")
    try:
        for part in parts:
            part.unlink()
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        msg = f"{folder}: expected to remove it, the disk refused ({error})"
        raise OutputError(msg) from error
    return folder


def check_model(card: ModelCard) -> None:
    """Compare a bundle's files with their SHA-256, and its vocabulary with what fits.

    Raises
    ------
    CheckpointError
        If it is damaged or incomplete.
    """
    verify(card)
    if card.tokenizer.get("file") == VOCABULARY:
        read_vocabulary(card.path / VOCABULARY)


def _own_name(members: Mapping[str, Member], source: Path) -> str:
    """Return the id that a bundle gives its model."""
    try:
        return str(json.loads(read_small(members, CONFIG, source))["model_id"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{source}: expected a bundle's {CONFIG}, cannot read it ({error})"
        raise CheckpointError(msg) from error


def _sums(members: Mapping[str, Member], source: Path) -> dict[str, str]:
    """Return the SHA-256 of a bundle's files, those added later included.

    Who completes a bundle copies the vocabulary into its folder, where it has no hash.
    """
    sums = parse_sums(read_small(members, SUMS, source), source)
    if VOCABULARY in members and VOCABULARY not in sums and source.is_dir():
        read_vocabulary(source / VOCABULARY)
        sums[VOCABULARY] = sha256_of(source / VOCABULARY)
    return sums


def _copy(
    members: Mapping[str, Member], source: Path, folder: Path, name: str | None
) -> Iterator[Copied]:
    """Copy a whole bundle into an empty folder, under another name if there is one."""
    sums = _sums(members, source)
    yield from copy_to_folder(members, sums, folder)
    if name is not None and name != _own_name(members, source):
        config = json.loads(read_small(members, CONFIG, source))
        (folder / CONFIG).write_bytes(to_json({**config, "model_id": name}))
        sums[CONFIG] = sha256_of(folder / CONFIG)
    write_sums(folder, sums)
