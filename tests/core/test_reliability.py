"""Calibration and ranking, against SciPy and direct sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from scipy.stats import pearsonr, spearmanr

from napari_medvlseg.core.reliability import (
    BINS,
    case_figures,
    case_reliability,
    class_reliability,
    expected_calibration_error,
    pearson,
    spearman,
    summarise_reliability,
)


def _entropy(p: np.ndarray) -> np.ndarray:
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log(1 - p)))


def _case(seed: int, shape: tuple[int, int] = (20, 24)) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.01, 0.99, shape).astype(np.float32)
    reference = generator.random(shape) < probability
    information = generator.uniform(0, 0.1, shape).astype(np.float32)
    return probability, information, reference


def test_a_case_follows_its_definitions() -> None:
    p, information, reference = _case(0)
    entropy, mask = _entropy(p), p > 0.5
    found = case_reliability(p, (entropy, information), mask, reference)
    union = mask | reference
    assert found.image.brier == pytest.approx(np.mean((p - reference) ** 2), 1e-5)
    assert found.union is not None
    assert found.union.brier == pytest.approx(
        np.mean((p[union] - reference[union]) ** 2), 1e-5
    )
    assert found.entropy == pytest.approx(entropy[union].sum(), 1e-5)
    assert found.doubt == pytest.approx(entropy.sum() / (p.sum() + 1), 1e-5)
    np.testing.assert_allclose(found.sample[0], np.abs(p - reference)[union], 1e-5)


def test_the_figures_of_a_set_agree_with_scipy() -> None:
    cases, errors, entropies = [], [], []
    for seed in range(4):
        p, information, reference = _case(seed)
        mask = p > 0.5
        cases.append(case_reliability(p, (_entropy(p), information), mask, reference))
        union = mask | reference
        errors.append(np.abs(p - reference)[union])
        entropies.append(_entropy(p)[union])
    told = summarise_reliability(cases, [0.9, 0.5, 0.7, 0.2])
    pooled = spearmanr(np.concatenate(errors), np.concatenate(entropies)).statistic
    single = [spearmanr(a, b).statistic for a, b in zip(errors, entropies, strict=True)]
    found = told["spearman"]["predictive_entropy"]
    assert found["pixels"] == pytest.approx(pooled, abs=1e-4)
    assert found["cases"] == pytest.approx(np.mean(single), abs=1e-4)
    linear = pearsonr(np.concatenate(errors), np.concatenate(entropies)).statistic
    assert told["pearson"]["predictive_entropy"]["pixels"] == pytest.approx(linear)
    doubts = [case.doubt for case in cases]
    expected = spearmanr(doubts, [0.1, 0.5, 0.3, 0.8]).statistic
    assert told["ranking"] == pytest.approx(expected)
    share = sum(c.information for c in cases) / sum(c.entropy for c in cases)
    assert told["mutual_information_share"] == pytest.approx(share)


def test_calibrated_probabilities_have_little_calibration_error() -> None:
    p, information, reference = _case(1, (400, 500))
    maps = (_entropy(p), information)
    honest = case_reliability(p, maps, p > 0.5, reference)
    sure = case_reliability((p > 0.5).astype(np.float32), maps, p > 0.5, reference)
    told = [expected_calibration_error([c.image.bins]) for c in (honest, sure)]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0] < 0.01
    # A sure answer is wrong as often as the mean of min(p, 1 - p).
    assert told[1] == pytest.approx(np.minimum(p, 1 - p).mean(), abs=0.01)


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    p, information, reference = _case(4)
    found = case_reliability(p, (p, information), p > 0.5, reference)
    gaps = []
    for low in range(BINS):
        inside = (p * BINS >= low) & (p * BINS < low + 1)
        gap = abs(p[inside].mean(dtype=float) - reference[inside].mean())
        gaps.append(inside.mean() * gap)
    told = expected_calibration_error([found.image.bins])
    assert told == pytest.approx(sum(gaps), rel=1e-5)


def test_every_case_weighs_the_same() -> None:
    """A large picture of zeros does not drown a small one."""
    sizes = ((8, 8), (80, 80))
    cases = []
    for size, value in zip(sizes, (1.0, 0.0), strict=True):
        p = np.full(size, value, np.float32)
        nothing = np.zeros(size, np.bool_)
        cases.append(case_reliability(p, (p, p), nothing, nothing))
    told = summarise_reliability(cases, [0.0, 1.0])
    assert told["brier"]["image"] == pytest.approx(0.5)
    assert told["ece"]["image"] == pytest.approx(0.5)
    assert told["brier"]["union"] is None
    assert told["ece"]["union"] is None
    assert told["spearman"]["predictive_entropy"] == {"pixels": None, "cases": None}
    assert told["pearson"]["mutual_information"] == {"pixels": None, "cases": None}


def test_probability_one_falls_into_the_last_bin() -> None:
    p = np.array([[0.0, 1.0]])
    found = case_reliability(p, (p, p), p > 0.5, p > 0.5)
    assert found.image.bins.shape == (BINS, 3)
    assert found.image.bins[0, 0] == found.image.bins[-1, 0] == 0.5


def test_a_correlation_with_a_constant_is_not_defined() -> None:
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1], [2]) is None
    assert pearson([2, 2], [1, 3]) is None
    assert pearson([1, 2, 4], [3, 5, 9]) == pytest.approx(1.0)
    assert spearman([1, 2, 2, 5], [1, 3, 3, 9]) == pytest.approx(1.0)


def test_the_reliability_diagram_of_calibrated_probabilities_is_the_diagonal() -> None:
    p, information, reference = _case(3, (400, 500))
    case = case_reliability(p, (_entropy(p), information), p > 0.5, reference)
    curve = np.array(summarise_reliability([case], [0.5])["calibration"])
    probability, frequency, share = curve.T
    assert len(curve) == BINS
    assert share.sum() == pytest.approx(1)
    assert np.abs(probability - frequency).max() < 0.03
    inside = (p >= 1 / BINS) & (p < 2 / BINS)
    assert probability[1] == pytest.approx(p[inside].mean(), abs=1e-6)
    assert frequency[1] == pytest.approx(reference[inside].mean())
    assert summarise_reliability([], [])["calibration"] == []


def test_the_curve_tells_the_error_by_entropy() -> None:
    p, information, reference = _case(2, (200, 200))
    entropy, mask = _entropy(p), p > 0.5
    case = case_reliability(p, (entropy, information), mask, reference)
    told = summarise_reliability([case], [0.5])
    union = mask | reference
    by_entropy = np.array(told["error_by_entropy"])
    assert by_entropy[:, 2].sum() == pytest.approx(1)
    assert (np.diff(by_entropy[:, 0]) > 0).all()
    mean_error = np.abs(p - reference)[union].mean()
    weighted = (by_entropy[:, 1] * by_entropy[:, 2]).sum()
    assert weighted == pytest.approx(mean_error, abs=0.02)  # of 2000 pixels
    doubtful = union & (entropy > np.log(2) * (BINS - 1) / BINS)
    assert by_entropy[-1, 0] == pytest.approx(entropy[doubtful].mean(), abs=0.01)
    assert by_entropy[-1, 2] == pytest.approx(doubtful.sum() / union.sum(), abs=0.05)
    assert summarise_reliability([], [])["error_by_entropy"] == []


def _classes(seed: int) -> tuple[np.ndarray, ...]:
    """Return p of background and two classes, entropies, found and right classes."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet((1.5, 1, 1), (6, 7, 8)).transpose(3, 0, 1, 2)
    right = (p.cumsum(axis=0) < generator.random((6, 7, 8))).sum(axis=0)
    total = scipy_entropy(p, axis=0)
    return p, total, total * generator.uniform(0, 0.3, total.shape), right


