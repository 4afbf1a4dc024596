"""The noise of training, from a generator for each picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SampleNoise:
    """Normal noise whose every row has its own generator, whatever batch it is in."""

    generators: tuple[torch.Generator, ...]

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Return noise of a shape whose first axis is the batch."""
        return torch.stack(
            [
                torch.randn(shape[1:], generator=generator, device=generator.device)
                for generator in self.generators
            ]
        )
