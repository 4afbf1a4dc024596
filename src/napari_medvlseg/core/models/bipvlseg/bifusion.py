"""BiFusion: text and volume exchange what they know at one stage (equation 2).

    T' = SA(LN(T))              V' = SA(LN(V))
    T^ = T' + MLP_T(CA(T', V'))  V^ = V' + MLP_V(CA(V', T^))

Symbols: B batch, N classes, D channels of the stage, T = i j k voxels of the stage,
S = `key_side`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.models.fusion import SelfAttention
from napari_medvlseg.core.models.probabilistic_attention import (
    Gathered,
    NoiseSource,
    Prepared,
    ProbabilisticCrossAttention,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig

MLP_RATIO = 2


class Meeting(NamedTuple):
    """Texts and volumes before the first values are drawn."""

    text: Tensor
    """As it came in, (B, N, text_dim)."""
    said: Tensor
    """T', (B, N, D)."""
    seen: Tensor
    """V', (B, T, D)."""
    looked: Tensor
    """V' as the attentions see it."""
    heard: Prepared | Gathered | Tensor
    """What the text sees of the volume; if that is drawn, all but the draw."""

    def expand(self, draws: int) -> Meeting:
        """Repeat one image for several draws without copying it."""
        heard = self.heard
        if isinstance(heard, Tensor):
            heard = _repeated(heard, draws)
        else:
            heard = type(heard)(*(_repeated(part, draws) for part in heard))
        return Meeting(
            _repeated(self.text, draws),
            _repeated(self.said, draws),
            _repeated(self.seen, draws),
            _repeated(self.looked, draws),
            heard,
        )

    def light(self, dtype: torch.dtype) -> Meeting:
        """Return what is large, that of the voxels, in a precision of fewer bits."""
        return self._replace(seen=self.seen.to(dtype), looked=self.looked.to(dtype))


def _repeated(tensor: Tensor, draws: int) -> Tensor:
    """Repeat the only row of a batch, without copying it."""
    return tensor.expand(draws, *tensor.shape[1:])


