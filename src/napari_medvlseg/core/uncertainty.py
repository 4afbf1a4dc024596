"""How sure a model is: entropies in nats, from running sums over the draws.

Symbols: S draws, H x W pixels. For a yes/no question the entropies are binary, at
most ln 2:

- predictive entropy (total): H[mean of p]
- expected entropy (aleatoric): mean of H[p]
- mutual information (epistemic): their difference

Of C classes that exclude one another they are categorical, at most ln C.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Map = npt.NDArray[np.float32]

UNCLEAR = 0.1
"""Mean probability from which on, and up to 1 less which, a pixel is unclear."""
MAX_BINARY_ENTROPY = float(np.log(2))
"""Nats: complete doubt about a yes/no question."""


def binary_entropy(probability: Map) -> Map:
    """Return -p ln p - (1 - p) ln(1 - p) in nats; 0 at certainty."""
    p = np.clip(probability, 0, 1, dtype=np.float32)
    q = 1 - p
    tiny = np.finfo(np.float32).tiny
    entropy: Map = -(p * np.log(p + tiny) + q * np.log(q + tiny))
    return np.clip(entropy, 0.0, MAX_BINARY_ENTROPY) + np.float32(0)  # not -0.0


def binary_entropy_of_logits(logits: Tensor) -> Tensor:
    """Return the entropy of sigmoid(logits) in nats, exact for large ones too."""
    return functional.softplus(logits) - logits * logits.sigmoid()


def categorical_entropy_term(probability: Map) -> Map:
    """Return -p ln p in nats, 0 at 0; the entropy is its sum over all classes."""
    p = np.clip(probability, 0, 1, dtype=np.float32)
    term: Map = -p * np.log(p + np.finfo(np.float32).tiny) + np.float32(0)  # not -0.0
    return term


def mutual_information(predictive_entropy: Map, expected_entropy: Map) -> Map:
    """Return their difference, clipped at 0, in nats."""
    information: Map = predictive_entropy - expected_entropy
    return np.clip(information, 0, None, out=information)


class DrawStatistics(ABC):
    """Sums over draws: memory does not grow with their number.

    Probabilities are averaged, not logits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kept: dict[int, Tensor] = {}

    @abstractmethod
    def means(self) -> Tensor:
        """Return the means of the draws so far.

        Raises
        ------
        ValueError
            If no draw was taken in.
        """

    def keep(self) -> None:
        """Remember the means of the draws so far, for `means_at`."""
        self._kept[self.count] = self.means()

    def means_at(self, count: int) -> Tensor:
        """Return what `means` was after so many draws, if that was kept, else is."""
        kept = self._kept.get(count)
        return self.means() if kept is None else kept


class RunningStatistics(DrawStatistics):
    """Of one yes/no question on one picture."""

    def __init__(self) -> None:
        super().__init__()
        self._square: Tensor | None = None
        self._probability: Tensor | None = None
        self._entropy: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Take in a batch of draws, (S, H, W)."""
        each = logits.sigmoid()
        probability, square = each.sum(dim=0), each.square().sum(dim=0)
        entropy = binary_entropy_of_logits(logits).sum(dim=0)
        self._square = square if self._square is None else self._square + square
        if self._probability is None or self._entropy is None:
            self._probability, self._entropy = probability, entropy
        else:
            self._probability = self._probability + probability
            self._entropy = self._entropy + entropy
        self.count += logits.shape[0]

    def believe(self, probability: Tensor, entropy: Tensor) -> None:
        """Take in what one pass says by itself: both means, (H, W)."""
        self._probability, self._entropy, self.count = probability, entropy, 1

    def standard_error(self) -> float:
        """Return how far the mean probability may still move.

        The root mean square over the unclear pixels (mean probability from
        `UNCLEAR` to 1 - `UNCLEAR`) of the standard error of the mean; infinite before
        the second draw, 0 where nothing is unclear.
        """
        if self.count < 2 or self._probability is None or self._square is None:
            return math.inf
        mean = self._probability / self.count
        unclear = (mean - 0.5).abs() < 0.5 - UNCLEAR
        if not unclear.any():
            return 0.0
        variance = (self._square / self.count - mean.square()).clamp(min=0)
        return math.sqrt(float(variance[unclear].mean()) / (self.count - 1))

    def means(self) -> Tensor:
        """Return mean probability and mean entropy, (2, H, W).

        Raises
        ------
        ValueError
            If no draw was taken in.
        """
        if self._probability is None or self._entropy is None:
            msg = "no draw was added yet"
            raise ValueError(msg)
        return torch.stack([self._probability, self._entropy]) / self.count


class ClassStatistics(DrawStatistics):
    """Of a network with C channels, on any grid.

    Parameters
    ----------
    exclusive : bool
        Whether the channels are classes that exclude one another (softmax) or
        questions of their own (sigmoid).
    """

    def __init__(self, *, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None

    def add(self, logits: Tensor) -> None:
        """Take in a batch of draws, (S, C, *grid)."""
        if self.exclusive:
            log_p = logits.log_softmax(dim=1)
            each = log_p.exp()
            entropy = -(each * log_p).sum(dim=1, keepdim=True)
        else:
            each, entropy = logits.sigmoid(), binary_entropy_of_logits(logits)
        new = (each.sum(dim=0), each.square().sum(dim=0), entropy.sum(dim=0))
        old = self._sums or tuple(torch.zeros_like(part) for part in new)
        self._sums = (old[0] + new[0], old[1] + new[1], old[2] + new[2])
        self.count += len(logits)

    def standard_error(self) -> float:
        """Return how far the mean may still move, as `RunningStatistics` does."""
        if self.count < 2:
            return math.inf
        probability, square, _ = self._known()
        mean = probability / self.count
        unclear = (mean - 0.5).abs() < 0.5 - UNCLEAR
        if not unclear.any():
            return 0.0
        variance = (square / self.count - mean.square()).clamp(min=0)
        return math.sqrt(float(variance[unclear].mean()) / (self.count - 1))

    def means(self) -> Tensor:
        """Return the mean probabilities and then the mean entropies.

        Returns
        -------
        (C + 1, *grid) if the classes exclude one another, else (2 C, *grid)

        Raises
        ------
        ValueError
            If no draw was taken in.
        """
        probability, _, entropy = self._known()
        return torch.cat([probability, entropy]) / self.count

    def _known(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sums."""
        if self._sums is None:
            msg = "no draw was added yet"
            raise ValueError(msg)
        return self._sums
