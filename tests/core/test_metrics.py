from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from monai.metrics.confusion_matrix import get_confusion_matrix
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from napari_medvlseg.core.metrics import (
    confusion,
    dice_similarity_coefficient,
    hd95,
    normalized_surface_distance,
    pooled,
    surface_distances,
)

Mask = npt.NDArray[np.bool_]


def independent_distances(
    mask: Mask, reference: Mask, spacing: tuple[float, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compare all pairs of surface voxels."""
    edges = [
        np.argwhere(np.pad(m, 1) & ~binary_erosion(np.pad(m, 1))) * spacing
        for m in (mask, reference)
    ]
    distances = cdist(*edges)
    return distances.min(axis=1), distances.min(axis=0)


def blob(seed: int, shape: tuple[int, ...]) -> Mask:
    generator = np.random.default_rng(seed)
    grid = np.indices(shape).reshape(len(shape), -1).T
    center = generator.uniform(3, np.array(shape) - 3)
    radius = generator.uniform(2, 5)
    mask: Mask = (np.linalg.norm(grid - center, axis=1) < radius).reshape(shape)
    return mask


EMPTY = np.zeros((5, 6), dtype=bool)
FULL = np.ones((5, 6), dtype=bool)


@pytest.mark.parametrize(
    ("mask", "reference", "expected"),
    [
        pytest.param(EMPTY, EMPTY, 1.0, id="both empty"),
        pytest.param(FULL, EMPTY, 0.0, id="something where nothing is"),
        pytest.param(EMPTY, FULL, 0.0, id="nothing where something is"),
        pytest.param(FULL, FULL, 1.0, id="equal"),
    ],
)
def test_empty_and_equal_masks_are_defined(
    mask: Mask, reference: Mask, expected: float
) -> None:
    assert dice_similarity_coefficient(mask, reference) == expected
    assert normalized_surface_distance(mask, reference) == expected
    assert confusion(mask, reference).sensitivity == expected


def test_hd95_of_one_empty_mask_is_the_diagonal_of_the_grid() -> None:
    assert hd95(EMPTY, EMPTY) == hd95(FULL, FULL) == 0
    for masks in ((EMPTY, FULL), (FULL, EMPTY)):
        assert hd95(*masks) == pytest.approx(np.hypot(5, 6))
        assert hd95(*masks, (2.0, 0.5)) == pytest.approx(np.hypot(10, 3))
    corner = EMPTY.copy()
    corner[0, 0] = True
    assert hd95(corner, corner[::-1, ::-1]) < hd95(corner, EMPTY)


def test_dsc_is_twice_the_overlap_over_the_sum() -> None:
    mask = np.array([True, True, True, False])
    reference = np.array([False, True, False, False])
    assert dice_similarity_coefficient(mask, reference) == pytest.approx(2 / 4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((17, 19), (1.0, 1.0)), ((17, 19), (0.7, 1.9)), ((9, 11, 8), (1.0, 1.5, 2.5))],
)
def test_nsd_agrees_with_a_comparison_of_all_surface_pairs(
    seed: int, tolerance: float, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    mask, reference = blob(seed, shape), blob(seed + 50, shape)
    sides = independent_distances(mask, reference, spacing)
    near = sum((side <= tolerance).sum() for side in sides)
    got = normalized_surface_distance(mask, reference, tolerance, spacing)
    assert got == pytest.approx(near / sum(map(len, sides)), abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((17, 19), (1.0, 1.0)), ((17, 19), (0.7, 1.9)), ((9, 11, 8), (1.0, 1.5, 2.5))],
)
def test_hd95_agrees_with_monai_and_with_all_surface_pairs(
    seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    mask, reference = blob(seed, shape), blob(seed + 50, shape)
    sides = independent_distances(mask, reference, spacing)
    got = hd95(mask, reference, spacing)
    assert got == pytest.approx(max(np.percentile(side, 95) for side in sides))
    first, second = (torch.from_numpy(m)[None, None] for m in (mask, reference))
    monai = compute_hausdorff_distance(
        first, second, include_background=True, percentile=95, spacing=list(spacing)
    )
    assert got == pytest.approx(float(monai), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_agree_with_monai(seed: int) -> None:
    mask, reference = blob(seed, (17, 19)), blob(seed + 50, (17, 19))
    got = confusion(mask, reference)
    first, second = (torch.from_numpy(m)[None, None].int() for m in (mask, reference))
    tp, fp, tn, fn = get_confusion_matrix(first, second)[0, 0].tolist()
    assert got.sensitivity == pytest.approx(tp / (tp + fn))
    assert got.specificity == pytest.approx(tn / (tn + fp))
    precision = tp / (tp + fp)
    harmonic = 2 * precision * got.sensitivity / (precision + got.sensitivity or 1)
    assert got.f1 == pytest.approx(harmonic)
    assert got.f1 == dice_similarity_coefficient(mask, reference)


def test_pooled_counts_weigh_voxels_and_not_cases() -> None:
    small, large = np.zeros((2, 10, 10), dtype=bool)
    small[0, 0], large[:, :9] = True, True
    nothing = np.zeros((10, 10), dtype=bool)
    both = pooled([confusion(nothing, small), confusion(large, large)])
    assert both.sensitivity == pytest.approx(90 / 91)
    assert both.specificity == 1.0
    assert both.f1 == pytest.approx(180 / 181)
    assert pooled([]).f1 == 1.0


def test_specificity_of_a_picture_that_is_all_reference_is_one() -> None:
    assert confusion(FULL, FULL).specificity == 1.0
    assert confusion(EMPTY, FULL).specificity == 1.0
    assert confusion(FULL, EMPTY).specificity == 0.0


def test_one_measurement_gives_both_surface_quantities() -> None:
    mask, reference = blob(1, (17, 19)), blob(51, (17, 19))
    found = surface_distances(mask, reference, (0.5, 1.0))
    assert found.hd95() == hd95(mask, reference, (0.5, 1.0))
    for tolerance in (0.5, 1.0, 3.0):
        expected = normalized_surface_distance(mask, reference, tolerance, (0.5, 1.0))
        assert found.within(tolerance) == expected


def test_nsd_forgives_a_shift_within_the_tolerance_only() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:12, 5:12] = True
    shifted = np.roll(mask, 2, axis=1)
    assert normalized_surface_distance(mask, shifted, 2.0) == 1.0
    assert normalized_surface_distance(mask, shifted, 1.0) < 1.0


def test_masks_at_the_border_and_of_one_pixel_have_surfaces() -> None:
    pixel = np.zeros((6, 6), dtype=bool)
    pixel[0, 0] = True
    assert normalized_surface_distance(pixel, pixel) == 1.0
    far = pixel[::-1, ::-1]
    assert normalized_surface_distance(pixel, far) == 0.0


def test_masks_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="share a grid"):
        dice_similarity_coefficient(np.ones((2, 3), bool), np.ones((3, 2), bool))
