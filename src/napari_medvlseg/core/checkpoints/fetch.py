"""A released checkpoint: download, then import; and what to do without a network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from napari_medvlseg.core.backbones.vocabulary import (
    HUB_IDS,
    VOCABULARY,
    find_vocabulary,
    read_vocabulary,
)
from napari_medvlseg.core.bundle import models_folder
from napari_medvlseg.core.checkpoints.hub import HubFile, download
from napari_medvlseg.core.checkpoints.store import downloads_folder, free_place
from napari_medvlseg.core.errors import CheckpointError, DownloadError
from napari_medvlseg.core.released import RELEASED, released

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.released import Released


class FetchStep(NamedTuple):
    """How far a model is on its way; with its card once it is installed."""

    what: str
    """``"downloading"`` or ``"installing"``."""
    done: int
    """Bytes."""
    total: int
    card: ModelCard | None = None


def fetch_model(
    model_id: str, endpoint: str | None = None, *, overwrite: bool = False
) -> Iterator[FetchStep]:
    """Download and install a released checkpoint, and yield how far it is.

    Who stops asking cancels: what is there of the download stays, and the next call
    goes on from it. The network is closed once the checkpoint and the vocabulary are
    there.

    Parameters
    ----------
    model_id : str
        Of `RELEASED`.
    endpoint : str, optional
        The hub's address; by default ``HF_ENDPOINT``, or https://huggingface.co.
    overwrite : bool
        Whether an installed model of that name is replaced.

    Raises
    ------
    CheckpointError
        If no released checkpoint is called so, or what came is none.
    DownloadError
        If it cannot be fetched; the message says how to do without.
    OutputError
        If a model of that name is there, or the disk refuses.
    """
    entry = released(model_id)
    if entry is None:
        ids = ", ".join(each.model_id for each in RELEASED if each.percent == 100)
        msg = (
            f"expected the id of a released model ({ids}; with -10, -25 or -50 of less "
            f"data), got {model_id!r}; medvlseg models list names all"
        )
        raise CheckpointError(msg)
    free_place(model_id, overwrite=overwrite)
    path = downloads_folder() / f"{model_id}.pth"
    try:
        if not path.is_file():
            file = HubFile(entry.repo, entry.file, endpoint)
            for got in download(file, path):
                yield FetchStep("downloading", got.done, got.total)
    except DownloadError as error:
        msg = f"{error}; {without_network(entry)}"
        raise DownloadError(msg) from error
    with TemporaryDirectory(prefix="medvlseg-") as folder:
        tokenizer = _vocabulary_folder(Path(folder), endpoint)
        yield from _install(path, model_id, tokenizer, overwrite=overwrite)
    path.unlink(missing_ok=True)


def without_network(entry: Released) -> str:
    """Return what to copy where on a machine that cannot reach the hub."""
    return (
        f"without a network, get {entry.url} elsewhere, copy it here and run: medvlseg "
        f"models import FILE.pth --name {entry.model_id} --tokenizer DIR, where DIR "
        f"holds {VOCABULARY} of {HUB_IDS[0]}; or copy the whole folder "
        f"{entry.model_id} of a machine that has it to {models_folder()}"
    )


def _install(
    path: Path, model_id: str, tokenizer: Path | None, *, overwrite: bool
) -> Iterator[FetchStep]:
    """Import a downloaded checkpoint; what is none is removed."""
    from napari_medvlseg.core.checkpoints.importing import (  # brings torch
        ImportOptions,
        import_checkpoint,
    )

    options = ImportOptions(name=model_id, tokenizer=tokenizer, overwrite=overwrite)
    try:
        for step in import_checkpoint(path, options):
            yield FetchStep("installing", step.done, step.total, step.card)
    except CheckpointError:
        path.unlink(missing_ok=True)
        raise


def _vocabulary_folder(folder: Path, endpoint: str | None) -> Path | None:
    """Return a folder with BiomedBERT's vocabulary, fetched if it is not cached.

    None where it cannot be fetched: the model is then installed incomplete.
    """
    if find_vocabulary() is not None:
        return None
    file = HubFile(HUB_IDS[0], VOCABULARY, endpoint)
    try:
        for _ in download(file, folder / VOCABULARY):
            pass
        read_vocabulary(folder / VOCABULARY)
    except (CheckpointError, DownloadError):
        return None
    return folder
