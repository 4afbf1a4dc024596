"""The patches of each step, which other processes may prepare ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_medvlseg.core.training.bipvlseg.data import (
    Volume,
    augmentation,
    patch_of,
)
from napari_medvlseg.core.training.plans import step_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_medvlseg.core.training.volumes.config import VolumeTrainConfig


class StepPatches(Dataset[tuple[Tensor, Tensor]]):
    """What a step sees, by the step's number alone, whoever prepares it.

    Parameters
    ----------
    volumes : sequence of Volume
    config : VolumeTrainConfig
    rows : sequence of int
        Of a step's batch, those that this process computes.
    """

    def __init__(
        self, volumes: Sequence[Volume], config: VolumeTrainConfig, rows: Sequence[int]
    ) -> None:
        self.volumes, self.config, self.rows = volumes, config, rows
        self.transform = augmentation(config)
        self.steps_per_epoch = max(1, len(volumes) // config.batch_size)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (B, channels, I, J, K) and labels (B, 1 or N, I, J, K)."""
        seed, size = self.config.seed, self.config.batch_size
        order = torch.randperm(
            len(self.volumes),
            generator=torch.Generator().manual_seed(
                step_seed(seed, step // self.steps_per_epoch, "order")
            ),
        )
        first = step % self.steps_per_epoch * size
        patches = [
            patch_of(
                self.volumes[int(order[(first + row) % len(order)])],
                self.transform,
                step_seed(seed, step * size + row, "patch"),
                self.config.label_regions,
            )
            for row in self.rows
        ]
        images, labels = (torch.stack(parts) for parts in zip(*patches, strict=True))
        return images, labels

    def prepared(self, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the patches of some steps, prepared by the run's workers if any."""
        loader = DataLoader(
            self, batch_size=None, sampler=steps, num_workers=self.config.workers
        )
        return iter(loader)
