"""Entropies and running sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, sem

from napari_medvlseg.core.uncertainty import (
    RunningStatistics,
    binary_entropy,
    binary_entropy_of_logits,
    mutual_information,
)


def _maps(draws: list[float]) -> tuple[float, float]:
    """Return predictive entropy and mutual information of one pixel's draws."""
    probability = torch.tensor(draws, dtype=torch.float64)
    statistics = RunningStatistics()
    for p in probability:
        statistics.add(torch.logit(p, eps=1e-12).reshape(1, 1, 1))
    mean, expected = statistics.means().numpy().astype(np.float32)
    total = binary_entropy(mean)
    return total.item(), mutual_information(total, expected).item()


@pytest.mark.parametrize(
    ("draws", "total", "information"),
    [
        pytest.param([1.0, 1.0], 0.0, 0.0, id="certain"),
        pytest.param([0.5, 0.5], math.log(2), 0.0, id="doubt"),
        pytest.param([1.0, 0.0], math.log(2), math.log(2), id="disagreement"),
    ],
)
def test_mutual_information_is_disagreement_and_not_doubt(
    draws: list[float], total: float, information: float
) -> None:
    assert _maps(draws) == pytest.approx((total, information), abs=1e-6)


def test_entropy_agrees_with_scipy() -> None:
    p = np.linspace(0, 1, 101, dtype=np.float32)
    expected = entropy(np.stack([p, 1 - p]).astype(np.float64))
    np.testing.assert_allclose(binary_entropy(p), expected, atol=1e-6)


def test_entropy_of_logits_is_exact_where_sigmoid_saturates() -> None:
    logits = torch.tensor([-60.0, -20.0, 0.0, 3.0, 60.0], dtype=torch.float64)
    p = logits.sigmoid()
    q = (-logits).sigmoid()
    expected = -(p * p.log() + q * q.log())
    torch.testing.assert_close(
        binary_entropy_of_logits(logits), expected, atol=1e-15, rtol=1e-6
    )


def test_running_sums_are_the_means_over_the_stacked_draws() -> None:
    logits = torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(0))
    statistics = RunningStatistics()
    for batch in logits.split([1, 4, 4]):
        statistics.add(batch)
    probability, expected = statistics.means().numpy()
    stacked = logits.double().sigmoid().numpy()
    np.testing.assert_allclose(probability, stacked.mean(axis=0), atol=1e-6)
    of_each = entropy(np.stack([stacked, 1 - stacked]))
    np.testing.assert_allclose(expected, of_each.mean(axis=0), atol=1e-6)


def test_memory_does_not_grow_with_the_draws() -> None:
    statistics = RunningStatistics()
    for _ in range(50):
        statistics.add(torch.zeros(3, 8, 8))
    held = [v for v in vars(statistics).values() if isinstance(v, torch.Tensor)]
    assert sum(tensor.numel() for tensor in held) == 3 * 8 * 8
    assert statistics.count == 150


def test_means_without_a_draw_are_refused() -> None:
    with pytest.raises(ValueError, match="no draw"):
        RunningStatistics().means()


def test_the_standard_error_is_that_of_the_mean_where_it_is_unclear() -> None:
    logits = torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = 20.0  # clear: does not count
    statistics = RunningStatistics()
    assert statistics.standard_error() == np.inf
    statistics.add(logits[:3])
    statistics.add(logits[3:])
    drawn = logits[:, 1:].sigmoid().double().numpy()
    expected = np.sqrt((sem(drawn, axis=0) ** 2).mean())
    assert statistics.standard_error() == pytest.approx(expected, rel=1e-4)
    clear = RunningStatistics()
    clear.add(torch.full((2, 3, 3), 20.0))
    assert clear.standard_error() == 0
