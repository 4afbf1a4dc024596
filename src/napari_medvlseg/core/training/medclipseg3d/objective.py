"""The 3D network with its questions and losses, as one module that gives a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.models.medclipseg.head import enlarge
from napari_medvlseg.core.models.medclipseg.words import bert_tokenizer
from napari_medvlseg.core.training.losses import (
    segmentation_loss,
    soft_contrastive_loss,
)
from napari_medvlseg.core.training.medclipseg3d.config import WORDINGS
from napari_medvlseg.core.training.processes import ALONE, Processes

if TYPE_CHECKING:
    from napari_medvlseg.core.models.medclipseg.network import (
        MedCLIPSeg,
        MedCLIPSegOutput,
    )
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource
    from napari_medvlseg.core.training.medclipseg3d.config import MedCLIPVolumeConfig

UNIFORM_FLOOR = 1e-6


class Objective(nn.Module):
    """A batch in, each image with a question of its own; the loss out.

    Half Dice and half cross-entropy, and `contrastive_weight` of the soft contrastive
    loss, as in 2D, which compares the images of all processes.

    Parameters
    ----------
    network : MedCLIPSeg
    config : MedCLIPVolumeConfig
    processes : Processes
        Of which each has as many images of a batch.
    """

    uses_all = True

    def __init__(
        self,
        network: MedCLIPSeg,
        config: MedCLIPVolumeConfig,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.processes = processes
        pairs = [
            (wording.format(each.name, config.picture), each.labels)
            for each in config.asked
            for wording in WORDINGS
        ]
        self._ids = bert_tokenizer(network.config)([text for text, _ in pairs]).ids
        self._labels = [labels for _, labels in pairs]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        """Learn; BERT, which does not, keeps its dropout off."""
        super().train(mode)
        self.network.text_model.eval()
        return self

    def forward(
        self, image: Tensor, label: Tensor, noise: NoiseSource, precision: torch.dtype
    ) -> Tensor:
        """Return the loss of a batch, or of this process's part of it.

        Parameters
        ----------
        image : (B, 1, I, J, K)
        label : (B, 1, I, J, K)
        noise : callable
            Asked for (B, 1), which chooses the questions, then by each attention.
        precision : torch.dtype
            Of the network's pass; the losses are computed in float32.
        """
        rows = self._choose(noise, len(image))
        light = precision != torch.float32
        with torch.autocast(image.device.type, precision, enabled=light):
            drawn = self._draw(image, rows, noise)
        reference = torch.stack(
            [
                torch.isin(each, torch.tensor(self._labels[row]).to(each))
                for each, row in zip(label, rows, strict=True)
            ]
        ).float()
        logits = enlarge(drawn.logits.float(), tuple(label.shape[2:]))
        sides = drawn.vision_embedding.float(), drawn.text_embedding.float()
        vision, text = (
            self.processes.gather(functional.normalize(side, dim=-1)) for side in sides
        )
        agreement = soft_contrastive_loss(vision, text, self.config.temperature)
        return (
            segmentation_loss(logits, reference)
            + self.config.contrastive_weight * agreement
        )

    def _draw(
        self, image: Tensor, rows: list[int], noise: NoiseSource
    ) -> MedCLIPSegOutput:
        """Return one opinion on each image."""
        ids = self._ids[rows]
        # As in the whole batch: noise is as long as the words are.
        longest = self.processes.most(int((ids != 0).sum(dim=-1).max()))
        ids = ids[:, :longest].to(image.device)
        return self.network.draw(
            self.network.encode_normalised(image),
            self.network.encode_words(ids),
            self.network.word_mask(ids),
            noise,
        )

    def _choose(self, noise: NoiseSource, count: int) -> list[int]:
        """Return which question each image is asked, all as often."""
        uniform = torch.special.ndtr(noise((count, 1)))[:, 0]
        inside = uniform.clamp(UNIFORM_FLOOR, 1 - UNIFORM_FLOOR)
        return [int(row) for row in inside * len(self._labels)]
