"""BiPVL-Seg: volumes and the descriptions of classes in, logits out.

Symbols: B images, N classes, K concepts of a class, L word pieces, D channels of the
text encoder, C channels of the logits (N, and one for the background if the classes
exclude one another), E `embedding_dim`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.models.bipvlseg.bifusion import BiFusion, Meeting
from napari_medvlseg.core.models.bipvlseg.config import STAGES
from napari_medvlseg.core.models.bipvlseg.text import StagedText
from napari_medvlseg.core.models.bipvlseg.vision import build_vision

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_medvlseg.core.backbones.text_encoders import TextSpec, WordPieces
    from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource


class Descriptions(NamedTuple):
    """The classes' texts after the first stage, which no image touches."""

    hidden: Tensor
    """(N, L, D), or once an image was seen (B N, L, D)."""
    mask: Tensor
    """As long, bool: False at padding."""


class BiPVLOutput(NamedTuple):
    """What a pass gives; the class maps are for training."""

    logits: Tensor
    """(B, C, I, J, K)"""
    class_maps: Tensor
    """(B, C, i, j, k): the encoder's own idea of each class, MLP(V_n) of equation 3."""


class Looked(NamedTuple):
    """What no noise touches of some images and texts."""

    early: tuple[Tensor, ...]
    """What the decoder makes of image and stem."""
    before: tuple[Tensor, ...]
    """Of the stages before the first that fuses."""
    features: Tensor
    """Of that stage, not yet fused."""
    texts: Descriptions | None
    """One for each class and image, if they meet."""
    meeting: Meeting | None
    """Texts and image as they meet at that stage, before the first draw."""

    def expand(self, draws: int) -> Looked:
        """Repeat one image for several draws without copying it."""
        early, before, features = self._large(
            lambda tensor: tensor.expand(draws, *tensor.shape[1:])
        )
        texts, meeting = self.texts, self.meeting
        if texts is not None:
            texts = Descriptions(
                *(part.repeat(draws, *[1] * (part.ndim - 1)) for part in texts)
            )
        if meeting is not None:
            meeting = meeting.expand(draws)
        return Looked(early, before, features, texts, meeting)

    def light(self, dtype: torch.dtype) -> Looked:
        """Return what is large of the image in a precision of fewer bits."""
        early, before, features = self._large(lambda tensor: tensor.to(dtype))
        meeting = self.meeting and self.meeting.light(dtype)
        return Looked(early, before, features, self.texts, meeting)

    def _large(
        self, change: Callable[[Tensor], Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Return what is large of the image, changed: early, before and features."""
        early, before = (
            tuple(change(tensor) for tensor in part)
            for part in (self.early, self.before)
        )
        return early, before, change(self.features)


class BiPVLSeg(nn.Module):
    """Segment the classes that the descriptions tell of.

    Parameters
    ----------
    config : BiPVLConfig
    spec : TextSpec, optional
        The text encoder's; by default the one that `config.text` names.
    """

    def __init__(self, config: BiPVLConfig, spec: TextSpec | None = None) -> None:
        super().__init__()
        self.config = config
        self.vision = build_vision(config)
        channels = self.vision.stage_channels
        self.class_embed = nn.Sequential(
            nn.Conv3d(channels[-1], channels[-1], 1),
            nn.ReLU(),
            nn.Conv3d(channels[-1], config.output_channels, 1),
        )
        self.text: StagedText | None = None
        self.fusion = nn.ModuleDict()
        if not config.has_text:
            return
        spec = spec or TEXT_ENCODERS[config.text]
        self.text = StagedText(spec)
        for stage in config.fused_stages:
            self.fusion[str(stage)] = BiFusion(
                channels[stage - 1],
                spec.shape.dim,
                config,
                returns_text=stage < max(config.fused_stages),
            )
        self.alignment = AlignmentHead(config, spec.shape.dim)

    def describe(self, texts: WordPieces) -> Descriptions:
        """Run the first text stage on the classes' (N, L) descriptions, once."""
        text = self._text()
        hidden = text.stage(0, text.embed(texts.ids), texts.mask)
        return Descriptions(hidden, texts.mask)

    def encode_concepts(self, texts: WordPieces, present: Tensor) -> Tensor:
        """Return t_k, (N, K, D), of the concepts that `present` (N, K) marks.

        Parameters
        ----------
        texts : (R, L)
            The R concepts that are there, class by class.
        present : (N, K) bool
            Where each of them belongs; what is absent is 0.
        """
        encoded = self._text().encode(texts.ids, texts.mask)  # (R, D)
        concepts = encoded.new_zeros(*present.shape, encoded.shape[-1])
        return concepts.masked_scatter(present[..., None], encoded)

    def forward(
        self, image: Tensor, texts: Descriptions | None, noise: NoiseSource
    ) -> BiPVLOutput:
        """Return one opinion on each image.

        Parameters
        ----------
        image : (B, channels, I, J, K)
        texts : Descriptions
            What `describe` returned; None for the text-free twin.
        noise : callable
            Called twice a fused stage if the attention is probabilistic.

        Raises
        ------
        ImageError
            If a side of the image is no multiple of the network's divisor.
        """
        return self.draw(self.look(image, texts), noise)

    def look(self, image: Tensor, texts: Descriptions | None) -> Looked:
        """Run what no noise touches: all that comes before the first fusion.

        Parameters
        ----------
        image : (B, channels, I, J, K)
        texts : Descriptions
            What `describe` returned; None for the text-free twin.

        Raises
        ------
        ImageError
            If a side of the image is no multiple of the network's divisor.
        """
        self._check_size(image)
        stem = self.vision.stem(image)
        first = min(self.config.fused_stages, default=STAGES) - 1
        features, before = self.vision.stage(0, stem), []
        for index in range(1, first + 1):
            before.append(features)
            features = self.vision.stage(index, features)
            if texts is not None and self._is_heard(index):
                texts = self._read_on(index, texts)
        meeting = None
        if texts is not None and str(first + 1) in self.fusion:
            texts = self._for_each_image(texts, len(features))
            summary = self._summary(texts, len(features))
            meeting = self._fusion(first).prepare(features, summary)
        early = self.vision.early(image, stem)
        return Looked(early, tuple(before), features, texts, meeting)

    def draw(self, looked: Looked, noise: NoiseSource) -> BiPVLOutput:
        """Return one opinion on each image that was looked at."""
        features, texts = looked.features, looked.texts
        first, skips = len(looked.before), [*looked.before]
        for index in range(first, STAGES):
            if index > first:
                features = self.vision.stage(index, features)
            if texts is not None and self._is_heard(index):
                meeting = looked.meeting if index == first else None
                if index > first:
                    texts = self._read_on(index, texts)
                features, texts = self._meet(index, features, texts, (meeting, noise))
            skips.append(features)
        logits = self.vision.decode(looked.early, skips)
        return BiPVLOutput(logits, self.class_embed(features))

    def _is_heard(self, index: int) -> bool:
        """Return whether this stage, or a later one, asks for the text."""
        return index < max(self.config.fused_stages, default=0)

    def _read_on(self, index: int, texts: Descriptions) -> Descriptions:
        """Run a text stage after the first."""
        hidden = self._text().stage(index, texts.hidden, texts.mask)
        return texts._replace(hidden=hidden)

    def _meet(
        self,
        index: int,
        features: Tensor,
        texts: Descriptions,
        draw: tuple[Meeting | None, NoiseSource],
    ) -> tuple[Tensor, Descriptions]:
        """Fuse, if the stage does."""
        if str(index + 1) not in self.fusion:
            return features, texts
        meeting, noise = draw
        if meeting is None:
            texts = self._for_each_image(texts, len(features))
            summary = self._summary(texts, len(features))
            features, summary = self.fusion[str(index + 1)](features, summary, noise)
        else:
            size = features.shape[2:]
            features, summary = self._fusion(index).exchange(meeting, noise, size)
        if self._is_heard(index + 1):
            hidden = self._text().moved(*texts, summary.flatten(0, 1))
            texts = texts._replace(hidden=hidden)
        return features, texts

    def _fusion(self, index: int) -> BiFusion:
        """Return the fusion of a stage that has one."""
        fusion: BiFusion = self.fusion[str(index + 1)]  # type: ignore[assignment]
        return fusion

    def _summary(self, texts: Descriptions, images: int) -> Tensor:
        """Return one vector a class and image, (B, N, D)."""
        summary: Tensor = self._text().summary(*texts).unflatten(0, (images, -1))
        return summary

    def _for_each_image(self, texts: Descriptions, images: int) -> Descriptions:
        """Repeat the texts for a batch, unless that was done."""
        repeats = images * self.config.classes // len(texts.hidden)
        if repeats == 1:
            return texts
        return Descriptions(
            texts.hidden.repeat(repeats, 1, 1), texts.mask.repeat(repeats, 1)
        )

    def _text(self) -> StagedText:
        """Return the text encoder; the text-free twin must not be asked."""
        if self.text is None:
            msg = "expected a network that reads texts, got its text-free twin"
            raise ValueError(msg)
        return self.text

    def _check_size(self, image: Tensor) -> None:
        """Refuse an image that the stages cannot halve."""
        divisor = self.vision.divisor
        size = tuple(image.shape[2:])
        if any(side % step for side, step in zip(size, divisor, strict=True)):
            msg = f"expected sides that are multiples of {divisor}, got {size}; pad it"
            raise ImageError(msg)


class AlignmentHead(nn.Module):
    """Projects classes' maps and concepts into one space (the norms of equation 4)."""

    def __init__(self, config: BiPVLConfig, text_dim: int) -> None:
        super().__init__()
        self.grid = config.class_grid
        self.overlapping = config.overlapping
        cells = self.grid[0] * self.grid[1] * self.grid[2]
        self.to_vision = nn.Linear(cells, config.embedding_dim)
        self.to_text = nn.Linear(text_dim, config.embedding_dim)

    def forward(self, class_maps: Tensor, concepts: Tensor) -> tuple[Tensor, Tensor]:
        """Return V' (B, N, E) and t' (N, K, E), L2-normalised.

        Parameters
        ----------
        class_maps : (B, C, i, j, k)
            The background's, if there is one, is left out.
        concepts : (N, K, D)
        """
        maps = class_maps if self.overlapping else class_maps[:, 1:]
        cells = functional.adaptive_avg_pool3d(maps, self.grid).flatten(2)
        seen = functional.normalize(self.to_vision(cells), dim=-1)
        said = functional.normalize(self.to_text(concepts), dim=-1)
        return seen, said
