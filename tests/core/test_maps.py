"""Maps of a volume, smoothed across its slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core.maps import Maps
from napari_medvlseg.core.uncertainty import binary_entropy

if TYPE_CHECKING:
    import numpy.typing as npt

    Map = npt.NDArray[np.floating]

SHAPE = (7, 5, 6)
NAMES = (
    *("probability", "predictive_entropy", "mutual_information", "expected_entropy"),
)


def filled(axis: int, probability: Map, entropy: Map) -> Maps:
    maps = Maps(len(probability), SHAPE, threshold=0.5, min_foreground=0.0)
    for index in range(SHAPE[axis]):
        window: tuple[slice | int, ...] = (*[slice(None)] * axis, index)
        for row in range(len(probability)):
            maps.enter(row, window, probability[row][window], entropy[row][window])
        maps.label(window)
    return maps


def random_maps(axis: int) -> Maps:
    """Means over 3 random draws of 2 prompts."""
    draws = np.random.default_rng(0).random((3, 2, *SHAPE)).astype(np.float32)
    return filled(axis, draws.mean(axis=0), binary_entropy(draws).mean(axis=0))


def weighted(values: Map, axis: int, sigma: float) -> Map:
    """Smooth plainly: a weighted sum over the neighbours of each slice."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    count = values.shape[axis]
    mirrored = np.concatenate([np.arange(count), np.arange(count)[::-1]])
    total = np.zeros_like(values, dtype=np.float64)
    for offset, weight in zip(offsets, weights, strict=True):
        neighbours = mirrored[(np.arange(count) + offset) % (2 * count)]
        total += weight * values.take(neighbours, axis)
    return total


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sigma", [0.7, 3.0])
def test_smoothing_is_a_weighted_mean_over_the_slices(axis: int, sigma: float) -> None:
    before, maps = random_maps(axis), random_maps(axis)
    maps.smooth(axis, sigma)
    probability = weighted(before.probability, axis + 1, sigma)
    expected = weighted(before.expected_entropy, axis + 1, sigma)
    np.testing.assert_allclose(maps.probability, probability, atol=1e-6)
    np.testing.assert_allclose(maps.expected_entropy, expected, atol=1e-6)
    kept = [m.probability.sum(axis=axis + 1) for m in (before, maps)]
    np.testing.assert_allclose(kept[0], kept[1], rtol=1e-5)


def test_the_entropies_belong_to_the_smoothed_probability() -> None:
    before, maps = random_maps(0), random_maps(0)
    maps.smooth(0, 1.5)
    total = binary_entropy(maps.probability)
    difference = total - maps.expected_entropy
    np.testing.assert_array_equal(maps.predictive_entropy, total)
    np.testing.assert_array_equal(maps.mutual_information, difference.clip(0))
    # Entropy is concave: neighbours that disagree add to what the model does not know.
    smoothed = weighted(before.mutual_information, 1, 1.5)
    assert (maps.mutual_information >= smoothed - 1e-6).all()


def test_slices_that_agree_are_left_as_they_are() -> None:
    picture = np.random.default_rng(1).random((1, 1, 5, 6)).astype(np.float32)
    volume = np.broadcast_to(picture, (1, *SHAPE))
    maps = filled(0, volume, 0.5 * binary_entropy(volume))
    before = maps.copy()
    maps.smooth(0, 2.0)
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(maps, name), getattr(before, name), atol=1e-6
        )
    np.testing.assert_array_equal(maps.labels, before.labels)


def test_a_slice_that_stands_alone_is_no_longer_labelled_and_a_gap_is_closed() -> None:
    probability = np.zeros((1, *SHAPE), np.float32)
    probability[0, 1, :2] = 0.8  # in one slice only
    probability[0, [0, 1, 2, 4, 5, 6], 3:] = 0.9  # in all but one
    maps = filled(0, probability, np.zeros_like(probability))
    maps.smooth(0, 1.0)
    assert (maps.labels[:, :2] == 0).all()
    assert (maps.labels[:, 3:] == 1).all()