class BiFusion(nn.Module):
    """Let the classes look at the voxels, then the voxels at the updated classes.

    Parameters
    ----------
    dim : int
        D, a multiple of the heads.
    text_dim : int
        Channels of the text encoder, which a linear layer maps to D.
    config : BiPVLConfig
    returns_text : bool
        Whether a later stage of the text encoder wants the updated text, mapped back.
    """

    def __init__(
        self, dim: int, text_dim: int, config: BiPVLConfig, *, returns_text: bool
    ) -> None:
        super().__init__()
        self.prenorm = config.fusion_form == "prenorm"
        norm: Callable[[], nn.Module] = partial(nn.LayerNorm, dim)
        if not self.prenorm:
            norm = nn.Identity
        self.to_vision = nn.Linear(text_dim, dim)
        self.norm_text, self.norm_vision = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.text_self = SelfAttention(dim, config.heads)
        self.vision_self = VoxelAttention(
            dim, config.heads, config.self_attention, config.key_side
        )
        self.norm_asking_text, self.norm_seen = norm(), norm()
        self.text_from_vision = _cross_attention(dim, config)
        self.mlp_text = _mlp(dim)
        self.norm_said = norm()
        self.vision_from_text = _cross_attention(dim, config)
        self.mlp_vision = _mlp(dim)
        self.from_vision = nn.Linear(dim, text_dim) if returns_text else None
        if self.prenorm and self.from_vision is not None:
            # At first the text encoder goes on as it was trained.
            nn.init.zeros_(self.from_vision.weight)
            nn.init.zeros_(self.from_vision.bias)

    def forward(
        self, volume: Tensor, text: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Return the updated volume and text.

        Parameters
        ----------
        volume : (B, D, i, j, k)
        text : (B, N, text_dim)
            One vector a class.
        noise : callable
            Called twice if the attention is probabilistic, never otherwise.

        Returns
        -------
        volume : (B, D, i, j, k)
        text : (B, N, text_dim)
            For the next stage of the text encoder; what came in, after the last one.
        """
        return self.exchange(self.prepare(volume, text), noise, volume.shape[2:])

    def prepare(self, volume: Tensor, text: Tensor) -> Meeting:
        """Return what no noise touches: all before the first values are drawn.

        Parameters
        ----------
        volume : (B, D, i, j, k)
        text : (B, N, text_dim)
        """
        size = volume.shape[2:]
        mapped, voxels = self.to_vision(text), volume.flatten(2).transpose(1, 2)
        asked = self.norm_text(mapped)
        said = self.text_self(asked, asked)  # T', (B, N, D)
        seen = self.vision_self(self.norm_vision(voxels), size)  # V', (B, T, D)
        if self.prenorm:
            said, seen = said + mapped, seen + voxels
        looked, asking = self.norm_seen(seen), self.norm_asking_text(said)
        attention = self.text_from_vision
        if isinstance(attention, ProbabilisticCrossAttention):
            heard = attention.gather(attention.prepare(asking, looked))
            return Meeting(text, said, seen, looked, heard)
        return Meeting(text, said, seen, looked, attention(asking, looked))

    def exchange(
        self, met: Meeting, noise: NoiseSource, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Return the updated volume and text of one draw, as `forward` does.

        Parameters
        ----------
        met : Meeting
        noise : callable
        size : torch.Size
            i, j, k of the volume.
        """
        heard = met.heard
        if not isinstance(heard, Tensor):
            heard = self.text_from_vision.attend(heard, noise)
        said = met.said + self.mlp_text(heard)  # T^
        asked, attention = self.norm_said(said), self.vision_from_text
        if isinstance(attention, ProbabilisticCrossAttention):
            told = attention(met.looked, asked, noise)
        else:
            told = attention(met.looked, asked)
        seen = met.seen + self.mlp_vision(told)  # V^
        updated = seen.transpose(1, 2).unflatten(2, size)
        if self.from_vision is None:
            return updated, met.text
        returned = self.from_vision(said)
        return updated, met.text + returned if self.prenorm else returned


class VoxelAttention(nn.Module):
    """Self-attention of many voxels that stays affordable.

    Attention of all T voxels to one another costs T^2 products. Here every voxel has
    at most S^3 keys, whatever T: ``pooled`` ones are the averages of as many boxes of
    the whole volume, ``windowed`` ones the voxels of the same box of S voxels a side.
    Either is exact where the volume has at most S voxels a side.
    """

    def __init__(self, dim: int, heads: int, kind: str, side: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.kind = kind
        self.side = side

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        """(B, T, D) of a volume of `size` to the same shape."""
        if max(size) <= self.side:
            exact: Tensor = self.attention(tokens, tokens)
            return exact
        volume = tokens.transpose(1, 2).unflatten(2, size)
        if self.kind == "windowed":
            return self._windowed(volume)
        one, two, three = (min(edge, self.side) for edge in size)
        if volume.dtype == torch.bfloat16:  # in which torch adds up coarsely
            volume = volume.float()
        pooled = functional.adaptive_avg_pool3d(volume, (one, two, three))
        attended: Tensor = self.attention(tokens, pooled.flatten(2).transpose(1, 2))
        return attended

    def _windowed(self, volume: Tensor) -> Tensor:
        """Attend in boxes; those at the far sides may hold padding, which is masked."""
        side = self.side
        size = volume.shape[2:]
        lacking = [-edge % side for edge in size]
        pad = [width for edge in reversed(lacking) for width in (0, edge)]
        inside = torch.ones(1, 1, *size, dtype=torch.bool, device=volume.device)
        windows = _cut(functional.pad(volume, pad), side)
        mask = _cut(functional.pad(inside, pad), side)[..., 0]
        mask = mask.repeat(volume.shape[0], 1)
        attended = self.attention(windows, windows, mask)
        whole = [edge + more for edge, more in zip(size, lacking, strict=True)]
        joined = _join(attended, whole, side)
        kept = joined[:, :, : size[0], : size[1], : size[2]]
        return kept.flatten(2).transpose(1, 2)


def _cut(volume: Tensor, side: int) -> Tensor:
    """(B, D, i, j, k) to its boxes (B boxes, side^3, D)."""
    for axis in (2, 4, 6):
        volume = volume.unflatten(axis, (-1, side))
    boxes = volume.permute(0, 2, 4, 6, 3, 5, 7, 1)
    return boxes.flatten(4, 6).flatten(0, 3)


def _join(boxes: Tensor, size: list[int], side: int) -> Tensor:
    """Undo `_cut`."""
    counts = [edge // side for edge in size]
    volume = boxes.unflatten(0, (-1, *counts)).unflatten(4, (side,) * 3)
    volume = volume.permute(0, 7, 1, 4, 2, 5, 3, 6)
    joined: Tensor = volume.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return joined


def _cross_attention(dim: int, config: BiPVLConfig) -> Any:
    """Return plain attention, or MedCLIPSeg's with its gate."""
    if not config.probabilistic:
        return SelfAttention(dim, config.heads)
    return ProbabilisticCrossAttention(
        dim,
        heads=config.heads,
        uncertainty_penalty=config.uncertainty_penalty,
        noise_form=config.noise_form,
        dropout=config.dropout,
    )


def _mlp(dim: int) -> nn.Sequential:
    """Return the MLP after a cross-attention."""
    hidden = MLP_RATIO * dim
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
