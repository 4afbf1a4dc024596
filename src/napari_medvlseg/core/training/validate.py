"""The quick look at the validation cases after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_medvlseg.core.captions import caption_case
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.training.samples import INPUT_SIZE, TILED

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.models.compact import Compact
    from napari_medvlseg.core.training.samples import Sample

    TextSource = Callable[[list[str]], tuple[Tensor, Tensor]]

CHUNK = 8


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
    device = next(model.parameters()).device.type
    scores: list[float] = []
    for start in range(0, len(samples), CHUNK):
        chunk = samples[start : start + CHUNK]
        pairs = [_middle(sample) for sample in chunk]
        images = torch.stack([to_network_range(image) for image, _ in pairs])
        small = functional.interpolate(
            images, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True
        )
        hidden, mask = text([_prompt(sample) for sample in chunk])
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            small = small.to(hidden.device)
            logits = model(small, hidden, mask, zero_noise).logits.float().cpu()
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
    """Cut the middle window of a picture that is learnt by windows."""
    if sample.case.dataset not in TILED:
        return sample.image, sample.mask
    height, width = sample.mask.shape
    top, left = max(0, (height - INPUT_SIZE) // 2), max(0, (width - INPUT_SIZE) // 2)
    image = sample.image[top : top + INPUT_SIZE, left : left + INPUT_SIZE]
    mask = sample.mask[top : top + INPUT_SIZE, left : left + INPUT_SIZE]
    return image.copy(), mask.copy()


def _dsc(mask: Tensor, reference: Tensor) -> float:
    """Return the DSC; 1 where both are empty."""
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0
