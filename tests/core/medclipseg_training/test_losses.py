"""MedCLIPSeg's losses against direct NumPy and SciPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, log_softmax, softmax
from scipy.stats import beta as beta_distribution

from napari_medvlseg.core.models.medclipseg.head import BetaBelief
from napari_medvlseg.core.models.medclipseg.network import MedCLIPSegOutput
from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
from napari_medvlseg.core.training.medclipseg.losses import (
    authors_contrastive_loss,
    contrastive_loss,
    evidential_loss,
    hard_contrastive_loss,
    medclipseg_loss,
    rowwise_dice_loss,
)

B, E, SIDE, TAU = 3, 6, 8, 0.2
PAPER = MedCLIPSegTrainConfig()
AUTHORS = replace(PAPER, compatible=True)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _output(belief: BetaBelief | None = None) -> MedCLIPSegOutput:
    return MedCLIPSegOutput(
        _random(B, 1, SIDE, SIDE),
        _random(B, E, seed=1),
        _random(B, E, seed=2),
        _random(B, 4, E, seed=3),
        belief,
    )


def _reference() -> torch.Tensor:
    return (_random(B, 1, SIDE, SIDE, seed=4) > 0).float()


def _unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _cross_entropy(logits: Any, target: Any) -> float:
    """Equation 21."""
    return float(-(target * log_softmax(logits, axis=-1)).sum(axis=-1).mean())


def _dice(p: Any, g: Any, smooth: float) -> Any:
    both = 2 * (p * g).sum(axis=-1) + smooth
    return 1 - both / (p.sum(axis=-1) + g.sum(axis=-1) + smooth)


def _bce(p: Any, g: Any) -> float:
    return float(-(g * np.log(p) + (1 - g) * np.log(1 - p)).mean())


def test_the_papers_loss_is_the_weighted_sum_of_its_three() -> None:
    """Equations 20 to 23."""
    output, reference = _output(), _reference()
    p, g = expit(output.logits.double().numpy()), reference.double().numpy()
    v = _unit(output.vision_embedding.double().numpy())
    t = _unit(output.text_embedding.double().numpy())
    target = softmax(t @ t.T / TAU, axis=-1)
    contrast = _cross_entropy(t @ v.T / TAU, target)
    contrast = (contrast + _cross_entropy(v @ t.T / TAU, target.T)) / 2
    dice = _dice(p.reshape(B, -1), g.reshape(B, -1), 1.0).mean()
    expected = 0.5 * (dice + _bce(p, g)) + 0.1 * contrast
    found = medclipseg_loss(output, reference, PAPER, 0)
    assert found.item() == pytest.approx(expected, 1e-5)
    alone = replace(PAPER, segmentation_weight=0.0)
    assert medclipseg_loss(output, reference, alone, 0).item() == pytest.approx(
        0.1 * contrast, 1e-5
    )


def test_the_authors_loss_has_dice_by_rows_and_swapped_targets() -> None:
    output, reference = _output(), _reference()
    p, g = expit(output.logits[:, 0].double().numpy()), reference[:, 0].double().numpy()
    v, t = (
        x.double().numpy() for x in (output.vision_embedding, output.text_embedding)
    )
    target = softmax(_unit(t @ t.T / TAU), axis=-1)
    contrast = _cross_entropy(v @ t.T / TAU, target)
    contrast = (contrast + _cross_entropy(t @ v.T / TAU, target.T)) / 2
    rows = _dice(p[:, 1:], g[:, 1:], 1e-5).mean()
    expected = 0.5 * (rows + _bce(p, g)) + 0.1 * contrast
    found = medclipseg_loss(output, reference, AUTHORS, 0)
    assert found.item() == pytest.approx(expected, 1e-5)
    own = medclipseg_loss(output, reference, PAPER, 0)
    assert abs(own.item() - expected) > 1e-3


def test_the_authors_temperature_cancels_in_their_targets() -> None:
    vision, text = _random(B, E), torch.zeros(B, E)
    text[:, 0] = torch.arange(1.0, B + 1)
    losses = [authors_contrastive_loss(vision, text, tau) for tau in (0.2, 2.0)]
    logits = (vision @ text.mT).double().numpy()
    likeness = (text @ text.mT).double().numpy()
    target = softmax(_unit(likeness), axis=-1)
    for loss, tau in zip(losses, (0.2, 2.0), strict=True):
        expected = _cross_entropy(logits / tau, target)
        expected = (expected + _cross_entropy(logits.T / tau, target.T)) / 2
        assert loss.item() == pytest.approx(expected, 1e-5)


def test_the_authors_first_row_counts_nothing() -> None:
    logits, reference = _random(B, 1, SIDE, SIDE), _reference()
    changed = logits.clone()
    changed[:, :, 0] = 9.0
    same = rowwise_dice_loss(changed, reference)
    torch.testing.assert_close(rowwise_dice_loss(logits, reference), same)


@pytest.mark.parametrize("compatible", [False, True])
def test_hard_targets_let_only_its_own_prompt_fit(*, compatible: bool) -> None:
    output = _output()
    config = replace(PAPER, hard_targets=True, compatible=compatible)
    v, t = (
        x.double().numpy() for x in (output.vision_embedding, output.text_embedding)
    )
    if not compatible:
        v, t = _unit(v), _unit(t)
    logits = v @ t.T / TAU
    expected = _cross_entropy(logits, np.eye(B)) + _cross_entropy(logits.T, np.eye(B))
    found = contrastive_loss(output, config).item()
    assert found == pytest.approx(expected / 2, 1e-5)
    soft = contrastive_loss(output, replace(config, hard_targets=False)).item()
    assert abs(found - soft) > 1e-3


def test_pictures_that_fit_their_prompts_cost_nothing() -> None:
    assert hard_contrastive_loss(torch.eye(B), torch.eye(B), 0.01).item() < 1e-6


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_the_evidential_loss_is_expected_entropy_and_divergence(answer: float) -> None:
    belief = BetaBelief(*(torch.full((1, 1, 1, 1), x) for x in (1.7, 3.2)))
    believed = beta_distribution(3.2, 1.7)
    own, wrong = (3.2, 1.7) if answer else (1.7, 3.2)

    def surprise(p: float) -> float:
        return float(-np.log(p if answer else 1 - p) * believed.pdf(p))

    def divergence(p: float) -> float:
        density = beta_distribution(wrong, 1).pdf(p)
        return float(density * np.log(density))

    expected, _ = quad(surprise, 0, 1)
    price, _ = quad(divergence, 0, 1)
    reference = torch.full((1, 1, 1, 1), answer)
    assert own != wrong
    for weight in (0.0, 0.5):
        loss = evidential_loss(belief, reference, weight).item()
        assert loss == pytest.approx(expected + weight * price, abs=1e-5)


def test_the_price_of_wrong_evidence_rises_over_the_epochs() -> None:
    belief = BetaBelief.of(_random(B, 2, SIDE, SIDE, seed=5))
    config = replace(PAPER, head="evidential", contrastive_weight=0.0)
    reference = _reference()
    first, half, last = (
        medclipseg_loss(_output(belief), reference, config, epoch).item()
        for epoch in (0, 5, 50)
    )
    assert half - first == pytest.approx((last - first) / 2, abs=1e-5)
    assert last > first
