"""The noise of every draw, from numbers that name it.

Each (seed, draw, slice, tile) has its own CPU generator, so that batch size, other
prompts, cancelling and early stopping change nothing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class Place(NamedTuple):
    """Where in an image a draw is made."""

    slice_index: int = 0
    tile_index: int = 0


def draw_generator(seed: int, draw: int, place: Place) -> torch.Generator:
    """Return the generator that belongs to one draw at one place."""
    sequence = np.random.SeedSequence([seed, draw, *place])
    state = int(sequence.generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state % 2**63)


class DrawNoise:
    """Standard normal noise for a batch of draws, each from its own generator.

    Parameters
    ----------
    seed : int
    draws : sequence of int
        Which draws make up the batch, in order.
    place : Place
    """

    def __init__(self, seed: int, draws: Sequence[int], place: Place) -> None:
        self._generators = [draw_generator(seed, draw, place) for draw in draws]

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Return (B, ...) noise; B is the number of draws."""
        rows = [torch.randn(shape[1:], generator=g) for g in self._generators]
        return torch.stack(rows)


def is_mirrored(draw: int) -> bool:
    """Whether a draw sees the picture mirrored, where a model's card asks for that."""
    return draw % 2 == 1


def draw_batches(
    num_samples: int, batch_size: int, *, mirrors: bool = False
) -> list[range]:
    """Cut the draws into batches; the first is a single draw, for a preview.

    Parameters
    ----------
    num_samples, batch_size : int
    mirrors : bool
        Whether mirrored draws must be in batches of their own.
    """
    rest = [range(1, num_samples)]
    if mirrors:
        rest = [range(1, num_samples, 2), range(2, num_samples, 2)]
    cut = [
        [
            draws[start : start + batch_size]
            for start in range(0, len(draws), batch_size)
        ]
        for draws in rest
    ]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*cut))
    return [range(1), *(batch for batch in turns if batch is not None)]
