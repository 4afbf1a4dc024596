"""The network with its texts and losses, as one module that gives a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from napari_medvlseg.core.backbones.text_encoders import (
    TEXT_ENCODERS,
    TextTokenizer,
    WordPieces,
    find_text_folder,
    load_weights,
)
from napari_medvlseg.core.training.bipvlseg.losses import (
    TaskWeights,
    alignment_loss,
    class_embedding_loss,
    segmentation_loss,
)

if TYPE_CHECKING:
    from napari_medvlseg.core.class_texts import ClassSheet
    from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg, Descriptions
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource
    from napari_medvlseg.core.training.bipvlseg.config import BiPVLTrainConfig


class Texts(NamedTuple):
    """The classes' texts as word pieces."""

    descriptions: WordPieces
    """Of the N classes."""
    aligned: WordPieces
    """Of all concepts that are there, class by class."""
    present: Tensor
    """(N, K) bool: which those are."""


def tokenize(sheet: ClassSheet, text_format: str, encoder: str) -> Texts:
    """Return the texts of a sheet for a text encoder, by its name."""
    spec = TEXT_ENCODERS[encoder]
    pieces = TextTokenizer(spec, find_text_folder(encoder))
    aligned = sheet.aligned_texts(text_format)
    return Texts(
        pieces(sheet.descriptions(text_format)),
        pieces([text for each in aligned for text in each if text is not None]),
        torch.tensor([[text is not None for text in each] for each in aligned]),
    )


def load_text_encoder(network: BiPVLSeg, config: BiPVLTrainConfig) -> None:
    """Give the network its published text encoder, and freeze what does not learn."""
    if network.text is None:
        return
    spec = TEXT_ENCODERS[config.text]
    weights = load_weights(spec, find_text_folder(config.text))
    network.text.bert.load_state_dict(weights)
    for name, parameter in network.text.named_parameters():
        learns = config.text_training == "all" or (
            config.text_training == "norms" and "LayerNorm" in name
        )
        parameter.requires_grad_(learns)


class Objective(nn.Module):
    """A batch in, the weighted sum of the three tasks' losses out.

    Parameters
    ----------
    network : BiPVLSeg
    config : BiPVLTrainConfig
    texts : Texts, optional
        None for the text-free twin, whose only task is the segmentation.
    """

    def __init__(
        self, network: BiPVLSeg, config: BiPVLTrainConfig, texts: Texts | None
    ) -> None:
        super().__init__()
        self.network = network
        self.texts = texts
        self.settings = config.alignment()
        self.frozen = config.text_training == "none"
        weighs = self.settings.global_weight or self.settings.local_weight
        self.aligns = texts is not None and bool(weighs)
        self.weights = TaskWeights(3 if self.aligns else 2) if texts else None
        self._kept: tuple[Descriptions, Tensor] | None = None

    @property
    def uses_all(self) -> bool:
        """Whether each parameter has its part in each loss."""
        return self.aligns

    def forward(
        self, image: Tensor, label: Tensor, noise: NoiseSource, precision: torch.dtype
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        image : (B, channels, I, J, K)
        label : (B, 1 or N, I, J, K)
        noise : callable
        precision : torch.dtype
            Of the network's pass; the losses are computed in float32.
        """
        overlapping = self.network.config.overlapping
        light = precision != torch.float32
        with torch.autocast(image.device.type, precision, enabled=light):
            texts = self.describe(image.device)
            out = self.network(image, texts[0] if texts else None, noise)
        logits, maps = out.logits.float(), out.class_maps.float()
        segmented = segmentation_loss(logits, label, overlapping=overlapping)
        if texts is None or self.texts is None or self.weights is None:
            return segmented
        tasks = [segmented, class_embedding_loss(maps, logits, overlapping=overlapping)]
        if self.aligns:
            seen, said = self.network.alignment(maps, texts[1].float())
            present = self.texts.present.to(image.device)
            tasks.append(alignment_loss(seen, said, present, self.settings, noise))
        weighted: Tensor = self.weights(torch.stack(tasks))
        return weighted

    def describe(self, device: torch.device) -> tuple[Descriptions, Tensor] | None:
        """Return the descriptions and concepts; once only, if the encoder is frozen."""
        if self.texts is None:
            return None
        if self._kept is None or not self.frozen:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                self._kept = self._encoded(self.texts, device)
        return self._kept

    def _encoded(
        self, texts: Texts, device: torch.device
    ) -> tuple[Descriptions, Tensor]:
        """Run what no image touches."""
        described = WordPieces(*(x.to(device) for x in texts.descriptions))
        aligned = WordPieces(*(x.to(device) for x in texts.aligned))
        return (
            self.network.describe(described),
            self.network.encode_concepts(aligned, texts.present.to(device)),
        )
