"""What each step of a run shows: the same in any process, whenever it is asked."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset

from napari_medvlseg.core.training.pieces import cut_pieces
from napari_medvlseg.core.training.samples import (
    Plan,
    Sample,
    epoch_order,
    plan_batch,
)
from napari_medvlseg.core.training.style import borrow_styles, lenders_of

if TYPE_CHECKING:
    from napari_medvlseg.core.training.config import TrainConfig


class Plans(Dataset[Plan]):
    """The steps of a run by their number, from 0.

    Parameters
    ----------
    samples : list of Sample
    config : TrainConfig
    """

    def __init__(self, samples: list[Sample], config: TrainConfig) -> None:
        self.samples = samples
        self.config = config
        self.lenders = lenders_of(samples)
        self.order = lru_cache(maxsize=2)(self._order)
        self.steps_per_epoch = len(self.order(0)) // config.batch_size
        self.total_steps = self.steps_per_epoch * config.epochs

    def __len__(self) -> int:
        return self.total_steps

    def __getitem__(self, step: int) -> Plan:
        config = self.config
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * config.batch_size
        rows = self.order(epoch)[first : first + config.batch_size]
        chosen = [self.samples[row] for row in rows]
        seed = step_seed(config.seed, step, "plan")
        generator = torch.Generator().manual_seed(seed)
        chosen = cut_pieces(chosen, config.healthy_pieces, generator)
        chosen = borrow_styles(chosen, self.lenders, config.borrowed_styles, generator)
        size = part_of_run(config.sizes, step, self.total_steps)
        return plan_batch(chosen, size, generator, config.further_questions)

    def _order(self, epoch: int) -> list[int]:
        """Return which cases an epoch shows."""
        config = self.config
        return epoch_order(
            self.samples, config.weights, config.seed, epoch, config.normal_weight
        )


def step_seed(seed: int, step: int, what: str) -> int:
    """Return the seed of one purpose in one step."""
    return zlib.crc32(f"{seed} {step} {what}".encode())


def part_of_run(phases: tuple[int, ...], step: int, total_steps: int) -> int:
    """Return the entry of this part of the run, each counting for an equal part."""
    return phases[min(len(phases) * step // total_steps, len(phases) - 1)]
