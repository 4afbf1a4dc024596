"""The quick look at the validation cases after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_medvlseg.core.captions import caption_case
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.preprocess.pixels import to_network_range

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.models.compact import Compact
    from napari_medvlseg.core.training.samples import Sample

    TextSource = Callable[[list[str]], tuple[Tensor, Tensor]]

CHUNK = 8
SIDE = 256


def validation_dsc(model: Compact, text: TextSource, samples: list[Sample]) -> float:
    """Return the mean DSC over cases, without noise, on the stored grid.

    Parameters
    ----------
    model : Compact
    text : callable
        Prompts to word vectors (B, L, 384) and mask (B, L).
    samples : list of Sample
        A large picture is judged by its middle window.
    """
    model.eval()
    scores: list[float] = []
    for start in range(0, len(samples), CHUNK):
        chunk = samples[start : start + CHUNK]
        pairs = [_middle(sample) for sample in chunk]
        images = torch.stack([to_network_range(image) for image, _ in pairs])
        hidden, mask = text([_prompt(sample) for sample in chunk])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model(images, hidden, mask, zero_noise).logits.float()
        logits = functional.interpolate(logits, images.shape[-2:], mode="bilinear")
        for found, (_, reference) in zip(logits[:, 0] > 0, pairs, strict=True):
            scores.append(_dsc(found, torch.from_numpy(reference)))
    return sum(scores) / len(scores)


def _prompt(sample: Sample) -> str:
    """Return the sheet's prompt, or a caption."""
    if sample.case.prompt is not None:
        return sample.case.prompt
    return caption_case(sample.mask, sample.image, sample.case.info)


def _middle(
    sample: Sample,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Cut the middle window of a large picture."""
    height, width = sample.mask.shape
    top, left = max(0, (height - SIDE) // 2), max(0, (width - SIDE) // 2)
    image = sample.image[top : top + SIDE, left : left + SIDE]
    mask = sample.mask[top : top + SIDE, left : left + SIDE]
    return image.copy(), mask.copy()


def _dsc(mask: Tensor, reference: Tensor) -> float:
    """Return the DSC; 1 where both are empty."""
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0
