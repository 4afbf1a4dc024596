"""The word pieces of the text towers: where they are found, and whether they fit.

A checkpoint holds no vocabulary. CLIP's comes with open_clip; BiomedBERT's is a file.
Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

VOCABULARY = "vocab.txt"
_FAST = "tokenizer.json"
HUB_IDS = (
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
)
"""Repositories of the hub that hold BiomedBERT's vocabulary."""
WORD_PIECES = 30522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first word pieces of BiomedBERT; other BERTs have them elsewhere."""


def tokenizer_config(variant: str) -> dict[str, Any]:
    """Return how a variant's prompts become numbers, for ``config.json``."""
    if variant in ("clip", "pubmedclip"):
        return {"kind": "clip", "package": "open_clip", "max_tokens": 77}
    return {
        "kind": "bert",
        "file": VOCABULARY,
        "lowercase": True,
        "max_tokens": 256,
        "hub_id": HUB_IDS[0],
    }


def find_vocabulary(folder: Path | None = None) -> list[str] | None:
    """Return BiomedBERT's word pieces from a folder, or else the hub's cache.

    Parameters
    ----------
    folder : Path, optional
        Holds ``vocab.txt`` or ``tokenizer.json``; the cache is not looked at then.

    Returns
    -------
    list of str or None
        None if the cache has none.

    Raises
    ------
    CheckpointError
        If the folder has none, or holds that of another model.
    """
    if folder is not None:
        for name in (VOCABULARY, _FAST):
            if (folder / name).is_file():
                return read_vocabulary(folder / name)
        msg = f"{folder}: expected {VOCABULARY} or {_FAST} of {HUB_IDS[0]}, found none"
        raise CheckpointError(msg)
    from huggingface_hub import try_to_load_from_cache

    for hub_id in HUB_IDS:
        for name in (VOCABULARY, _FAST):
            cached = try_to_load_from_cache(hub_id, name)
            if isinstance(cached, str):
                return read_vocabulary(Path(cached))
    return None


def read_vocabulary(path: Path) -> list[str]:
    """Return the word pieces of a file, in the order of their numbers.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not BiomedBERT's: with another model's numbers
        every prompt would mean something else, unnoticed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            numbers: dict[str, int] = json.loads(text)["model"]["vocab"]
            words = sorted(numbers, key=lambda word: numbers[word])
        else:
            words = text.removesuffix("\n").split("\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: expected the vocabulary of {HUB_IDS[0]}, cannot read it "
        msg += f"({error})"
        raise CheckpointError(msg) from error
    if len(words) != WORD_PIECES or tuple(words[: len(SPECIAL)]) != SPECIAL:
        begins = " ".join(words[: len(SPECIAL)])[:60]
        msg = (
            f"{path}: expected the {WORD_PIECES} word pieces of {HUB_IDS[0]}, which "
            f"begin with {' '.join(SPECIAL)}, got {len(words)} that begin with {begins}"
        )
        raise CheckpointError(msg)
    return words


def vocabulary_text(words: Sequence[str]) -> str:
    """Return what ``vocab.txt`` holds."""
    return "\n".join(words) + "\n"
