"""What each step of a run shows: the same in any process, whenever it is asked."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset

from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.pieces import cut_pieces
from napari_medvlseg.core.training.samples import (
    Plan,
    Sample,
    epoch_order,
    plan_batch,
)
from napari_medvlseg.core.training.style import borrow_styles, lenders_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.training.config import TrainConfig


class Plans(Dataset[Plan]):
    """The steps of a run by their number, from 0.

    Parameters
    ----------
    samples : list of Sample
    config : TrainConfig
    rows : sequence of int
        Of a step's batch, those that this process computes.
    """

    def __init__(
        self, samples: list[Sample], config: TrainConfig, rows: Sequence[int]
    ) -> None:
        self.samples = samples
        self.config = config
        self.rows = rows
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
        shown = self.order(epoch)[first : first + config.batch_size]
        noise = SampleNoise.seeded(
            step_seed(config.seed, step * config.batch_size + row, "plan")
            for row in self.rows
        )
        own = (self.samples[shown[row]] for row in self.rows)
        chosen = list(map(self._changed, own, noise.generators))
        twice = self._asked_twice(step)
        more = [place for place, row in enumerate(self.rows) if row in twice]
        size = part_of_run(config.sizes, step, self.total_steps)
        return plan_batch(chosen, size, noise, more)

    @property
    def further(self) -> int:
        """How many of a step's pictures are asked about twice.

        As many in each step: convolutions are prepared for each size of a batch anew.
        """
        return round(self.config.further_questions * self.config.batch_size)

    def _asked_twice(self, step: int) -> set[int]:
        """Return which rows of a step's whole batch are."""
        seed = step_seed(self.config.seed, step, "twice")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.config.batch_size, generator=generator).tolist()
        return set(order[: self.further])

    def _changed(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Cut a healthy piece out of a sample, or give it the style of another."""
        config = self.config
        chosen = cut_pieces([sample], config.healthy_pieces, generator)
        return borrow_styles(chosen, self.lenders, config.borrowed_styles, generator)[0]

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
