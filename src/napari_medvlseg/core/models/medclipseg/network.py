"""MedCLIPSeg: a frozen CLIP whose towers talk to each other through adapters.

One network for five CLIPs, in 2D and 3D, and every ablation; `MedCLIPSegConfig` says
which. What precedes the first adapter knows no noise: `encode_image` and
`encode_words` give it, `draw` goes on from there.

Symbols: B batch, T image tokens ([CLS] first), L text tokens, E shared channels, h x w
upscaled patches; in 3D H x W and h x w have one axis more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from napari_medvlseg.core.backbones.clip_towers import (
    BertText,
    OpenClipText,
    OpenClipVision,
    TimmVision,
)
from napari_medvlseg.core.backbones.volume_tower import VolumeVision
from napari_medvlseg.core.models.medclipseg.adapter import PVLAdapter
from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.head import (
    BetaBelief,
    ScaleBlock,
    enlarge,
    mask_head,
)
from napari_medvlseg.core.models.medclipseg.keys import rename_to_own
from napari_medvlseg.core.models.probabilistic_attention import zero_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TOWERS: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "unimedclip": (OpenClipVision, BertText),
    "biomedclip": (TimmVision, BertText),
    "clip": (OpenClipVision, OpenClipText),
    "pubmedclip": (OpenClipVision, OpenClipText),
    "small": (OpenClipVision, BertText),
    "m3dclip": (VolumeVision, partial(BertText, linear=True)),
}
"""For the image and for the text, by variant."""
START_SCALE = 2.6592
"""CLIP's logit scale, which nothing here uses but every checkpoint holds."""


class ImageTokens(NamedTuple):
    """An image before the first adapter."""

    tokens: Tensor
    """(B, T, channels)"""
    input_size: tuple[int, ...]
    """Pixels or voxels of the input along each axis."""

    def expand(self, batch: int) -> ImageTokens:
        """Repeat one image for a batch of draws without copying it."""
        return ImageTokens(self.tokens.expand(batch, -1, -1), self.input_size)

    def light(self) -> ImageTokens:
        """Return them in bfloat16."""
        return ImageTokens(self.tokens.bfloat16(), self.input_size)


class MedCLIPSegOutput(NamedTuple):
    """Logits, and the two sides of the contrastive loss."""

    logits: Tensor
    """(B, 1, h, w); of an evidential head the log odds of its mean."""
    vision_embedding: Tensor
    """(B, E): normalised patches, pooled."""
    text_embedding: Tensor
    """(B, E), not normalised."""
    patch_tokens: Tensor
    """(B, T, E), [CLS] first, not normalised."""
    belief: BetaBelief | None
    """Of an evidential head."""


