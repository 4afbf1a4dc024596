"""Healthy pieces of pictures with lesions.

The healthy pictures of a set were made with other settings than those with a lesion. A
model that can tell them apart as a whole does so, and then calls the pictures of
another scanner healthy. In a piece beside a lesion nothing but the lesion is missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.training.samples import Sample

MARGIN = 10
"""Pixels between a healthy piece and the lesion."""
NARROWEST = 0.35
"""Of a healthy piece, as a share of the picture's width."""
TALLEST = 1.5
"""Of a healthy piece, as a multiple of its width."""
CUT = frozenset({"BUSI"})
"""Sets in which healthy pictures occur, and a piece of a picture is one like it."""


def healthy_piece(sample: Sample, generator: torch.Generator) -> Sample | None:
    """Return the wider side of a picture beside its lesion; None if both are narrow.

    Parameters
    ----------
    sample : Sample
        With a lesion.
    generator : torch.Generator
    """
    height, width = sample.mask.shape
    columns = np.flatnonzero(sample.mask.any(axis=0))
    left, right = int(columns[0]) - MARGIN, width - int(columns[-1]) - 1 - MARGIN
    size = max(left, right)
    if size < NARROWEST * width:
        return None
    tall = min(height, int(TALLEST * size))
    top = int(torch.randint(height - tall + 1, (), generator=generator))
    side = np.s_[:size] if left >= right else np.s_[width - size :]
    piece = torch.from_numpy(sample.image[top : top + tall, side].copy())
    scaled = functional.interpolate(
        piece.permute(2, 0, 1)[None].float(), (height, width), mode="bilinear"
    )
    return replace(
        sample,
        case=replace(sample.case, prompt=None),
        image=np.ascontiguousarray(scaled[0].round().byte().permute(1, 2, 0).numpy()),
        mask=np.zeros((height, width), np.bool_),
    )


def cut_pieces(
    samples: Sequence[Sample], share: float, generator: torch.Generator
) -> list[Sample]:
    """Cut a healthy piece out of a share of the pictures with a lesion.

    Parameters
    ----------
    samples : sequence of Sample
        Those of sets other than `CUT` are left as they are.
    share : float
    generator : torch.Generator
    """
    changed = []
    for sample in samples:
        ill = sample.case.dataset in CUT and bool(sample.mask.any())
        drawn = float(torch.rand((), generator=generator)) if ill else 1.0
        piece = healthy_piece(sample, generator) if drawn < share else None
        changed.append(piece or sample)
    return changed
