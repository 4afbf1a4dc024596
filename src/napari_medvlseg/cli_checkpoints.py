"""`medvlseg models import`, `fetch`, `remove` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medvlseg.cli_terminal import complain, progress, say, tell
from napari_medvlseg.core.errors import MedVLSegError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from napari_medvlseg.core.bundle import ModelCard

MEGABYTE = 1_000_000


def run_import(options: argparse.Namespace) -> int:
    """Install a checkpoint or a bundle."""
    from napari_medvlseg.core.checkpoints.importing import (  # brings torch
        ImportOptions,
        import_model,
    )

    how = ImportOptions(
        name=options.name, tokenizer=options.tokenizer, overwrite=options.overwrite
    )
    card: ModelCard | None = None
    unexpected: tuple[str, ...] = ()
    with progress("writing (MB)", None) as move:
        for step in import_model(options.file, how):
            _move(move, step.done, step.total, "writing (MB)")
            card, unexpected = step.card, step.unexpected
    for key in unexpected:
        tell(f"left out: {key} (unexpected)")
    if card is not None:
        _say_installed(card)
    return 0


def run_fetch(options: argparse.Namespace) -> int:
    """Download and install a released checkpoint."""
    from napari_medvlseg.core.checkpoints.fetch import fetch_model

    card = None
    with progress("asking the hub", None) as move:
        for step in fetch_model(options.model, overwrite=options.overwrite):
            _move(move, step.done, step.total, f"{step.what} (MB)")
            card = step.card
    if card is not None:
        _say_installed(card)
    return 0


def run_remove(options: argparse.Namespace) -> int:
    """Remove installed models."""
    from napari_medvlseg.core.checkpoints.store import remove_model

    for model in options.models:
        say(f"removed {remove_model(model)}")
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Check the files of models, all of them before it ends."""
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.checkpoints.store import check_model, installed_ids

    damaged = 0
    for model in options.models or installed_ids():
        try:
            check_model(model_card(model))
            say(f"{model}: whole")
        except MedVLSegError as error:
            damaged += 1
            complain(str(error))
    return 2 if damaged else 0


def _move(
    move: Callable[[int, int, str], None], done: int, total: int, label: str
) -> None:
    """Show bytes as megabytes."""
    move(done // MEGABYTE, total // MEGABYTE, label)


def _say_installed(card: ModelCard) -> None:
    """Say where a model is, and what is left to do."""
    say(f"installed {card.model_id} in {card.path}")
    if card.lack:
        tell(f"incomplete: {card.lack}")
    else:
        say(f"use it with --model {card.model_id}")
