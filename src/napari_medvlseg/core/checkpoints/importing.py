"""From an authors' checkpoint to a bundle of ours, without building its network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_medvlseg.core.backbones.m3dclip import is_m3dclip
from napari_medvlseg.core.backbones.vocabulary import (
    VOCABULARY,
    find_vocabulary,
    tokenizer_config,
    vocabulary_text,
)
from napari_medvlseg.core.bundle import (
    CARD,
    CONFIG,
    FIGURES,
    FORMAT,
    WEIGHTS,
    ModelCard,
    read_card,
    to_json,
    write_sums,
)
from napari_medvlseg.core.checkpoint_file import read_state
from napari_medvlseg.core.checkpoints.card import bundle_config, checkpoint_card
from napari_medvlseg.core.checkpoints.store import (
    free_place,
    holds_bundle,
    install_bundle,
)
from napari_medvlseg.core.checkpoints.weights import write_weights
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.medclipseg_layout import (
    Layout,
    aliases,
    recognise,
)
from napari_medvlseg.core.released import released, released_at
from napari_medvlseg.core.staging import staged_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

NAMED = 8
"""How many keys a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a checkpoint becomes a bundle."""

    name: str | None = None
    """The model's id; by default the released one of its folder, or its variant's."""
    tokenizer: Path | None = None
    """Folder of BiomedBERT's tokenizer; by default the Hugging Face cache."""
    overwrite: bool = False
    """Whether an installed model of that name is replaced."""


class Advance(NamedTuple):
    """How far an import is, in bytes; with the model's card at the end."""

    done: int
    total: int
    card: ModelCard | None = None
    unexpected: tuple[str, ...] = ()
    """Keys of the checkpoint that its network does not have; they are left out."""


class _Inspected(NamedTuple):
    """What a checkpoint holds."""

    layout: Layout
    keys: list[str]
    """What the bundle gets: every tensor once."""
    unexpected: tuple[str, ...]
    parameters: int


def import_model(path: Path, options: ImportOptions) -> Iterator[Advance]:
    """Install an authors' checkpoint or a bundle, and yield how far it is.

    Parameters
    ----------
    path : Path
        A ``.pth`` file, or a bundle as a folder or zip.
    options : ImportOptions

    Raises
    ------
    CheckpointError
        If it is neither, or not whole; or if a tokenizer is given for a bundle.
    OutputError
        If a model of that name is there, or the disk refuses. Nothing is left then.
    """
    if not path.exists():
        msg = f"{path}: expected a checkpoint or a bundle, found none"
        raise CheckpointError(msg)
    if not holds_bundle(path):
        yield from import_checkpoint(path, options)
        return
    if options.tokenizer is not None:
        msg = (
            f"{path}: expected no tokenizer folder (--tokenizer) for a bundle, which "
            "has its own; leave it out"
        )
        raise CheckpointError(msg)
    for step in install_bundle(path, options.name, overwrite=options.overwrite):
        card = None if step.path is None else read_card(step.path)
        yield Advance(step.done, step.total, card)


def import_checkpoint(path: Path, options: ImportOptions) -> Iterator[Advance]:
    """Write an authors' checkpoint as an installed bundle, and yield how far it is.

    Parameters
    ----------
    path : Path
        A ``.pth`` file: a state dict, or one under ``"model"``.
    options : ImportOptions

    Raises
    ------
    CheckpointError
        If it is no checkpoint of MedCLIPSeg, lacks tensors, or holds code; or if the
        tokenizer is another model's.
    OutputError
        If a model of that name is there, or the disk refuses. Nothing is left then.
    """
    inspected = _inspect(path)
    known = released_at(path)
    if known is None and options.name is not None:
        known = released(options.name)
    variant = inspected.layout.variant
    if variant != "unimedclip":  # the released ones are
        known = None
    default = known.model_id if known else f"medclipseg-{variant}"
    folder = free_place(options.name or default, overwrite=options.overwrite)
    tokenizer = tokenizer_config(variant)
    words = find_vocabulary(options.tokenizer) if "file" in tokenizer else None
    with staged_folder(folder) as staging:
        sums: dict[str, str] = {}
        for written in write_weights(path, staging / WEIGHTS, inspected.keys):
            yield Advance(written.done, written.total)
            if written.sha256 is not None:
                sums[WEIGHTS] = written.sha256
        config = {
            "format": FORMAT,
            **bundle_config(folder.name, inspected.layout, known),
            "parameters": inspected.parameters,
            "tokenizer": tokenizer,
            "imported": {"file": path.name, "left_out": list(inspected.unexpected)},
        }
        figures = {"note": "not measured here; run medvlseg evaluate on your own data"}
        texts = _texts(config, figures, words)
        for name, data in texts.items():
            (staging / name).write_bytes(data)
            sums[name] = hashlib.sha256(data).hexdigest()
        write_sums(staging, sums)
    total = (folder / WEIGHTS).stat().st_size
    yield Advance(total, total, read_card(folder), inspected.unexpected)


def _texts(
    config: Mapping[str, Any], figures: Mapping[str, Any], words: Sequence[str] | None
) -> dict[str, bytes]:
    """Return the small files of a bundle by name."""
    texts = {
        CONFIG: to_json(config),
        CARD: checkpoint_card(config).encode(),
        FIGURES: to_json(figures),
    }
    if words is not None:
        texts[VOCABULARY] = vocabulary_text(words).encode()
    return texts


def _inspect(path: Path) -> _Inspected:
    """Recognise a checkpoint and compare its keys with its network's.

    Raises
    ------
    CheckpointError
        If it is no MedCLIPSeg, or tensors are missing or of another shape.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in read_state(path).items()}
    if is_m3dclip(shapes):
        msg = (
            f"{path}: expected a checkpoint with adapters, got the towers of M3D-CLIP "
            "alone; train adapters on them: medvlseg train --preset "
            f"medclipseg-3d-m3dclip --towers {path.name}"
        )
        raise CheckpointError(msg)
    layout = recognise(shapes)
    if layout is None:
        msg = (
            f"{path}: expected a checkpoint of MedCLIPSeg (unimedclip, biomedclip, "
            f"clip or pubmedclip), got other keys: {_some(list(shapes))}"
        )
        raise CheckpointError(msg)
    expected = layout.shapes()
    repeated = aliases(layout.variant)
    missing = [key for key in expected if key not in shapes and key not in repeated]
    other = [
        f"{key} {list(shapes[key])} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in shapes and shapes[key] != shape
    ]
    unexpected = tuple(key for key in shapes if key not in expected)
    if missing or other:
        problems = {
            "missing": missing,
            "of another shape": other,
            "unexpected": list(unexpected),
        }
        told = "; ".join(f"{what}: {_some(k)}" for what, k in problems.items() if k)
        msg = f"{path}: expected every tensor of MedCLIPSeg on {layout.variant}, {told}"
        raise CheckpointError(msg)
    keys = [key for key in expected if key not in repeated]
    parameters = sum(prod(expected[key]) for key in keys if is_trained(key))
    return _Inspected(layout, keys, unexpected, parameters)


def is_trained(key: str) -> bool:
    """Whether the authors train a tensor; the towers of CLIP are frozen."""
    return key.startswith(("pvl_adapters.", "mask_head.", "upscale."))


def _some(keys: Sequence[str]) -> str:
    """Return the first of some keys, and how many more there are."""
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")
