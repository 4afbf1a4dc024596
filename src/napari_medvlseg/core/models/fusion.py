"""Bidirectional fusion of pixels and words at one stage of a pyramid.

BiPVL-Seg's BiFusion (its equation 2: self-attention in each modality, text attends
to vision, MLP, vision attends to the updated text) with MedCLIPSeg's probabilistic
attention in both directions. Symbols: B batch, L words, T = H W pixels, D channels.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.models.probabilistic_attention import (
    Gathered,
    NoiseSource,
    Prepared,
    ProbabilisticCrossAttention,
)

POOLED_SIDE = 8
"""Pixels attend to one another through at most 8 x 8 pooled keys: linear in T."""


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself or to a shorter copy of it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim, 2 * dim)
        self.to_output = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, context: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return the attended context (B, Q, D); `mask` (B, K) is False at padding."""
        q = self._split(self.to_query(query))
        key, value = self.to_key_value(context).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            q,
            self._split(key),
            self._split(value),
            attn_mask=None if mask is None else mask[:, None, None, :],
        )
        output: Tensor = self.to_output(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, T, D) to (B, heads, T, D / heads)."""
        split: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split


class BiFusion(nn.Module):
    """Let the words look at the pixels, then the pixels at the updated words.

    Parameters
    ----------
    dim, heads, uncertainty_penalty, noise_form, dropout
        Of `ProbabilisticCrossAttention`.
    noise_scales : two floats
        Factors of the noise of the pixels' and of the words' values.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        uncertainty_penalty: float,
        noise_form: str = "token",
        dropout: float = 0.1,
        noise_scales: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        gaussian = partial(
            ProbabilisticCrossAttention,
            dim,
            heads=heads,
            uncertainty_penalty=uncertainty_penalty,
            noise_form=noise_form,
            dropout=dropout,
        )
        self.norm_vision_self = nn.LayerNorm(dim)
        self.norm_text_self = nn.LayerNorm(dim)
        self.vision_self = SelfAttention(dim, heads)
        self.text_self = SelfAttention(dim, heads)
        self.norm_vision = nn.LayerNorm(dim)
        self.norm_text = nn.LayerNorm(dim)
        self.text_to_vision = gaussian(noise_scale=noise_scales[0])
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.norm_updated_text = nn.LayerNorm(dim)
        self.vision_to_text = gaussian(noise_scale=noise_scales[1])

    def forward(
        self, pixels: Tensor, words: Tensor, word_mask: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Return updated pixels (B, D, H, W) and words (B, L, D)."""
        prepared, text = self.look(pixels, words, word_mask, noise)
        return self.see(prepared, pixels.shape[-2:], noise), text

    def look(
        self, pixels: Tensor, words: Tensor, word_mask: Tensor, noise: NoiseSource
    ) -> tuple[Prepared, Tensor]:
        """Return what the pixels see the words through, and the updated words.

        No noise but that of the pixels' values is in it.
        """
        vision = pixels.flatten(2).transpose(1, 2)  # (B, T, D)
        vision = self._mix_pixels(vision, pixels)
        text = self.norm_text_self(words)
        text = words + self.text_self(text, text, word_mask)
        seen = self.norm_vision(vision)
        text = self.text_to_vision(self.norm_text(text), seen, noise, residual=text)
        text = text + self.mlp(self.norm_mlp(text))  # (B, L, D)
        prepared = self.vision_to_text.prepare(
            seen,
            self.norm_updated_text(text),
            residual=vision,
            context_mask=word_mask,
        )
        return prepared, text

    def see(
        self, prepared: Prepared | Gathered, size: torch.Size, noise: NoiseSource
    ) -> Tensor:
        """Return the pixels (B, D, H, W) of a draw, with the noise of the words."""
        vision = self.vision_to_text.attend(prepared, noise)
        seen: Tensor = vision.transpose(1, 2).unflatten(2, size)
        return seen

    def _mix_pixels(self, vision: Tensor, pixels: Tensor) -> Tensor:
        """Add self-attention over pooled keys; `vision` is `pixels` as a sequence."""
        query = self.norm_vision_self(vision)
        pooled = functional.adaptive_avg_pool2d(
            query.transpose(1, 2).reshape(pixels.shape), _pooled_size(pixels)
        )
        context = pooled.flatten(2).transpose(1, 2)
        mixed: Tensor = vision + self.vision_self(query, context)
        return mixed


def _pooled_size(pixels: Tensor) -> tuple[int, int]:
    """Return at most POOLED_SIDE a side."""
    height, width = pixels.shape[-2:]
    return min(height, POOLED_SIDE), min(width, POOLED_SIDE)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept must serve training too
def position_features(height: int, width: int, bands: int) -> Tensor:
    """Return Fourier features (4 bands, H, W) of pixel centres in [0, 1].

    They let words such as "upper left" find their place, at any size. The tensor is
    kept for the next call: do not change it.
    """
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"))  # (2, H, W)
    frequency = torch.pi * 2.0 ** torch.arange(bands)  # half a turn, one, two, ...
    angle = (grid[:, None] * frequency[:, None, None]).flatten(0, 1)
    return torch.cat([angle.sin(), angle.cos()])
