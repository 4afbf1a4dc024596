"""Folding batch normalisation changes no answer, only the time it takes."""

from __future__ import annotations

import copy

import torch
from torch import nn

from napari_medvlseg.core.models.compact import Compact
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.training.fold import depthwise_in_float32, fold_statistics


def _seen_some_statistics() -> Compact:
    network = Compact()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                assert values is not None
                noise = torch.randn(values.shape, generator=generator)
                values.add_(0.1 * noise)
    return network.eval()


def _answer(network: Compact) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 64, 64, generator=generator)
    hidden = torch.randn(2, 5, 384, generator=generator)
    mask = torch.ones(2, 5, dtype=torch.bool)
    logits: torch.Tensor = network(pixels, hidden, mask, zero_noise).logits
    return logits


def test_a_folded_network_answers_the_same_in_training_mode_too() -> None:
    network = _seen_some_statistics()
    with torch.inference_mode():
        expected = _answer(network)
        other = _answer(copy.deepcopy(network).train())  # would change statistics
        assert not torch.allclose(other, expected, atol=1e-3)
        names = list(network.state_dict())
        fold_statistics(network)
        depthwise_in_float32(network)
        torch.testing.assert_close(
            _answer(network.train()), expected, atol=1e-4, rtol=1e-4
        )
    assert list(network.state_dict()) == names


def test_gains_and_offsets_are_still_trained_and_statistics_kept() -> None:
    network = _seen_some_statistics().train()
    fold_statistics(network)
    before = {name: value.clone() for name, value in network.named_buffers()}
    _answer(network).sum().backward()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.weight.grad is not None
        assert norm.weight.grad.abs().sum() > 0
        assert norm.bias.grad is not None
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name
