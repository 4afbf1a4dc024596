"""Blocks that are left out of training steps."""

from __future__ import annotations

from typing import Any

import torch

from napari_medvlseg.core.backbones.efficientnet import efficientnet_lite0
from napari_medvlseg.core.training.depth import LeftOut, leave_out_blocks
from napari_medvlseg.core.training.noise import SampleNoise


def test_what_is_left_out_is_nothing_and_the_mean_stays() -> None:
    block = LeftOut(0.25).train()
    block.noise = SampleNoise.seeded(range(4000))
    out = block(torch.ones(4000, 1, 1, 1))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1) / 0.75)}
    assert abs(float(out.mean()) - 1) < 0.05
    assert torch.equal(block.eval()(out), out)


def test_only_blocks_with_a_skip_are_left_out_later_ones_more_often() -> None:
    encoder: Any = efficientnet_lite0()
    names = set(encoder.state_dict())
    put = leave_out_blocks(encoder, 0.2)
    blocks = [block for stage in encoder.blocks for block in stage]
    assert len(put) == sum(block.has_skip for block in blocks) > 5
    chances = [block.chance for block in put]
    assert chances == sorted(chances)
    assert 0 < chances[0] < chances[-1] < 0.2
    assert set(encoder.state_dict()) == names  # a checkpoint fits both


def test_no_chance_changes_nothing() -> None:
    assert not leave_out_blocks(efficientnet_lite0(), 0.0)
