"""Blocks of the encoder that are left out of some steps, as a regulariser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.training.noise import SampleNoise


class LeftOut(nn.Module):
    """Leave what a residual block adds out, for each picture by a chance.

    Its draws come from `noise`, which the run sets before each step.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance
        self.noise: SampleNoise | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, D, H, W) to the same shape."""
        if not self.training or self.noise is None:
            return pixels
        drawn = self.noise.uniform((len(pixels), 1, 1, 1))
        kept = (drawn >= self.chance).to(pixels.dtype)
        return pixels * kept / (1 - self.chance)


def leave_out_blocks(encoder: nn.Module, chance: float) -> Sequence[LeftOut]:
    """Leave blocks out of steps: the last one by this chance, earlier ones by less.

    Parameters
    ----------
    encoder : nn.Module
        With `blocks`, stages of blocks that know whether they have a skip.
    chance : float
        0 leaves the encoder as it is.

    Returns
    -------
    sequence of LeftOut
        What was put into the blocks.

    References
    ----------
    Huang et al., Deep networks with stochastic depth, ECCV 2016.
    """
    stages: Any = encoder.blocks
    blocks = [block for stage in stages for block in stage]
    put = []
    for number, block in enumerate(blocks):
        if chance and getattr(block, "has_skip", False):
            block.drop_path = LeftOut(chance * number / len(blocks))
            put.append(block.drop_path)
    return put
