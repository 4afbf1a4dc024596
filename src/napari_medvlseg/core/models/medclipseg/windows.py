"""The 3D network as a predictor of volumes asks it: read, look, draw.

Each text is a question of its own, with a channel and a sigmoid.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from napari_medvlseg.core.models.medclipseg.head import enlarge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.backbones.text_encoders import TextTokenizer
    from napari_medvlseg.core.models.medclipseg.network import ImageTokens, MedCLIPSeg
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class Question(NamedTuple):
    """A text before the first adapter."""

    words: Tensor
    """(1, L, channels)"""
    mask: Tensor
    """(1, L) bool, False at padding."""


class Seen(NamedTuple):
    """A window before the first adapter, and what is asked about it."""

    image: ImageTokens
    questions: tuple[Question, ...]


class MedCLIPSegWindows(nn.Module):
    """A 3D MedCLIPSeg with the tokenizer of its prompts.

    Parameters
    ----------
    network : MedCLIPSeg
    tokenizer : TextTokenizer
    """

    exclusive = False

    def __init__(self, network: MedCLIPSeg, tokenizer: TextTokenizer) -> None:
        super().__init__()
        self.network = network
        self._tokenizer = tokenizer

    @property
    def samples(self) -> bool:
        """Whether two draws differ."""
        return self.network.samples

    @property
    def width(self) -> int:
        """Channels at full resolution; fewer where the logits are coarser."""
        shape = self.network.config.vision_shape
        cells = prod(side << self.network.config.upscale_blocks for side in shape.grid)
        return ceil(shape.embed_dim * cells / prod(shape.image))

    def read(self, texts: Sequence[str]) -> tuple[Question, ...]:
        """Return what no window touches of the texts.

        Raises
        ------
        PromptError
            If one is too long.
        """
        return tuple(self._read(text) for text in texts)

    def look(self, window: Tensor, words: tuple[Question, ...]) -> Seen:
        """Return what no noise touches of a window (1, 1, I, J, K), in float32.

        Raises
        ------
        ImageError
            If the window is not of the network's size.
        """
        with torch.autocast(window.device.type, enabled=False):
            return Seen(self.network.encode_normalised(window), words)

    def draw(self, seen: Seen, draws: int, noise: NoiseSource) -> Tensor:
        """Return the logits of several draws, (S, P, I, J, K).

        The noise of a draw is the same for every prompt, whatever the others are.
        """
        shared = _SharedNoise(
            noise, seen.image.tokens.shape[1], self.network.config.text_shape.max_tokens
        )
        return torch.cat(
            [self._answer(seen.image, each, draws, shared) for each in seen.questions],
            dim=1,
        )

    def _read(self, text: str) -> Question:
        """Return one text before the first adapter."""
        network = self.network
        ids = self._tokenizer([text]).ids.to(next(network.parameters()).device)
        if network.config.compatible:
            lacking = network.config.text_shape.max_tokens - ids.shape[1]
            ids = nn.functional.pad(ids, (0, lacking))
        return Question(network.encode_words(ids), network.word_mask(ids))

    def _answer(
        self, image: ImageTokens, asked: Question, draws: int, noise: _SharedNoise
    ) -> Tensor:
        """Return the logits of one prompt, (S, 1, I, J, K)."""
        noise.restart()
        drawn = self.network.draw(
            image.expand(draws),
            asked.words.expand(draws, -1, -1),
            asked.mask.expand(draws, -1),
            noise,
        )
        return enlarge(drawn.logits, image.input_size)


class _SharedNoise:
    """Noise that is drawn once and given to one prompt after the other.

    Texts are asked for at their greatest length and cut, so that a longer prompt does
    not shift what comes after it.
    """

    def __init__(self, noise: NoiseSource, image_tokens: int, text_tokens: int) -> None:
        self._noise = noise
        self._lengths = image_tokens, text_tokens
        self._kept: list[Tensor] = []
        self._next = 0

    def restart(self) -> None:
        """Begin anew for the next prompt."""
        self._next = 0

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Return noise for (B, tokens, D)."""
        draws, tokens, channels = shape
        image_tokens, text_tokens = self._lengths
        if self._next == len(self._kept):
            whole = image_tokens if tokens == image_tokens else text_tokens
            self._kept.append(self._noise((draws, whole, channels)))
        self._next += 1
        return self._kept[self._next - 1][:, :tokens]
