from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from napari_medvlseg.core.metrics import (
    dice_similarity_coefficient,
    normalized_surface_distance,
)

Mask = npt.NDArray[np.bool_]


def independent_nsd(
    mask: Mask, reference: Mask, tolerance: float, spacing: tuple[float, ...]
) -> float:
    """Compare all pairs of surface voxels."""
    edges = [
        np.argwhere(np.pad(m, 1) & ~binary_erosion(np.pad(m, 1))) * spacing
        for m in (mask, reference)
    ]
    distances = cdist(*edges)
    near = (distances.min(axis=1) <= tolerance).sum()
    near += (distances.min(axis=0) <= tolerance).sum()
    return float(near / sum(len(edge) for edge in edges))


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
    expected = independent_nsd(mask, reference, tolerance, spacing)
    got = normalized_surface_distance(mask, reference, tolerance, spacing)
    assert got == pytest.approx(expected, abs=1e-6)


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
