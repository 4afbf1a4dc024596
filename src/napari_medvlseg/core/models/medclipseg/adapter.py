"""MedCLIPSeg's adapter: two streams that see each other through Gaussian attention.

Equations are those of the paper's section 3.2; parameters keep the authors' names.

Symbols: B batch, Q query tokens, K context tokens, T image tokens, L text tokens, D
channels of the adapter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_medvlseg.core.models.probabilistic_attention import gaussian

if TYPE_CHECKING:
    from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class PVLAttention(nn.Module):
    """Cross-attention with Gaussian keys and values behind a residual gate."""

    def __init__(self, config: MedCLIPSegConfig) -> None:
        super().__init__()
        self.config = config
        dim, bias = config.adapter_dim, config.compatible
        if config.gate:
            self.gate = nn.Parameter(torch.tensor(float(config.gate_start)))
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, 2 * dim, bias=bias)
        self.v_proj = nn.Linear(dim, 2 * dim, bias=bias)
        self.out_proj = nn.Linear(dim, dim, bias=bias)
        self.norm_k = nn.LayerNorm(dim) if config.compatible else nn.Identity()
        self.norm_v = nn.LayerNorm(dim) if config.compatible else nn.Identity()

    def forward(
        self, query: Tensor, context: Tensor, mask: Tensor | None, noise: NoiseSource
    ) -> Tensor:
        """Return the query and what it found in the context, mixed (equation 13).

        Parameters
        ----------
        query : (B, Q, D)
        context : (B, K, D)
        mask : (B, K) bool, optional
            False where the context is not to be seen.
        noise : callable
            Called once, for (B, K, D), unless attention is deterministic.

        Returns
        -------
        (B, Q, D)
        """
        weight = self._weights(self.q_proj(query), context, mask)  # (B, Q, K)
        found: Tensor = self.out_proj(weight @ self._values(context, noise))
        if not self.config.gate:
            return found
        gate = self.gate.sigmoid()
        return gate * found + (1 - gate) * query

    def _values(self, context: Tensor, noise: NoiseSource) -> Tensor:
        """Return the values of a draw, (B, K, D) (equations 5, 6 and 10)."""
        mean, variance = gaussian(self.v_proj(context), self.norm_v)
        if self.config.deterministic:
            return mean
        return mean + variance.sqrt() * noise(tuple(mean.shape)).to(mean)

    def _weights(self, query: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Return the weight of each key for each query, (B, Q, K) (equation 8)."""
        size, config = query.shape[-1], self.config
        mean, variance = gaussian(self.k_proj(context), self.norm_k)
        score = query @ mean.mT / math.sqrt(size)
        if mask is not None:
            score = score.masked_fill(~mask[:, None, :], -torch.inf)
        if config.deterministic or config.attention == "none":
            return score.softmax(dim=-1)
        doubt = config.beta * (query.square() @ variance.mT / size).sqrt()
        if config.attention == "scaling":  # appendix N
            return score.softmax(dim=-1) / (1 + doubt)
        return (score - doubt).softmax(dim=-1)


class _TwoWay(nn.Module):
    """The two attentions of an adapter, under the authors' names.

    ``img_to_txt``: image tokens ask the text.
    """

    def __init__(self, config: MedCLIPSegConfig) -> None:
        super().__init__()
        if config.adapt_vision:
            self.cross_attn_img_to_txt = PVLAttention(config)
        if config.adapt_text:
            self.cross_attn_txt_to_img = PVLAttention(config)


class PVLAdapter(nn.Module):
    """Bring both streams to a small common space, let them look, bring them back."""

    def __init__(
        self, config: MedCLIPSegConfig, vision_dim: int, text_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        dim = config.adapter_dim
        down = nn.Linear(vision_dim, dim, bias=False)
        self.proj_vis_down = nn.Sequential(down)
        self.proj_txt_down = nn.Linear(text_dim, dim, bias=False)
        if config.adapt_vision:
            self.proj_vis_up = nn.Linear(dim, vision_dim, bias=False)
        if config.adapt_text:
            self.proj_txt_up = nn.Linear(dim, text_dim, bias=False)
        if config.cross_attention:
            self.two_way = _TwoWay(config)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        mask: Tensor | None,
        noise: NoiseSource,
        kept: int | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return what is to be added to either stream (equations 3 and 14 to 17).

        Parameters
        ----------
        image : (B, T, vision_dim)
        text : (B, L, text_dim)
        mask : (B, L) bool, optional
            False at text that is not to be seen.
        noise : callable
        kept : int, optional
            How many text tokens go on from here; the image sees all.

        Returns
        -------
        image : (B, T, vision_dim) or None
        text : (B, L or `kept`, text_dim) or None
            None for a stream that is not adapted.
        """
        seen = self.proj_vis_down(image)  # (B, T, D)
        said = self.proj_txt_down(text)  # (B, L, D)
        if self.config.order == "text_first":
            new_said = self._text(said, seen, mask, noise)
            new_seen = self._image(seen, new_said, mask, noise)
        else:
            new_seen = self._image(seen, said, mask, noise)
            if self.config.order != "unimodal":  # there text sees all text
                said = said[:, :kept]
            first = self.config.order == "vision_first"
            new_said = self._text(said, new_seen if first else seen, mask, noise)
        adapts = self.config
        return (
            self.proj_vis_up(new_seen) if adapts.adapt_vision else None,
            self.proj_txt_up(new_said[:, :kept]) if adapts.adapt_text else None,
        )

    def _image(
        self, seen: Tensor, said: Tensor, mask: Tensor | None, noise: NoiseSource
    ) -> Tensor:
        """Update the image's stream, (B, T, D)."""
        if not (self.config.adapt_vision and self.config.cross_attention):
            return seen
        attend = self.two_way.cross_attn_img_to_txt
        if self.config.order == "unimodal":
            updated: Tensor = attend(seen, seen, None, noise)
        else:
            updated = attend(seen, said, mask, noise)
        return updated

    def _text(
        self, said: Tensor, seen: Tensor, mask: Tensor | None, noise: NoiseSource
    ) -> Tensor:
        """Update the text's stream, (B, L, D)."""
        if not (self.config.adapt_text and self.config.cross_attention):
            return said
        attend = self.two_way.cross_attn_txt_to_img
        if self.config.order == "unimodal":
            updated: Tensor = attend(said, said, mask, noise)
        else:
            updated = attend(said, seen, None, noise)
        return updated
