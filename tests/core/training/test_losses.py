"""Losses against direct NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceLoss

from napari_medvlseg.core.training.losses import (
    mixture_logits,
    segmentation_loss,
    soft_contrastive_loss,
)


def test_the_segmentation_loss_is_image_wise_dice_and_bce() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 6, 5, generator=generator)
    reference = (torch.rand(3, 1, 6, 5, generator=generator) > 0.5).float()
    p, g = logits.sigmoid().numpy().astype(float), reference.numpy()
    dice = [
        1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1)
        for a, b in zip(p, g, strict=True)
    ]
    likelihood = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    expected = 0.5 * np.mean(dice) + 0.5 * likelihood
    assert segmentation_loss(logits, reference).item() == pytest.approx(expected, 1e-5)


def test_for_masks_the_overlap_loss_is_monais_dice_loss() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 1, 6, 5, generator=generator)
    reference = (torch.rand(3, 1, 6, 5, generator=generator) > 0.5).float()
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, reference)
    found = segmentation_loss(logits, reference, likelihood_weight=0.0)
    assert found.item() == pytest.approx(dice.item() / 2, abs=1e-6)


@pytest.mark.parametrize("answer", [0.25, 0.5, 0.75])
def test_a_doubtful_answer_is_rewarded_as_it_is(answer: float) -> None:
    """The least loss is at the probability that the reference asks for."""
    reference = torch.zeros(1, 1, 10, 10)
    reference[..., :3, :3] = answer

    def loss(probability: float) -> float:
        found = torch.full_like(reference, 1e-6)
        found[..., :3, :3] = probability
        return segmentation_loss(found.logit(), reference).item()

    tried = [0.05 * step for step in range(1, 20)]
    assert min(tried, key=loss) == pytest.approx(answer)


def test_where_nothing_is_to_be_found_the_likeliest_pixels_count() -> None:
    """A blob is punished by its confidence, where the Dice loss is flat."""
    empty = torch.zeros(1, 1, 20, 20)

    def loss(logit: float) -> float:
        logits = torch.full_like(empty, -12.0)
        logits[..., :2, :2] = logit
        return segmentation_loss(logits, empty, likelihood_weight=0.0).item()

    # Half of the BCE of the likeliest 1 % (4 pixels), half of that; Dice: 1 - 1 / 5.
    assert loss(9.0) == pytest.approx(0.5 * (0.5 * 9.0 + 0.8), abs=0.01)
    assert loss(9.0) - loss(5.0) == pytest.approx(0.25 * 4.0, abs=0.02)


def test_weights_multiply_the_loss_of_their_images() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 1, 6, 5, generator=generator)
    reference = (torch.rand(2, 1, 6, 5, generator=generator) > 0.5).float()
    single = [
        segmentation_loss(logits[i : i + 1], reference[i : i + 1]).item()
        for i in range(2)
    ]
    weighted = segmentation_loss(logits, reference, torch.tensor([1.0, 4.0])).item()
    assert weighted == pytest.approx((single[0] + 4 * single[1]) / 2, 1e-5)


def test_an_empty_reference_rewards_an_empty_prediction() -> None:
    empty = torch.zeros(1, 1, 8, 8)
    nothing = segmentation_loss(torch.full((1, 1, 8, 8), -12.0), empty)
    everything = segmentation_loss(torch.full((1, 1, 8, 8), 12.0), empty)
    assert nothing.item() < 0.01
    assert everything.item() > 1


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def test_the_contrastive_loss_follows_equations_20_to_22() -> None:
    generator = torch.Generator().manual_seed(1)
    vision, text = (
        torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=-1)
        for _ in range(2)
    )
    v, t, tau = vision.double().numpy(), text.double().numpy(), 0.2
    target = _softmax(t @ t.T / tau)
    from_text = -(target * np.log(_softmax(t @ v.T / tau))).sum(axis=1).mean()
    from_vision = -(target.T * np.log(_softmax(v @ t.T / tau))).sum(axis=1).mean()
    expected = (from_text + from_vision) / 2
    found = soft_contrastive_loss(vision, text, tau).item()
    assert found == pytest.approx(expected, 1e-5)


def test_targets_carry_no_gradient() -> None:
    vision = torch.eye(3)
    text = torch.eye(3).requires_grad_()
    loss = soft_contrastive_loss(vision, text, 0.2)
    (gradient,) = torch.autograd.grad(loss, text)
    logits = (text.detach() @ vision.T / 0.2).requires_grad_()
    target = (torch.eye(3) / 0.2).softmax(dim=-1)
    by_hand = 0.5 * (
        torch.nn.functional.cross_entropy(logits, target)
        + torch.nn.functional.cross_entropy(logits.T, target.T)
    )
    (expected,) = torch.autograd.grad(by_hand, logits)
    torch.testing.assert_close(gradient, expected / 0.2)


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_the_mixtures_logits_are_those_of_the_mean_probability(draws: int) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(draws, 2, 1, 3, 3, generator=generator).double()
    mean = (1 / (1 + np.exp(-logits.numpy()))).mean(axis=0)
    expected = np.log(mean / (1 - mean))
    np.testing.assert_allclose(mixture_logits(logits).numpy(), expected, rtol=1e-10)


def test_the_mixture_stays_finite_where_probabilities_round_to_one() -> None:
    logits = torch.tensor([90.0, 80.0]).reshape(2, 1, 1, 1, 1).requires_grad_()
    mixture = mixture_logits(logits)
    mixture.sum().backward()
    # 1 - p = (e^-90 + e^-80) / 2, about e^-80 / 2
    assert mixture.item() == pytest.approx(80 + np.log(2), abs=1e-3)
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


def test_a_mixture_gains_from_disagreement_where_half_the_pixels_are_right() -> None:
    """Equal and wrong draws are punished harder than draws that differ."""
    answer = torch.ones(1, 1, 4, 4)
    agreeing = torch.full((2, 1, 1, 4, 4), -3.0)
    differing = agreeing.clone()
    differing[1] = 3.0
    losses = [
        segmentation_loss(mixture_logits(logits), answer).item()
        for logits in (agreeing, differing)
    ]
    mean_of_singles = np.mean(
        [segmentation_loss(draw, answer).item() for draw in differing]
    )
    assert losses[1] < mean_of_singles < losses[0]
