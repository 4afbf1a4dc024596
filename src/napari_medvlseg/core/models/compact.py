"""The bundled promptable 2D network: both papers in five million parameters.

An EfficientNet-Lite0 pyramid and frozen MiniLM-L6 word vectors meet at the strides
32, 16 and 8 in bidirectional fusions (BiPVL-Seg) whose cross-attentions are
probabilistic (MedCLIPSeg). A light decoder climbs to stride 2, where the logits are
the dot product of pixel features with a vector that the words decide.

Symbols: B batch, L words, H x W pixels of the input, D channels of the fusion.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.backbones.efficientnet import CHANNELS, efficientnet_lite0
from napari_medvlseg.core.backbones.minilm import TEXT_DIM
from napari_medvlseg.core.config import check_noise
from napari_medvlseg.core.models.fusion import BiFusion, position_features
from napari_medvlseg.core.models.probabilistic_attention import zero_noise

if TYPE_CHECKING:
    from napari_medvlseg.core.models.probabilistic_attention import (
        Gathered,
        NoiseSource,
        Prepared,
    )

POSITION_BANDS = 4
FUSED_LEVELS = (4, 3, 2)
"""Indices into the pyramid, coarse to fine: the strides 32, 16 and 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactConfig:
    """The shape of the network, saved in its bundle."""

    dim: int = 128
    """Channels of the fusion."""
    stride4_dim: int = 64
    """Channels of the decoder at stride 4."""
    stride2_dim: int = 32
    """Channels of the decoder at stride 2, and of the mask's dot product."""
    heads: int = 4
    """Attention heads; MedCLIPSeg has one."""
    uncertainty_penalty: float = 2.35
    """MedCLIPSeg's beta."""
    noise_form: str = "token"
    """How draws differ: ``token`` is MedCLIPSeg's, ``shared`` ours."""
    dropout: float = 0.1
    """Of the values, if that is how draws differ."""
    pixels_noise: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Factors of the noise of the pixels' values, which the words attend to, at the
    strides 32, 16 and 8."""
    words_noise: tuple[float, ...] = (1.0, 1.0, 1.0)
    """The same of the words' values, which the pixels attend to."""

    def __post_init__(self) -> None:
        for name in ("pixels_noise", "words_noise"):
            factors = tuple(getattr(self, name))  # a list in JSON
            check_noise(name, factors)
            object.__setattr__(self, name, factors)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)


class Pyramid(NamedTuple):
    """What no noise touches: projected image features, finest (stride 2) first."""

    levels: tuple[Tensor, ...]

    def expand(self, batch: int) -> Pyramid:
        """Repeat one image for a batch of draws without copying it."""
        return Pyramid(tuple(x.expand(batch, -1, -1, -1) for x in self.levels))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        height, width = self.levels[0].shape[-2:]
        return 2 * height, 2 * width

    def light(self) -> Pyramid:
        """Keep the two finest levels in bfloat16, which the decoder only adds to.

        They are by far the largest: in float32 every draw would add and convolve them
        in twice the memory.
        """
        light = [x.bfloat16() for x in self.levels[:2]]
        return Pyramid((*light, *self.levels[2:]))

    def and_again(self, rows: Tensor) -> Pyramid:
        """Return all images, and after them those that these (R,) rows name."""
        if not len(rows):
            return self
        return Pyramid(
            tuple(torch.cat([x, x.index_select(0, rows)]) for x in self.levels)
        )

    def repeat(self, draws: int) -> Pyramid:
        """Repeat a batch of images, one copy after the other, for several draws."""
        if draws == 1:
            return self
        return Pyramid(tuple(torch.cat([x] * draws) for x in self.levels))


