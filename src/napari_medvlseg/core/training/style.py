"""Pictures in the style of others: their shading, their histogram.

Which scanner made a picture, and with which settings, must not tell what it shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.exposure import match_histograms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.training.samples import Sample

    Picture = npt.NDArray[np.uint8]

WIDTHS = (0.004, 0.03)
"""Half the side of the exchanged square of low frequencies, in cycles a pixel."""
HISTOGRAM_SHARE = 0.5
"""Of the borrowed styles: the histogram; the others are low frequencies."""
BORROWERS = frozenset({"BUSI"})
"""Sets whose pictures borrow: ultrasound scanners differ most."""


def exchange_shading(picture: Picture, other: Picture, width: float) -> Picture:
    """Give a picture the amplitudes of another at low frequencies.

    Parameters
    ----------
    picture, other : (H, W, 3) uint8
    width : float
        Half the side of the square of frequencies, in cycles a pixel.

    References
    ----------
    Yang and Soatto, FDA: Fourier domain adaptation for semantic segmentation, 2020.
    """
    height, breadth = picture.shape[:2]
    rows = np.abs(np.fft.fftfreq(height)) <= width
    columns = np.fft.rfftfreq(breadth) <= width
    low = rows[:, None] & columns[None]
    here = np.fft.rfft2(picture.astype(np.float32), axes=(0, 1))
    there = np.fft.rfft2(other.astype(np.float32), axes=(0, 1))
    phase = np.angle(here[low])
    here[low] = np.abs(there[low]) * np.exp(1j * phase)
    mixed = np.fft.irfft2(here, s=(height, breadth), axes=(0, 1))
    stored: Picture = np.asarray(mixed).round().clip(0, 255).astype(np.uint8)
    return stored


def borrow_style(
    sample: Sample, other: Sample, share: float, generator: torch.Generator
) -> Sample:
    """Return a sample that looks, by a share, as another picture of its size does.

    Parameters
    ----------
    sample, other : Sample
    share : float
        0 is the picture as it was.
    generator : torch.Generator
    """
    kind, place = torch.rand(2, generator=generator).tolist()
    if kind < HISTOGRAM_SHARE:
        changed = match_histograms(sample.image, other.image, channel_axis=-1)
    else:
        low, high = WIDTHS
        width = low + (high - low) * place
        changed = exchange_shading(sample.image, other.image, width)
    mixed = (1 - share) * sample.image + share * np.asarray(changed, np.float32)
    return replace(sample, image=mixed.round().clip(0, 255).astype(np.uint8))


def lenders_of(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the pictures of each set of `BORROWERS`."""
    lenders: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.case.dataset in BORROWERS:
            lenders.setdefault(sample.case.dataset, []).append(sample)
    return lenders


def borrow_styles(
    samples: Sequence[Sample],
    lenders: Mapping[str, Sequence[Sample]],
    share: float,
    generator: torch.Generator,
) -> list[Sample]:
    """Give a share of the pictures of some sets the style of others of their set.

    Parameters
    ----------
    samples : sequence of Sample
    lenders : mapping
        By set; the pictures of other sets are left as they are.
    share : float
    generator : torch.Generator
    """
    changed = []
    for sample in samples:
        pool = lenders.get(sample.case.dataset, ())
        drawn, strength = torch.rand(2, generator=generator).tolist()
        if pool and drawn < share:
            number = int(torch.randint(len(pool), (), generator=generator))
            changed.append(borrow_style(sample, pool[number], strength, generator))
        else:
            changed.append(sample)
    return changed
