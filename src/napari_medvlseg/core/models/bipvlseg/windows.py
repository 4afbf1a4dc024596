"""BiPVL-Seg as a predictor of volumes asks it: read, look, draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medvlseg.core.backbones.text_encoders import TextTokenizer
    from napari_medvlseg.core.models.bipvlseg.network import (
        BiPVLSeg,
        Descriptions,
        Looked,
    )
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class BiPVLWindows(nn.Module):
    """A BiPVL-Seg network with the tokenizer of its texts.

    Parameters
    ----------
    network : BiPVLSeg
    tokenizer : TextTokenizer, optional
        None for the text-free twin.
    """

    def __init__(self, network: BiPVLSeg, tokenizer: TextTokenizer | None) -> None:
        super().__init__()
        self.network = network
        self._tokenizer = tokenizer

    @property
    def exclusive(self) -> bool:
        """Return whether the classes exclude one another."""
        return not self.network.config.overlapping

    @property
    def samples(self) -> bool:
        """Return whether two draws differ."""
        config = self.network.config
        draws = config.probabilistic and config.noise_form != "none"
        return draws and config.has_text and bool(config.fused_stages)

    @property
    def width(self) -> int:
        """Return the channels at full resolution."""
        return self.network.config.widths[0]

    def read(self, texts: Sequence[str]) -> Descriptions | None:
        """Run the first text stage on the classes' descriptions."""
        if self._tokenizer is None:
            return None
        pieces = self._tokenizer(texts)
        device = next(self.network.parameters()).device
        moved = type(pieces)(pieces.ids.to(device), pieces.mask.to(device))
        return self.network.describe(moved)

    def look(self, window: Tensor, words: Descriptions | None) -> Looked:
        """Run what no noise touches of a window (1, channels, I, J, K)."""
        return self.network.look(
            window.contiguous(memory_format=torch.channels_last_3d), words
        )

    def draw(self, seen: Looked, draws: int, noise: NoiseSource) -> Tensor:
        """Return the logits of several draws, (S, C, I, J, K)."""
        device = seen.features.device.type
        if torch.is_autocast_enabled(device):  # else it would be cast in every draw
            seen = seen.light(torch.get_autocast_dtype(device))
        return self.network.draw(seen.expand(draws), noise).logits
