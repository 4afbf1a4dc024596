from __future__ import annotations

import numpy as np
import pytest

from napari_medvlseg.core.errors import GeometryError
from napari_medvlseg.core.io.dicom_geometry import (
    are_parallel,
    directions,
    plane_affine,
    plane_name,
    same_places,
    stack_planes,
    upright_affine,
)

AXIAL = (1, 0, 0, 0, 1, 0)
SPACING = (0.7, 0.5)


def positions(*heights: float) -> np.ndarray:
    return np.array([[-10.0, -20.0, height] for height in heights])


def test_an_axial_stack_is_mirrored_from_lps_to_ras_and_sorted_from_below() -> None:
    stack = stack_planes(positions(8, 3, 5.5), AXIAL, SPACING)
    assert stack.order.tolist() == [1, 2, 0]
    expected = np.diag([-0.5, -0.7, 2.5, 1])
    expected[:3, 3] = (10, 20, 3)
    assert np.allclose(stack.affine, expected, atol=1e-12)
    assert stack.tilt_degrees == 0
    assert stack.uneven_mm == pytest.approx(0, abs=1e-12)
    assert not stack.is_uneven


def test_a_stack_whose_normal_points_down_is_sorted_along_it() -> None:
    feet_first = (-1, 0, 0, 0, 1, 0)
    stack = stack_planes(positions(0, 1, 2), feet_first, SPACING)
    assert stack.order.tolist() == [2, 1, 0]
    assert np.allclose(stack.affine[:3, 2], [0, 0, -1])


def test_a_tilted_gantry_shears_the_affine_and_is_told_in_degrees() -> None:
    tilt = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    stack = stack_planes(positions(0, 5, 10), orientation, SPACING)
    assert stack.tilt_degrees == pytest.approx(20)
    assert np.allclose(stack.affine[:3, 2], [0, 0, 5])
    assert abs(stack.affine[:3, 1] @ stack.affine[:3, 2]) > 1


@pytest.mark.parametrize(
    ("heights", "message"),
    [
        ((0, 2, 6, 8), r"every 2.000 mm, got 1 missing among 4, at 4.00 mm"),
        ((0, 2, 4, 10), r"got 2 missing among 4, at 6.00, 8.00 mm"),
        ((0, 1, 3, 5, 7), r"got 3 missing among 5, at 2.00, 4.00, 6.00 mm"),
        ((0, 1, 100), r"got 98 missing among 3, at 2.00, .* 7.00, \.\.\. mm"),
        ((0, 1, 2.4, 4), r"got them 1.000 to 1.600 mm apart"),
    ],
)
def test_missing_and_uneven_slices_are_told_by_their_place(
    heights: tuple[float, ...], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        stack_planes(positions(*heights), AXIAL, SPACING)


@pytest.mark.parametrize("count", [4, 10, 300])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_slice_that_is_missing_inside_is_always_seen(
    count: int, where: float
) -> None:
    gone = 1 + round(where * (count - 2))
    heights = [float(height) for height in range(count + 1) if height != gone]
    with pytest.raises(GeometryError, match=rf"1 missing .* at {gone}.00 mm"):
        stack_planes(positions(*heights), AXIAL, SPACING)


def test_rounded_positions_are_one_stack_and_told_where_they_matter() -> None:
    exact = np.arange(40) * 0.625
    rounded = stack_planes(positions(*np.round(exact, 2)), AXIAL, SPACING)
    assert rounded.affine[2, 2] == pytest.approx(0.625, abs=1e-3)
    assert not rounded.is_uneven
    jittered = stack_planes(positions(0, 1.05, 2, 3), AXIAL, SPACING)
    assert jittered.is_uneven
    assert jittered.uneven_mm == pytest.approx(0.05)


def test_slices_that_move_only_sideways_are_no_stack() -> None:
    with pytest.raises(GeometryError, match="evenly spaced"):
        stack_planes(np.array([[0.0, 0, 0], [5, 0, 0]]), AXIAL, SPACING)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0)]
)
def test_an_orientation_that_is_no_rotation_is_refused(
    orientation: tuple[float, ...],
) -> None:
    with pytest.raises(GeometryError, match="two perpendicular unit vectors"):
        directions(orientation)


def test_directions_are_of_length_one_though_the_header_rounds_them() -> None:
    for vector in directions((0.7071, 0.7071, 0, -0.7071, 0.7071, 0)):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-12)


def test_planes_of_one_place_are_found_whatever_their_order() -> None:
    places = same_places(positions(0, 5, 1e-4, 5, 10, 0), AXIAL, SPACING)
    assert sorted(map(sorted, places)) == [[0, 2, 5], [1, 3], [4]]


def test_parallel_is_what_does_not_show_at_the_edge_of_a_slice() -> None:
    turned = np.radians([0.01, 1.0])
    for angle, expected in zip(turned, (True, False), strict=True):
        other = (np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0)
        assert are_parallel(np.array([AXIAL, other])) == expected


def test_a_picture_has_rows_first_and_its_thickness_last() -> None:
    affine = plane_affine((1, 2, 3), AXIAL, SPACING, 4.0)
    assert np.allclose(affine @ [1, 0, 0, 1], [-1, -2 - 0.7, 3, 1])
    assert np.allclose(affine @ [0, 1, 0, 1], [-1 - 0.5, -2, 3, 1])
    assert np.allclose(affine @ [0, 0, 1, 1], [-1, -2, 3 + 4, 1])


def test_a_picture_of_unknown_place_stands_upright() -> None:
    affine = upright_affine(SPACING)
    assert np.allclose(affine @ [1, 0, 0, 0], [0, 0, -0.7, 0])  # downward
    assert np.allclose(affine @ [0, 1, 0, 0], [-0.5, 0, 0, 0])  # to the left
    assert np.linalg.det(affine) != 0


@pytest.mark.parametrize(
    ("orientation", "name"),
    [
        (AXIAL, "axial"),
        ((1, 0, 0, 0, 0, -1), "coronal"),
        ((0, 1, 0, 0, 0, -1), "sagittal"),
        ((1, 0, 0, 0, 0.9272, -0.3746), "oblique axial"),
        (None, "unknown"),
    ],
)
def test_a_plane_is_named_after_the_nearest_anatomical_one(
    orientation: tuple[float, ...] | None, name: str
) -> None:
    assert plane_name(orientation) == name
