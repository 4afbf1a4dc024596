"""The noise of every draw, from numbers that name it.

Each (seed, draw, slice, tile) has its own CPU generator, so that batch size, other
prompts, cancelling and early stopping change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_medvlseg.core.config import AXES, NO_FLIPS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


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


def flip_views(flips: str) -> list[tuple[int, ...]]:
    """Return the axes that each view is flipped along: none first, then every choice.

    Parameters
    ----------
    flips : str
        Of the letters R, A and S, or none.

    Examples
    --------
    >>> flip_views("RS")
    [(), (0,), (2,), (0, 2)]
    """
    axes = [AXES.index(letter) for letter in ("" if flips == NO_FLIPS else flips)]
    choices = range(2 ** len(axes))
    return [tuple(a for bit, a in enumerate(axes) if n >> bit & 1) for n in choices]


def draw_batches(
    num_samples: int,
    batch_size: int,
    *,
    views: int = 1,
    stops: Collection[int] = (),
) -> list[list[range]]:
    """Cut the draws into batches; the first is a single draw, for a preview.

    Parameters
    ----------
    num_samples, batch_size : int
    views : int
        Of which the draws see one by turns, in batches of their own.
    stops : collection of int
        Numbers of draws at which batches that belong together must end.

    Returns
    -------
    list of lists of range
        Batches that belong together: after each list the draws done are the first
        ones, so that a run that is stopped there equals one of fewer samples.
    """
    groups = [[range(1)]]
    start = 1
    while start < num_samples:
        ends = [start + views * batch_size, num_samples, *stops]
        end = min(end for end in ends if end > start)
        groups.append([range(at, end, views) for at in range(start, start + views)])
        start = end
    return [[batch for batch in group if batch] for group in groups]
