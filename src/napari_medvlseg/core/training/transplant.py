"""Lesions in healthy pictures, and healthy pieces of pictures with lesions.

The healthy pictures of a set were made with other settings than those with a lesion. A
model that can tell them apart as a whole does so, and then calls the pictures of
another scanner healthy. After a transplant only the lesion itself tells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medvlseg.core.training.samples import Sample

EDGE = 5
"""Pixels about a lesion that come with it."""
SOFTNESS = 3.0
"""Standard deviation of the seam, in pixels."""
RING = 12
"""Pixels about a lesion whose brightness is made that of the place."""
GAINS = (0.6, 1.6)
MARGIN = 8
"""Pixels between a healthy piece and the lesion."""
NARROWEST = 0.35
"""Of a healthy piece, as a share of the picture's width."""
TALLEST = 1.5
"""Of a healthy piece, as a multiple of its width."""


TRANSPLANTED = frozenset({"BUSI"})
"""Sets in which healthy pictures occur, and lesions lie anywhere beside each other."""


def donors_of(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the pictures with a lesion of each set where lesions are transplanted."""
    donors: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.case.dataset in TRANSPLANTED and sample.mask.any():
            donors.setdefault(sample.case.dataset, []).append(sample)
    return donors


def transplant(host: Sample, donor: Sample, generator: torch.Generator) -> Sample:
    """Put a donor's lesion into a healthy picture of the same size.

    It keeps its depth, is moved sideways, and is made as bright as its new place.

    Parameters
    ----------
    host, donor : Sample
        Without and with a lesion.
    generator : torch.Generator
    """
    columns = np.flatnonzero(donor.mask.any(axis=0))
    low, high = -int(columns[0]), donor.mask.shape[1] - 1 - int(columns[-1])
    shift = int(torch.randint(low, high + 1, (), generator=generator))
    mask = np.roll(donor.mask, shift, axis=1)
    image = np.roll(donor.image, shift, axis=1).astype(np.float32)
    near = np.asarray(ndimage.binary_dilation(mask, iterations=EDGE), np.bool_)
    far = np.asarray(ndimage.binary_dilation(near, iterations=RING), np.bool_)
    ring = far & ~near
    gain = 1.0
    if ring.any():
        here, there = host.image[ring].mean(), image[ring].mean()
        gain = float(np.clip((here + 1) / (there + 1), *GAINS))
    share = ndimage.gaussian_filter(near.astype(np.float32), SOFTNESS)[..., None]
    mixed = host.image * (1 - share) + image * gain * share
    blended = mixed.round().clip(0, 255).astype(np.uint8)
    return replace(host, case=replace(host.case, prompt=None), image=blended, mask=mask)


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


def vary(
    samples: Sequence[Sample],
    donors: Mapping[str, Sequence[Sample]],
    shares: tuple[float, float],
    generator: torch.Generator,
) -> list[Sample]:
    """Transplant into a share of the healthy pictures; cut pieces of a share of others.

    Parameters
    ----------
    samples : sequence of Sample
    donors : mapping
        By set, its pictures with a lesion; other sets are left as they are.
    shares : 2 floats
    generator : torch.Generator
    """
    varied = []
    for sample in samples:
        pool = donors.get(sample.case.dataset, ())
        drawn = float(torch.rand((), generator=generator)) if pool else 1.0
        other: Sample | None = None
        if sample.mask.any():
            if drawn < shares[1]:
                other = healthy_piece(sample, generator)
        elif drawn < shares[0]:
            number = int(torch.randint(len(pool), (), generator=generator))
            other = transplant(sample, pool[number], generator)
        varied.append(other or sample)
    return varied
