"""The checkpoint of a training run: written whole or not at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import torch

from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHECKPOINT = "checkpoint.pt"


def write_checkpoint(
    output: Path, config: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write a run's state beside the old one, then put it in its place.

    Parameters
    ----------
    output : Path
        The run's folder; gets ``checkpoint.pt`` and ``config.json``.
    config : mapping
        Of the run, for JSON.
    state : mapping
        What `read_checkpoint` is to return.
    """
    partial = output / f"{CHECKPOINT}.partial"
    torch.save({"config": dict(config), **state}, partial)
    partial.replace(output / CHECKPOINT)
    text = json.dumps(dict(config), indent=2)
    (output / "config.json").write_text(text, encoding="utf-8")


def read_checkpoint(
    output: Path, config: Mapping[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """Return the state of the last checkpoint; None if there is none.

    Raises
    ------
    CheckpointError
        If it was made with another configuration.
    """
    path = output / CHECKPOINT
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["config"] != dict(config):
        theirs, ours = state["config"], dict(config)
        names = sorted(theirs.keys() | ours.keys())
        other = [name for name in names if theirs.get(name) != ours.get(name)]
        msg = (
            f"{path}: expected a run of the same configuration, got another "
            f"{', '.join(other)}; choose a new --output or the settings in its "
            "config.json"
        )
        raise CheckpointError(msg)
    return state


def remove_partial(output: Path) -> None:
    """Delete a checkpoint that was being written when the run was stopped."""
    partial = output / f"{CHECKPOINT}.partial"
    if partial.exists():
        os.remove(partial)  # noqa: PTH107
