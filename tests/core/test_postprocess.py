"""Labels from probability."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from napari_medvlseg.core.postprocess import to_labels


def test_the_most_probable_prompt_wins_and_the_first_wins_ties() -> None:
    probability = np.array(
        [[[0.9, 0.6, 0.7, 0.2]], [[0.6, 0.9, 0.7, 0.5]]], dtype=np.float32
    )
    assert to_labels(probability, 0.5).tolist() == [[1, 2, 1, 0]]


def test_the_threshold_itself_is_background() -> None:
    probability = np.array([[[0.3, 0.30001]]], dtype=np.float32)
    assert to_labels(probability, float(np.float32(0.3))).tolist() == [[0, 1]]


def test_too_little_foreground_is_absent_altogether() -> None:
    probability = np.zeros((2, 10, 10), np.float32)
    probability[0, 0, 0] = 1  # 1 % of the picture
    probability[1, :, 0] = 0.8  # 10 %
    labels = to_labels(probability, 0.5, min_foreground=0.02)
    assert np.unique(labels).tolist() == [0, 2]
    assert labels[0, 0] == 2  # what was too small hides nothing


def test_each_slice_of_a_volume_counts_its_own_foreground() -> None:
    probability = np.zeros((1, 4, 10, 10), np.float32)
    probability[0, 1, :5] = 1
    probability[0, 2, 0, 0] = 1
    labels = to_labels(probability, 0.5, min_foreground=0.02, slice_axis=0)
    assert [bool(plane.any()) for plane in labels] == [False, True, False, False]


@pytest.mark.parametrize(("prompts", "dtype"), [(1, np.uint8), (300, np.uint16)])
def test_labels_are_as_small_as_they_can_be(prompts: int, dtype: type) -> None:
    probability = np.zeros((prompts, 2, 2), np.float32)
    probability[-1] = 1
    labels = to_labels(probability, 0.5)
    assert labels.dtype == dtype
    assert (labels == prompts).all()


def test_labels_are_those_of_the_definition() -> None:
    probability = np.random.default_rng(0).random((4, 9, 11), np.float32).round(1)
    above = np.where(probability > 0.3, probability, 0)
    wanted = np.where(above.any(axis=0), above.argmax(axis=0) + 1, 0)
    before = probability.copy()
    np.testing.assert_array_equal(to_labels(probability, 0.3), wanted)
    np.testing.assert_array_equal(probability, before)


def test_labelling_a_volume_copies_no_probability() -> None:
    probability = np.full((1, 50, 100, 100), 0.7, np.float32)
    tracemalloc.start()
    try:
        labels = to_labels(probability, 0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert labels.all()
    assert peak < 2.5 * labels.nbytes
