"""Instance norms of volumes whose channels lie last."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_medvlseg.core.models.channels_last import (
    InstanceNormLast,
    put_channels_last,
)


def _volume() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    volume = 40 + torch.randn(2, 3, 24, 20, 18, generator=generator)
    return volume.to(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("affine", [True, False])
def test_the_norm_is_torchs_and_the_channels_stay_last(*, affine: bool) -> None:
    norm = nn.InstanceNorm3d(3, eps=1e-3, affine=affine)
    if affine:
        norm.weight.data = torch.tensor([0.5, -2.0, 3.0])
        norm.bias.data = torch.tensor([1.0, 0.0, -4.0])
    volume = _volume()
    with torch.inference_mode():
        found = InstanceNormLast(norm)(volume)
        exact = norm.double()(volume.double())
        torch.testing.assert_close(found.double(), exact, atol=2e-5, rtol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last_3d)
        light = InstanceNormLast(norm.float())(volume.bfloat16())
    assert light.dtype == torch.bfloat16
    centred = light.double() - exact  # 40 is told apart from 40.2 at best
    assert float(centred.square().mean().sqrt()) < 0.3


def test_a_networks_own_norms_are_replaced_wherever_they_are() -> None:
    inner = nn.Sequential(nn.Conv3d(3, 4, 3), nn.InstanceNorm3d(4, affine=True))
    running = nn.InstanceNorm3d(4, track_running_stats=True)
    last = nn.Sequential(running)
    network = nn.Sequential(inner, nn.LeakyReLU(), last)
    names, volume = set(network.state_dict()), _volume()
    with torch.inference_mode():
        before = network.eval()(volume)
        put_channels_last(network)
        torch.testing.assert_close(network(volume), before, atol=1e-5, rtol=1e-5)
    assert set(network.state_dict()) == names
    assert isinstance(inner[1], InstanceNormLast)
    assert last[0] is running
    weight = network.get_parameter("0.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
