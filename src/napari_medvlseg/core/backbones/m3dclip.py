"""The published weights of M3D-CLIP, under the names of our towers.

They hold the image tower with MONAI's names, BERT with those of transformers, and what
brings each into the shared space. Nothing in them is run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_medvlseg.core.checkpoint_file import read_state
from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

HUB_ID = "GoodBaiBai88/M3D-CLIP"
_RULES = (
    (
        r"vision_model\.patch_embed\.",
        "vision_encoder.patch_embedding.patch_embeddings.1.",
    ),
    (r"vision_model\.pos_embed$", "vision_encoder.patch_embedding.position_embeddings"),
    (r"vision_model\.(blocks\.\d+)\.attn\.proj\.", r"vision_encoder.\1.attn.out_proj."),
    (r"vision_model\.(blocks\.\d+)\.mlp\.fc", r"vision_encoder.\1.mlp.linear"),
    (r"vision_model\.head\.", "mm_vision_proj."),
    (r"vision_model\.", "vision_encoder."),
    (r"text_model\.transformer\.", "language_encoder."),
    (r"text_model\.proj\.", "mm_language_proj."),
)
"""Our names, and theirs; the first that fits counts."""
_NAMED = 8
"""How many keys a message names."""


class PublishedTowers(NamedTuple):
    """What a file of M3D-CLIP holds for a network."""

    state: dict[str, Tensor]
    """By our keys, in float32."""
    left_out: tuple[str, ...]
    """Their keys that the network has no place for, for instance BERT's pooler."""


def is_m3dclip(keys: Iterable[str]) -> bool:
    """Whether these keys are of M3D-CLIP's towers, without adapters."""
    return {"mm_vision_proj.weight", "mm_language_proj.weight"} <= set(keys)


def published_key(key: str) -> str:
    """Return the published name of what the network calls `key`."""
    for pattern, theirs in _RULES:
        renamed, hits = re.subn(f"^{pattern}", theirs, key)
        if hits:
            return renamed
    return key


def read_towers(path: Path, wanted: Mapping[str, torch.Size]) -> PublishedTowers:
    """Return the towers of a published file under our names.

    Parameters
    ----------
    path : Path
        ``pytorch_model.bin`` or ``model.safetensors`` of `HUB_ID`.
    wanted : mapping
        Shapes by key of what a network takes from it.

    Raises
    ------
    CheckpointError
        If it cannot be read, or tensors are missing or of another shape; the message
        names them as they are published.
    """
    published = _read(path)
    theirs = {key: published_key(key) for key in wanted}
    missing = [name for name in theirs.values() if name not in published]
    other = [
        f"{name} {list(published[name].shape)} instead of {list(wanted[key])}"
        for key, name in theirs.items()
        if name in published and published[name].shape != wanted[key]
    ]
    left_out = tuple(sorted(published.keys() - set(theirs.values())))
    if missing or other:
        problems = {
            "missing": missing,
            "of another shape": other,
            "unexpected": list(left_out),
        }
        told = "; ".join(f"{what}: {_some(k)}" for what, k in problems.items() if k)
        msg = f"{path}: expected every tensor of {HUB_ID}, {told}"
        raise CheckpointError(msg)
    state = {key: published[name].float() for key, name in theirs.items()}
    return PublishedTowers(state, left_out)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, without running anything that it holds."""
    if not path.is_file():
        msg = (
            f"{path}: expected the weights of M3D-CLIP, found no file; run: "
            f"hf download {HUB_ID}"
        )
        raise CheckpointError(msg)
    if path.suffix != ".safetensors":
        return read_state(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path}: expected a whole file of tensors, cannot read it ({error})"
        raise CheckpointError(msg) from error


def _some(keys: list[str]) -> str:
    """Return the first of some keys, and how many more there are."""
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
