"""From a bundle of a 3D model to a network that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_medvlseg.core.backbones.text_encoders import (
    TEXT_ENCODERS,
    TextTokenizer,
    find_text_folder,
    load_weights,
)
from napari_medvlseg.core.bundle import WEIGHTS, verify
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.models.bipvlseg.windows import BiPVLWindows
from napari_medvlseg.core.models.channels_last import put_channels_last
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.windows import MedCLIPSegWindows
from napari_medvlseg.core.models.medclipseg.words import (
    BERT,
    bert_tokenizer,
    minilm_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.models.volumetric import VolumeNetwork

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""Of a text encoder that no package carries: one of them lies in the bundle."""
_TEXT = "text.bert."


def build_volume_network(card: ModelCard, *, plain: bool = False) -> VolumeNetwork:
    """Return the network of a bundle, in float32, ready to answer.

    Parameters
    ----------
    card : ModelCard
    plain : bool
        Whether it stays as it is trained, and as slow; the answers are the same.

    Raises
    ------
    CheckpointError
        If the bundle is damaged or of an unknown kind, its tensors do not fit its
        configuration, or its text encoder is not there.
    """
    verify(card)
    name = card.network.get("architecture")
    if name not in NETWORKS:
        msg = (
            f"{card.path}: expected one of {sorted(NETWORKS)}, got network {name!r}, "
            "which this version does not build; update napari-medvlseg"
        )
        raise CheckpointError(msg)
    try:
        built: VolumeNetwork = NETWORKS[name](card)
        if isinstance(built, BiPVLWindows) and not plain:
            put_channels_last(built)
    except (
        *(SafetensorError, RuntimeError, TypeError, ValueError, KeyError, OSError),
    ) as error:
        reason = str(error).splitlines()[0]
        msg = f"{card.path}: expected the weights of its network, got others ({reason})"
        raise CheckpointError(msg) from error
    return built


def _bipvlseg(card: ModelCard) -> BiPVLWindows:
    """Return BiPVL-Seg with its tokenizer; a frozen text encoder comes from its own."""
    config = BiPVLConfig.from_dict(dict(card.network["config"]))
    if card.volume is not None and config.classes != len(card.volume.names):
        msg = f"{config.classes} channels for {len(card.volume.names)} classes"
        raise ValueError(msg)
    with torch.device("meta"):  # no memory, and no chance, for weights that come
        network = BiPVLSeg(config)
    state = {name: _single(x) for name, x in load_file(card.path / WEIGHTS).items()}
    tokenizer = None
    if config.has_text:
        spec = TEXT_ENCODERS[config.text]
        folder = _tokenizer_folder(card.path) or find_text_folder(config.text)
        tokenizer = TextTokenizer(spec, folder)
        if not any(name.startswith(_TEXT) for name in state):
            frozen = load_weights(spec, find_text_folder(config.text))
            state |= {f"{_TEXT}{name}": tensor for name, tensor in frozen.items()}
    network.load_state_dict(state, assign=True)
    return BiPVLWindows(network, tokenizer).eval().requires_grad_(requires_grad=False)


def _medclipseg(card: ModelCard) -> MedCLIPSegWindows:
    """Return the 3D MedCLIPSeg with its tokenizer; MiniLM comes from its package."""
    config = MedCLIPSegConfig.from_dict(dict(card.network["config"]))
    with torch.device("meta"):
        network = MedCLIPSeg(config)
    state = {name: _single(x) for name, x in load_file(card.path / WEIGHTS).items()}
    if not any(name.startswith(BERT) for name in state):
        state |= {f"{BERT}{name}": tensor for name, tensor in minilm_weights().items()}
    network.load_state_dict(state, assign=True)
    built = MedCLIPSegWindows(network, bert_tokenizer(config))
    return built.eval().requires_grad_(requires_grad=False)


NETWORKS: dict[str, Callable[[ModelCard], Any]] = {
    "bipvlseg": _bipvlseg,
    "medclipseg": _medclipseg,
}
"""Architectures by the name that bundles give."""


def _tokenizer_folder(folder: Path) -> Path | None:
    """Return the bundle's folder, if the tokenizer lies there."""
    there = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return folder if there else None


def _single(value: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32."""
    return value.float() if value.is_floating_point() else value
