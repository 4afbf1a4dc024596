"""From a bundle to a network that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from napari_medvlseg.core.bundle import WEIGHTS, verify
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.compact import Compact, CompactConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_medvlseg.core.bundle import ModelCard

NETWORKS: dict[str, Callable[[Mapping[str, Any]], Compact]] = {
    "compact": lambda config: Compact(CompactConfig(**config)),
}
"""Architectures by the name that bundles give."""


def build_network(card: ModelCard) -> Compact:
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
        state = load((card.path / WEIGHTS).read_bytes())
        network.load_state_dict({key: _single(value) for key, value in state.items()})
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


def _single(value: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32; counters stay."""
    return value.float() if value.is_floating_point() else value
