"""From a bundle to a network that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_medvlseg.core.backbones.minilm import MiniLM, find_minilm
from napari_medvlseg.core.bundle import WEIGHTS, verify
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.compact import Compact, CompactConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.models.promptable import PromptReader


def _medclipseg(config: Mapping[str, Any]) -> nn.Module:
    """Return MedCLIPSeg without memory for its weights; importing it takes seconds."""
    from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig

    with torch.device("meta"):
        return MedCLIPSeg(MedCLIPSegConfig.from_dict(config))


NETWORKS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "compact": lambda config: Compact(CompactConfig(**config)),
    "medclipseg": _medclipseg,
}
"""Architectures by the name that bundles give."""


def build_network(card: ModelCard) -> nn.Module:
    """Return the network of a bundle, in float32, ready to answer.

    Raises
    ------
    CheckpointError
        If the bundle is damaged, or its tensors do not fit its configuration.
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
        network = NETWORKS[name](card.network["config"])
        state = load_file(card.path / WEIGHTS)
        single = {key: _single(value) for key, value in state.items()}
        network.load_state_dict(single, assign=True)
    except (
        SafetensorError,
        RuntimeError,
        TypeError,
        ValueError,
        KeyError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0]
        msg = f"{card.path}: expected the weights of its network, got others ({reason})"
        raise CheckpointError(msg) from error
    network.eval().requires_grad_(requires_grad=False)
    return network.to(memory_format=torch.channels_last)


def build_reader(card: ModelCard, network: nn.Module) -> PromptReader:
    """Return what turns prompts into what a bundle's network encodes.

    Raises
    ------
    CheckpointError
        If the text encoder or the vocabulary is not there.
    """
    if card.network.get("architecture") != "medclipseg":
        return MiniLM(find_minilm())
    from napari_medvlseg.core.backbones.clip_tokens import VOCABULARY, ClipTokens

    config: Any = network.config
    vocabulary = card.path / VOCABULARY if config.has_bert else None
    return ClipTokens(config.text_shape, vocabulary, padded=config.compatible)


def _single(value: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32, counters as they are; not in the file."""
    wanted = torch.float32 if value.is_floating_point() else value.dtype
    return value.to(wanted, copy=True)
