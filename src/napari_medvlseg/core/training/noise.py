"""The noise of training, from a generator for each row of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class SampleNoise:
    """Random numbers whose every row has its own generator, whatever batch it is in.

    Called, it returns normal ones.
    """

    generators: tuple[torch.Generator, ...]

    @classmethod
    def seeded(cls, seeds: Iterable[int], device: torch.device = CPU) -> SampleNoise:
        """Return the noise of rows with these seeds."""
        return cls(tuple(torch.Generator(device).manual_seed(seed) for seed in seeds))

    @property
    def device(self) -> torch.device:
        """Return where the numbers are drawn."""
        return self.generators[0].device

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Return normal noise of a shape whose first axis is the batch."""
        return torch.stack(
            [
                torch.randn(shape[1:], generator=generator, device=generator.device)
                for generator in self.generators
            ]
        )

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Return numbers from [0, 1) of a shape whose first axis is the batch."""
        return torch.stack(
            [
                torch.rand(shape[1:], generator=generator, device=generator.device)
                for generator in self.generators
            ]
        )