class MedCLIPSeg(nn.Module):
    """Segment what a prompt names; every draw of the noise is one opinion.

    Parameters
    ----------
    config : MedCLIPSegConfig, optional
        By default UniMedCLIP as released.

    References
    ----------
    Koleilat et al., MedCLIPSeg: Probabilistic Vision-Language Adaptation for
    Data-Efficient and Generalizable Medical Image Segmentation.
    """

    autocasts = False
    plain = False

    def __init__(self, config: MedCLIPSegConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MedCLIPSegConfig()
        vision, text = config.vision_shape, config.text_shape
        self.logit_scale = nn.Parameter(torch.tensor(START_SCALE), requires_grad=False)
        image_tower, text_tower = TOWERS[config.variant]
        self.vision_model: Any = image_tower(vision)
        self.text_model: Any = text_tower(text)
        dim = vision.embed_dim
        self.mask_head = mask_head(dim, 2 if config.head == "evidential" else 1)
        self.upscale = nn.Sequential(
            *(ScaleBlock(dim, len(vision.image)) for _ in range(config.upscale_blocks))
        )
        self.pvl_adapters = nn.ModuleList(
            PVLAdapter(config, vision.width, text.width) for _ in config.adapted_layers
        )
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]  # torch
            rename_to_own
        )

    @property
    def smooths(self) -> bool:
        """Whether pictures are smoothed before they shrink."""
        return not self.config.compatible

    @property
    def samples(self) -> bool:
        """Whether two draws differ."""
        return self.config.samples_values

    @property
    def evidential(self) -> bool:
        """Whether one pass tells how unsure it is."""
        return self.config.head == "evidential"

    def lighten(self) -> None:
        """Hold in bfloat16 what draws need, for good; what precedes them stays.

        Autocast would bring every weight to bfloat16 again in each draw.
        """
        first = self._first_layer
        early = [*self.vision_model.early(first), *self.text_model.early(first)]
        kept = {id(parameter) for parameter in early}
        for parameter in self.parameters():
            if id(parameter) not in kept and parameter.ndim:
                parameter.data = parameter.data.bfloat16()

    def encode_image(self, pixels: Tensor) -> ImageTokens:
        """Return an image before the first adapter.

        Parameters
        ----------
        pixels : (B, 3, H, W), or (B, 1, I, J, K)
            RGB or voxels in [-1, 1], of the image size of the configuration.
        """
        return self.encode_normalised(self.normalise(pixels))

    def encode_normalised(self, pixels: Tensor) -> ImageTokens:
        """Return `encode_image` of pixels as the tower takes them."""
        tokens = self.vision_model.embed(pixels)
        for index in range(self._first_layer):
            tokens = self.vision_model.run(index, tokens)
        return ImageTokens(tokens, tuple(pixels.shape[2:]))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return RGB in [-1, 1] as the tower takes it, (B, 3, H, W).

        Compatible: in 8 bits and as BGR, which the authors normalise with the means
        of RGB. Volumes: in [0, 1], as M3D-CLIP takes them.
        """
        unit = (pixels + 1) / 2
        if self.config.has_volumes:
            return unit
        if self.config.compatible:
            unit = (unit.flip(1) * 255).round() / 255
        mean, std = (
            torch.tensor(x, device=pixels.device).view(3, 1, 1)
            for x in (IMAGENET_MEAN, IMAGENET_STD)
        )
        return (unit - mean) / std

    def encode_words(self, ids: Tensor) -> Tensor:
        """Return token ids (B, L) before the first adapter, (B, L, channels)."""
        tokens: Tensor = self.text_model.embed(ids)
        mask = self.word_mask(ids)
        for index in range(self._first_layer):
            tokens = self.text_model.run(index, tokens, mask)
        return tokens

    def word_mask(self, ids: Tensor) -> Tensor:
        """Return where token ids (B, L) are text, (B, L) bool."""
        mask: Tensor = self.text_model.mask(ids)
        return mask

    def settle(self, image: ImageTokens, words: Tensor, mask: Tensor) -> ImageTokens:  # noqa: ARG002 - of both, noise touches all
        """Return the image's tokens: noise comes in at the first adapter."""
        return image

    def draw(
        self,
        image: ImageTokens,
        words: Tensor,
        word_mask: Tensor,
        noise: NoiseSource | torch.Generator,
    ) -> MedCLIPSegOutput:
        """Return one opinion for each entry of the batch.

        Parameters
        ----------
        image : tokens (B, T, .)
        words : (B, L, .)
        word_mask : (B, L) bool
            False at padding.
        noise : callable or torch.Generator
            Asked for the values' noise, (B, K, D) of each attention, in order.
        """
        source = noise_of(noise)
        words = words.to(image.tokens.dtype)
        seen, said = self._towers(image.tokens, words, word_mask, source)
        summary = self.text_model.summary(said, word_mask)  # (B, E)
        tokens = self._patch_features(seen)
        patches = _unit(tokens[:, 1:])  # (B, T - 1, E)
        maps = self._mask_logits(patches, _unit(summary))
        belief = BetaBelief.of(maps) if self.config.head == "evidential" else None
        return MedCLIPSegOutput(
            maps if belief is None else belief.logits,
            self._pool(tokens, patches, summary),
            summary,
            tokens,
            belief,
        )

    def believe(
        self, image: ImageTokens, words: Tensor, word_mask: Tensor
    ) -> BetaBelief:
        """Return what an evidential head believes, on the grid of the input.

        Parameters
        ----------
        image : tokens (B, T, .)
        words : (B, L, .)
        word_mask : (B, L) bool
            False at padding.

        Raises
        ------
        ValueError
            If the head is another.
        """
        belief = self.draw(image, words, word_mask, zero_noise).belief
        if belief is None:
            msg = f"expected an evidential head, got {self.config.head}"
            raise ValueError(msg)
        return belief.enlarged(image.input_size)

    def forward(
        self, pixels: Tensor, ids: Tensor, noise: NoiseSource | torch.Generator
    ) -> Tensor:
        """Return the logits (B, H, W) of normalised pixels and token ids (B, L)."""
        image = self.encode_normalised(pixels)
        output = self.draw(image, self.encode_words(ids), self.word_mask(ids), noise)
        return enlarge(output.logits, image.input_size)[:, 0]

    @property
    def _first_layer(self) -> int:
        """The block before which noise comes in; without adapters the last."""
        last = self.config.vision_shape.layers - 1
        return min((*self.config.adapted_layers, last))

    def _towers(
        self, seen: Tensor, said: Tensor, mask: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks from the first adapter on.

        Returns
        -------
        seen : (B, T, .)
            The image before its last block.
        said : (B, L or less, .)
            The text after its last layer.
        """
        config = self.config
        context_mask = None if config.compatible else mask
        depth = config.vision_shape.layers
        for index in range(self._first_layer, depth):
            kept = None
            if index == max((*config.adapted_layers, self._first_layer)):
                kept = self._longest(mask)  # beyond it nobody looks at padding
            if index in config.adapted_layers:
                adapter = self.pvl_adapters[config.adapted_layers.index(index)]
                to_image, to_text = adapter(seen, said, context_mask, noise, kept)
                seen = seen if to_image is None else seen + to_image
                said = said[:, :kept]
                said = said if to_text is None else said + to_text
            said, mask = said[:, :kept], mask[:, :kept]
            if index < depth - 1:
                seen = self.vision_model.run(index, seen)
            said = self.text_model.run(index, said, mask)
        return seen, said

    def _longest(self, mask: Tensor) -> int | None:
        """Return the length of the longest text, unless nothing is to be left out."""
        return None if self.plain else int(mask.sum(dim=-1).max())

    def _patch_features(self, seen: Tensor) -> Tensor:
        """Bring image tokens before the last block into the shared space."""
        last = self.config.vision_shape.layers - 1
        if not self.config.patches_are_values:
            features: Tensor = self.vision_model.project(
                self.vision_model.run(last, seen)
            )
            return features
        if self.plain:
            self.vision_model.run(last, seen)  # as published: to no end
        values: Tensor = self.vision_model.values(seen)
        return values

    def _mask_logits(self, patches: Tensor, summary: Tensor) -> Tensor:
        """Compare upscaled patches with the text's vectors, (B, 1 or 2, h, w)."""
        sides = self.config.vision_shape.grid
        grid = patches.mT.unflatten(-1, sides).contiguous()
        vectors = self.mask_head(summary).unflatten(-1, (-1, summary.shape[-1]))
        return torch.einsum("bqc,bc...->bq...", vectors, self.upscale(grid))

    def _pool(self, tokens: Tensor, patches: Tensor, summary: Tensor) -> Tensor:
        """Return what stands for the image in the contrastive loss, (B, E)."""
        if self.config.pooling == "cls":
            return _unit(tokens[:, 0])
        if self.config.pooling == "average":
            return patches.mean(dim=1)
        score = patches @ _unit(summary)[..., None] / self.config.temperature
        pooled: Tensor = (score.softmax(dim=1) * patches).sum(dim=1)
        return pooled


def noise_of(source: NoiseSource | torch.Generator) -> NoiseSource:
    """Return a callable that draws from a generator, or the callable itself."""
    if not isinstance(source, torch.Generator):
        return source
    generator = source

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)

    return draw


def _unit(vectors: Tensor) -> Tensor:
    """Bring vectors to length one along the last axis."""
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length
