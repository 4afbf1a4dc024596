"""From probability to labels; quick enough to follow a slider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.types import large_enough

if TYPE_CHECKING:
    import numpy.typing as npt


def no_labels(prompts: int, shape: tuple[int, ...]) -> npt.NDArray[np.integer[Any]]:
    """Return labels of a shape where nothing was found: uint16 from 256 prompts on."""
    return np.zeros(shape, dtype=np.uint8 if prompts < 256 else np.uint16)


def to_labels(
    probability: npt.NDArray[np.float32],
    threshold: float,
    min_foreground: float = 0.0,
    slice_axis: int | None = None,
) -> npt.NDArray[np.integer[Any]]:
    """Label each pixel with the most probable prompt above the threshold.

    Parameters
    ----------
    probability : (P, *spatial)
        One independent yes/no question each.
    threshold : float
        A pixel needs more than this.
    min_foreground : float
        A prompt with a smaller share of a picture's pixels is absent there.
    slice_axis : int, optional
        Spatial axis of the pictures of a volume; without it there is one picture.

    Returns
    -------
    (*spatial) uint8, or uint16 from 256 prompts on
        0 is background, ``i + 1`` is prompt i; the first one wins ties.
    """
    prompts = probability.shape[0]
    labels = no_labels(prompts, probability.shape[1:])
    best = probability[0]  # of a volume with one prompt, a copy would be 300 MB
    for index in range(prompts):
        candidate = probability[index]
        above = candidate > threshold
        if min_foreground > 0:
            above &= large_enough(above, min_foreground, slice_axis)
        if index == 1:
            best = np.where(labels > 0, best, np.float32(0))
        if index > 0:
            above &= candidate > best
            best[above] = candidate[above]
        labels[above] = index + 1
    return labels
