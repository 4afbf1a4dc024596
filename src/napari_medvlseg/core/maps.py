"""The maps of a result on the image's grid, filled in picture by picture."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_medvlseg.core.postprocess import no_labels, to_labels
from napari_medvlseg.core.uncertainty import (
    MAX_BINARY_ENTROPY,
    binary_entropy,
    categorical_entropy_term,
    mutual_information,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Map = npt.NDArray[np.float32]
    Window = tuple[slice | int, ...]


class Maps:
    """Probability, entropies and labels of P prompts.

    Predictive entropy is computed from the probability on this grid; the expected
    entropy comes interpolated; the mutual information is their difference.
    """

    def __init__(
        self,
        prompts: int,
        shape: tuple[int, ...],
        *,
        threshold: float,
        min_foreground: float,
    ) -> None:
        self._threshold = threshold
        self._min_foreground = min_foreground
        # Not zeros_like, which writes: of a volume what is not reached takes no memory.
        self.probability: Map = np.zeros((prompts, *shape), np.float32)
        self.predictive_entropy: Map = np.zeros((prompts, *shape), np.float32)
        self.expected_entropy: Map = np.zeros((prompts, *shape), np.float32)
        self.mutual_information: Map = np.zeros((prompts, *shape), np.float32)
        self.labels = no_labels(prompts, shape)

    def enter(self, row: int, window: Window, probability: Map, entropy: Map) -> None:
        """Enter mean probability and mean entropy, each (H, W), of one prompt."""
        at = (row, *window)
        probability = np.clip(probability, 0, 1)
        total = binary_entropy(probability)
        expected = np.clip(entropy, 0, MAX_BINARY_ENTROPY)
        self.probability[at] = probability
        self.predictive_entropy[at] = total
        self.expected_entropy[at] = expected
        self.mutual_information[at] = mutual_information(total, expected)

    def label(self, window: Window) -> None:
        """Label one picture from its probability."""
        self.labels[window] = to_labels(
            self.probability[(slice(None), *window)],
            self._threshold,
            self._min_foreground,
        )

    def smooth(self, axis: int, sigma: float) -> None:
        """Smooth a volume across its slices, and label it anew.

        Mean probability and expected entropy are weighted means over neighbours then;
        the predictive entropy follows from the former, the mutual information is the
        difference. At its ends the volume is continued by its mirror image, so that
        the sum across the slices is kept.

        Parameters
        ----------
        axis : int
            Of the slices, among the spatial ones.
        sigma : float
            Standard deviation of the Gaussian, in slices.
        """
        for values in (self.probability, self.expected_entropy):
            gaussian_filter1d(values, sigma, axis=axis + 1, output=values)
        for index in range(self.labels.shape[axis]):
            window = slice_window(axis, index)
            for row in range(len(self.probability)):
                at = (row, *window)
                self.enter(row, window, self.probability[at], self.expected_entropy[at])
            self.label(window)

    def copy(self) -> Maps:
        """Return maps that later pictures and draws do not change."""
        return copy.deepcopy(self)


def slice_window(axis: int, index: int) -> tuple[slice | int, ...]:
    """Return the index of a slice across an axis."""
    return (*[slice(None)] * axis, index)


def exclusive_maps(
    native: Callable[[int], Map],
    classes: int,
    wanted: Sequence[int],
    shape: tuple[int, ...],
) -> dict[str, Any]:
    """Return labels and maps of classes of which each voxel has one.

    Class after class: all probabilities at once would be gigabytes.

    Parameters
    ----------
    native : callable
        Gives a map on the image's grid: of the background (0), of each class, and
        then the expected entropy.
    classes : int
        Without the background.
    wanted : sequence of int
        From 0 on; the labels are numbered in this order.
    shape : tuple of int
        Of the image's grid.
    """
    rows = {index: row for row, index in enumerate(wanted)}
    probability = np.zeros((len(rows), *shape), np.float32)
    labels = np.zeros(shape, np.uint8 if len(rows) < 256 else np.uint16)
    best = np.zeros(shape, np.float32)
    total = np.zeros(shape, np.float32)
    others = np.zeros(shape, np.float32)
    for index in range(classes):
        here = native(index + 1).clip(0, 1)
        total += categorical_entropy_term(here)
        others += here
        labels[here > best] = rows.get(index, -1) + 1
        np.maximum(best, here, out=best)
        if index in rows:
            probability[rows[index]] = here
    background = (1 - others).clip(0, 1)  # all of it where no window is done yet
    labels[background >= best] = 0
    total += categorical_entropy_term(background)
    most = np.float32(np.log(classes + 1))
    expected = native(classes + 1).clip(0, most)
    total = total.clip(0, most)
    return {
        "labels": labels,
        "probability": probability,
        "predictive_entropy": total[None],
        "expected_entropy": expected[None],
        "mutual_information": mutual_information(total, expected)[None],
    }


def independent_maps(
    native: Callable[[int], Map],
    classes: int,
    wanted: Sequence[int],
    threshold: float,
) -> dict[str, Any]:
    """Return labels and maps of classes that may overlap.

    Parameters
    ----------
    native : callable
        Gives a map on the image's grid: the probability of each class, and then the
        expected entropy of each.
    classes : int
    wanted : sequence of int
    threshold : float
    """
    probability = np.stack([native(index).clip(0, 1) for index in wanted])
    expected = np.stack(
        [native(classes + index).clip(0, MAX_BINARY_ENTROPY) for index in wanted]
    )
    total = binary_entropy(probability)
    return {
        "labels": to_labels(probability, threshold),
        "probability": probability,
        "predictive_entropy": total,
        "expected_entropy": expected,
        "mutual_information": mutual_information(total, expected),
    }