def test_classes_are_compared_as_their_definitions_say() -> None:
    """Half the one-hot Brier score, 1 - p of the right class, and the winning class."""
    p, total, information, right = _classes(5)
    labels = p.argmax(axis=0)
    case = class_reliability(p[1:], (total, information), labels, right)
    union = (labels > 0) | (right > 0)
    one_hot = np.stack([right == n for n in range(3)])
    squared = np.square(p - one_hot).sum(axis=0) / 2
    assert case.union is not None
    assert case.union.brier == pytest.approx(squared[union].mean())
    assert case.image.brier == pytest.approx(squared.mean())
    error = 1 - np.take_along_axis(p, right[None], axis=0)[0]
    np.testing.assert_allclose(case.sample[0], error[union])
    told = case_figures(case)
    assert told["spearman"] == pytest.approx(
        spearmanr(error[union], total[union]).statistic
    )
    assert told["pearson_mutual_information"] == pytest.approx(
        pearsonr(error[union], information[union]).statistic
    )
    share = information[union].sum() / total[union].sum()
    assert told["mutual_information_share"] == pytest.approx(share)
    assert told["doubt"] == pytest.approx(total.sum() / (p[1:].sum() + 1))
    best, hit = p.max(axis=0)[union], (labels == right)[union]
    gaps = []
    for low in range(BINS):
        inside = (best * BINS >= low) & (best * BINS < low + 1)
        if inside.any():
            gaps.append(inside.mean() * abs(best[inside].mean() - hit[inside].mean()))
    assert told["ece"] == pytest.approx(sum(gaps))
    by_entropy = summarise_reliability([case], [0.5])["error_by_entropy"]
    assert max(row[0] for row in by_entropy) > np.log(2)
    assert case.most == pytest.approx(np.log(3))


def test_one_class_is_a_yes_or_no_question() -> None:
    """But for the calibration, which is of the winning class."""
    p, information, reference = _case(6)
    maps = (_entropy(p), information)
    one = case_reliability(p, maps, p > 0.5, reference)
    labels, right = (p > 0.5).astype(np.uint8), reference.astype(np.uint8)
    other = class_reliability(p[None], maps, labels, right)
    assert one.union is not None
    assert other.union is not None
    assert other.union.brier == pytest.approx(one.union.brier)
    np.testing.assert_allclose(other.sample, one.sample, atol=1e-6)
    assert (other.doubt, other.most) == pytest.approx((one.doubt, one.most))
    nothing = np.zeros((1, 4, 4), np.float32)
    empty = class_reliability(
        nothing, (nothing[0], nothing[0]), nothing[0] > 0, nothing[0] > 0
    )
    assert empty.union is None
    assert case_figures(empty)["brier"] is None
    assert case_figures(empty)["ece_image"] == 0
