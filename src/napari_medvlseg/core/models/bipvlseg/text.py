"""A BERT in four stages, between which the image has its say.

Symbols: R texts (classes, or classes of each image), L word pieces, D channels.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_medvlseg.core.backbones.bert import Bert

if TYPE_CHECKING:
    from napari_medvlseg.core.backbones.text_encoders import TextSpec


class StagedText(nn.Module):
    """Encode texts stage by stage, each with one vector that stands for it.

    That vector is the text's first word piece or the mean of all. When fusion changes
    it, the word pieces it stands for move by as much, so that the next stage's layers
    see the change and the vector of the moved text is the changed one.
    """

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        if sum(spec.stages) != spec.shape.layers:
            msg = f"stages {spec.stages} must add up to {spec.shape.layers} layers"
            raise ValueError(msg)
        self.spec = spec
        self.bert = Bert(spec.shape)
        self._ends = (0, *accumulate(spec.stages))

    def embed(self, ids: Tensor) -> Tensor:
        """Return what enters the first stage: (R, L) to (R, L, D)."""
        hidden: Tensor = self.bert.embeddings(ids)
        return hidden

    def stage(self, index: int, hidden: Tensor, mask: Tensor) -> Tensor:
        """Run the layers of stage 0, 1, 2 or 3; `mask` (R, L) is False at padding."""
        for layer in self.bert.encoder.layer[self._ends[index] : self._ends[index + 1]]:
            hidden = layer(hidden, mask)
        return hidden

    def summary(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return what stands for each text: (R, L, D) to (R, D)."""
        if self.spec.pooling == "first":
            return hidden[:, 0]
        weight = mask.to(hidden)[..., None]
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1)

    def moved(self, hidden: Tensor, mask: Tensor, summary: Tensor) -> Tensor:
        """Return the text (R, L, D) whose summary is the given one (R, D)."""
        shift = (summary - self.summary(hidden, mask))[:, None]
        if self.spec.pooling == "first":
            return nn.functional.pad(shift, (0, 0, 0, hidden.shape[1] - 1)) + hidden
        return hidden + shift

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the summaries (R, D) of texts that meet no image: the concepts."""
        return self.summary(self.bert(ids, mask), mask)
