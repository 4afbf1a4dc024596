"""Overlapping windows of a large picture, blended by a Gaussian (MONAI's)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    Window = tuple[slice, slice]

_SUMS = ("_total", "_weight")


class Tiling:
    """Cut a picture into windows of one size and put their results together.

    Parameters
    ----------
    pixels : (3, H, W)
        A picture smaller than a tile is padded with black.
    tile : int
        Pixels a side.
    overlap : float
        Share of a tile that its neighbour repeats, 0 to below 1.
    """

    def __init__(self, pixels: Tensor, tile: int, overlap: float) -> None:
        # Half of all import time: not for pictures that are segmented whole.
        from monai.data.utils import compute_importance_map, dense_patch_slices

        self.height, self.width = pixels.shape[-2:]
        missing = (max(0, tile - self.width), max(0, tile - self.height))
        self.pixels = functional.pad(pixels, (0, missing[0], 0, missing[1]), value=-1.0)
        padded = tuple(int(size) for size in self.pixels.shape[-2:])
        interval = max(1, round(tile * (1 - overlap)))
        self.windows: list[Window] = [
            (window[-2], window[-1])
            for window in dense_patch_slices(padded, (tile, tile), (interval, interval))
        ]
        self._importance = compute_importance_map((tile, tile), mode="gaussian")
        self._total = torch.zeros(2, *padded)
        self._weight = torch.zeros(padded)

    def cut(self, index: int) -> Tensor:
        """Return the window's pixels (3, tile, tile)."""
        rows, columns = self.windows[index]
        return self.pixels[:, rows, columns].contiguous()

    def add(self, index: int, means: Tensor) -> None:
        """Take in a window's mean probability and entropy, (2, tile, tile)."""
        rows, columns = self.windows[index]
        self._total[:, rows, columns] += means * self._importance
        self._weight[rows, columns] += self._importance

    def emptied(self) -> Tiling:
        """Return a tiling of the same windows into which none has been added."""
        other = copy.copy(self)
        empty = {name: torch.zeros_like(getattr(self, name)) for name in _SUMS}
        vars(other).update(empty)
        return other

    def merged(self) -> Tensor:
        """Return the blended (2, H, W); 0 where no window has been added."""
        blended = self._total / self._weight.clamp_min(torch.finfo(torch.float32).tiny)
        return blended[:, : self.height, : self.width]