class Settled(NamedTuple):
    """A picture asked about: all of it that no draw changes, finest level first."""

    levels: tuple[Tensor, ...]
    """Of the pyramid."""
    place: Tensor
    """What the words alone say about places, (B, 4 bands)."""
    pixels: Tensor
    """(B, D, h, w), after the stages that are done."""
    words: Tensor
    """(B, L, D)"""
    done: int
    """Stages without noise."""
    fused: Prepared | Gathered | None
    """Of the next stage, if only the words' values are noisy there."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return Pyramid(self.levels).input_size

    def expand(self, batch: int) -> Settled:
        """Repeat one picture for a batch of draws without copying it."""
        place, pixels, words = (
            x.expand(batch, *x.shape[1:]) for x in (self.place, self.pixels, self.words)
        )
        fused = None if self.fused is None else self.fused.expand(batch)
        levels = Pyramid(self.levels).expand(batch).levels
        return Settled(levels, place, pixels, words, self.done, fused)

    def light(self) -> Settled:
        """Keep all as it is: the levels that it came of are light already."""
        return self


class CompactOutput(NamedTuple):
    """Logits, and the two sides of the contrastive loss."""

    logits: Tensor
    """(B, 1, H / 2, W / 2)"""
    vision_embedding: Tensor
    """(B, D), L2-normalised."""
    text_embedding: Tensor
    """(B, D), L2-normalised."""


class PixelMixer(nn.Module):
    """A residual depthwise 3 x 3 and pointwise convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.pointwise = nn.Conv2d(dim, dim, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, D, H, W) to the same shape."""
        mixed = functional.relu(self.norm(self.depthwise(pixels)))
        out: Tensor = pixels + self.pointwise(mixed)
        return out


class Compact(nn.Module):
    """Segment what a prompt names; every draw of the noise is one opinion."""

    autocasts = True
    smooths = True
    evidential = False
    plain = False

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config or CompactConfig()
        dim = self.config.dim
        widths = (self.config.stride2_dim, self.config.stride4_dim, dim, dim, dim)
        self.encoder = efficientnet_lite0()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, w, 1, bias=False), nn.BatchNorm2d(w))
            for c, w in zip(CHANNELS, widths, strict=True)
        )
        self.position = nn.ModuleList(
            nn.Conv2d(4 * POSITION_BANDS, dim, 1, bias=False) for _ in FUSED_LEVELS
        )
        self.word = nn.Sequential(nn.LayerNorm(TEXT_DIM), nn.Linear(TEXT_DIM, dim))
        self.mixer = nn.ModuleList(PixelMixer(dim) for _ in FUSED_LEVELS)
        self.fusion = nn.ModuleList(
            BiFusion(
                dim,
                heads=self.config.heads,
                uncertainty_penalty=self.config.uncertainty_penalty,
                noise_form=self.config.noise_form,
                dropout=self.config.dropout,
                noise_scales=scales,
            )
            for scales in zip(
                self.config.pixels_noise, self.config.words_noise, strict=True
            )
        )
        self.reduce = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in ((dim, widths[1]), (widths[1], widths[0]))
        )
        self.refine = nn.ModuleList(
            nn.Sequential(PixelMixer(w), PixelMixer(w)) for w in (widths[1], widths[0])
        )
        self.mask_norm = nn.LayerNorm(dim)
        self.mask_head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, widths[0] + 1)
        )
        hidden, places = nn.Linear(dim, dim), nn.Linear(dim, 4 * POSITION_BANDS)
        nn.init.zeros_(places.weight)  # at first no word means a place
        nn.init.zeros_(places.bias)
        self.where = nn.Sequential(hidden, nn.GELU(), places)
        self.to_vision_embedding = nn.Linear(dim, dim, bias=False)
        self.to_text_embedding = nn.Linear(dim, dim, bias=False)

    def encode_image(self, pixels: Tensor) -> Pyramid:
        """Return the part of the network that neither words nor noise touch.

        Parameters
        ----------
        pixels : (B, 3, H, W)
            In [-1, 1]; H and W are multiples of 32.
        """
        features = self.encoder(pixels)
        levels = [lat(x) for lat, x in zip(self.lateral, features, strict=True)]
        for project, level in zip(self.position, FUSED_LEVELS, strict=True):
            height, width = levels[level].shape[-2:]
            position = position_features(height, width, POSITION_BANDS)
            levels[level] = levels[level] + project(position.to(pixels)[None])
        return Pyramid(tuple(levels))

    @property
    def samples(self) -> bool:
        """Whether two draws differ."""
        factors = (*self.config.pixels_noise, *self.config.words_noise)
        return self.config.noise_form != "none" and any(factors)

    def lighten(self) -> None:
        """Change nothing: autocast sees to draws in bfloat16."""

    def word_mask(self, hidden: Tensor) -> Tensor:
        """Return that all of one prompt's (B, L, 384) are words, (B, L)."""
        return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)

    def encode_words(self, hidden: Tensor) -> Tensor:
        """Project the text encoder's (B, L, 384) to (B, L, D)."""
        words: Tensor = self.word(hidden)
        return words

    def settle(self, pyramid: Pyramid, words: Tensor, word_mask: Tensor) -> Settled:
        """Go as far as no noise comes in: `draw` goes on from there.

        Parameters
        ----------
        pyramid : levels of (B, ., ., .)
        words : (B, L, D)
        word_mask : (B, L) bool
            False at padding.
        """
        levels = pyramid.levels
        place = self.where(_masked_mean(words, word_mask))
        pixels = torch.zeros_like(levels[FUSED_LEVELS[0]])
        stages: Any = self.fusion
        for done, fusion in enumerate(stages):
            if not fusion.text_to_vision.is_quiet:
                return Settled(levels, place, pixels, words, done, None)
            entering = self._entering(pixels, levels, done)
            prepared, words = fusion.look(entering, words, word_mask, zero_noise)
            if not fusion.vision_to_text.is_quiet:
                fused = fusion.vision_to_text.gather(prepared)
                return Settled(levels, place, pixels, words, done, fused)
            pixels = fusion.see(prepared, entering.shape[-2:], zero_noise)
        return Settled(levels, place, pixels, words, len(self.fusion), None)

    def draw(
        self,
        image: Pyramid | Settled,
        words: Tensor,
        word_mask: Tensor,
        noise: NoiseSource,
    ) -> CompactOutput:
        """Return one opinion for each entry of the batch.

        Parameters
        ----------
        image : levels of (B, ., ., .)
            Or what is settled of them and these words.
        words : (B, L, D)
        word_mask : (B, L) bool
            False at padding.
        noise : callable
            Called once a cross-attention that has noise, in a fixed order.
        """
        if isinstance(image, Pyramid):
            image = self.settle(image, words, word_mask)
        pixels, words, fused = image.pixels, image.words, image.fused
        for stage in range(image.done, len(FUSED_LEVELS)):
            fusion: Any = self.fusion[stage]
            if fused is not None:
                size = image.levels[FUSED_LEVELS[stage]].shape[-2:]
                pixels, fused = fusion.see(fused, size, noise), None
                continue
            entering = self._entering(pixels, image.levels, stage)
            pixels, words = fusion(entering, words, word_mask, noise)
        summary = _masked_mean(self.mask_norm(words), word_mask)  # (B, D)
        vector = self.mask_head(summary)  # (B, stride2_dim + 1)
        logits = self._mask_logits(pixels, image.levels, vector) + _place_logits(
            image.place, image.levels[0].shape[-2:]
        )
        seen = self.to_vision_embedding(pixels.mean(dim=(-2, -1)))
        said = self.to_text_embedding(summary)
        return CompactOutput(
            logits,
            functional.normalize(seen, dim=-1),
            functional.normalize(said, dim=-1),
        )

    def _entering(
        self, pixels: Tensor, levels: tuple[Tensor, ...], stage: int
    ) -> Tensor:
        """Return what enters a fusion: the coarser pixels upon its level."""
        level = levels[FUSED_LEVELS[stage]]
        mixed: Tensor = self.mixer[stage](_upscale(pixels, level) + level)
        return mixed

    def _mask_logits(
        self, pixels: Tensor, levels: tuple[Tensor, ...], vector: Tensor
    ) -> Tensor:
        """Climb to stride 2 and compare every pixel with the words' vector."""
        for level, reduce, refine in zip((1, 0), self.reduce, self.refine, strict=True):
            skip = levels[level]
            pixels = refine(_upscale(reduce(pixels), skip) + skip)
        weight, bias = vector[:, :-1], vector[:, -1]
        logits = torch.einsum("bchw,bc->bhw", pixels, weight)
        return (logits + bias[:, None, None])[:, None]

    def forward(
        self, pixels: Tensor, hidden: Tensor, word_mask: Tensor, noise: NoiseSource
    ) -> CompactOutput:
        """Run all parts once: images (B, 3, H, W), text (B, L, 384)."""
        pyramid = self.encode_image(pixels)
        return self.draw(pyramid, self.encode_words(hidden), word_mask, noise)


def _upscale(pixels: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of `like`."""
    size = like.shape[-2:]
    if pixels.shape[-2:] == size:
        return pixels
    return functional.interpolate(pixels, size, mode="bilinear", align_corners=False)


def _place_logits(place: Tensor, size: torch.Size) -> Tensor:
    """Return (B, 1, H, W): what the words alone say about places."""
    position = position_features(size[0], size[1], POSITION_BANDS).to(place)
    return torch.einsum("bf,fhw->bhw", place, position)[:, None]


def _masked_mean(words: Tensor, mask: Tensor) -> Tensor:
    """Average the words that are not padding: (B, L, D) to (B, D)."""
    weight = mask.to(words)[..., None]
    return (words * weight).sum(dim=1) / weight.sum(dim=1)
