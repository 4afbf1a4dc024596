"""The maps of a result on the image's grid, filled in picture by picture."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_medvlseg.core.postprocess import no_labels, to_labels
from napari_medvlseg.core.uncertainty import (
    MAX_BINARY_ENTROPY,
    binary_entropy,
    mutual_information,
)

if TYPE_CHECKING:
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
