"""To a model's spacing and RAS order, and back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_medvlseg.core.errors import GeometryError
from napari_medvlseg.core.preprocess.resample import ModelGrid, on_grid, picture_size
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.core.types import Image
from tests.volume_models import SPEC

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]

SPACING = (1.5, 0.8, 3.0)
SHAPE = (9, 15, 7)
ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def oblique(spacing: tuple[float, ...] = SPACING) -> Matrix:
    """Return an affine near RAS, 20 degrees off."""
    affine = np.eye(4)
    turn = Rotation.from_rotvec(np.radians(20) * np.array([1, 2, 2]) / 3)
    affine[:3, :3] = turn.as_matrix() * spacing
    affine[:3, 3] = (-31.0, 12.5, 4.0)
    return affine


def turned(
    voxels: npt.NDArray[np.generic], affine: Matrix, number: int
) -> tuple[npt.NDArray[np.generic], Matrix]:
    """Reorient a volume by nibabel, into one of the 48 orders."""
    axes, flips = ORIENTATIONS[number]
    order = np.array(list(zip(axes, flips, strict=True)))
    back = nib.orientations.inv_ornt_aff(order, voxels.shape)
    return nib.orientations.apply_orientation(voxels, order), affine @ back


def volume(voxels: npt.NDArray[np.generic], affine: Matrix) -> Image:
    return Image(voxels, affine, units="mm")


def centres(affine: Matrix, shape: tuple[int, ...]) -> Matrix:
    """Return the world position of every voxel, (3, *shape)."""
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    return world.reshape(3, *shape)


def box(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return labels: 2 in a box, 1 around it."""
    labels = np.ones(shape, np.uint8)
    labels[tuple(slice(size // 4, size - size // 4) for size in shape)] = 2
    return labels


def far_from_the_box(
    shape: tuple[int, ...], native: tuple[float, ...], there: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    """Say which voxels lie over half a voxel of the coarser grid off its faces."""
    far = np.ones(shape, bool)
    for axis, size in enumerate(shape):
        distances = [
            np.abs((np.arange(size) + 0.5 - face) * native[axis])
            for face in (size // 4, size - size // 4)
        ]
        near = np.min(distances, axis=0) <= max(native[axis], there[axis]) / 2 + 1e-9
        far &= ~near.reshape([-1 if a == axis else 1 for a in range(3)])
    return far


@pytest.mark.parametrize("number", range(48))
def test_the_48_orders_become_one_and_come_back(number: int) -> None:
    voxels = np.random.default_rng(0).integers(-999, 999, SHAPE).astype(np.int16)
    native, affine = turned(voxels, oblique(), number)
    grid = ModelGrid.of(volume(native, affine), SPACING)
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine, oblique(), atol=1e-9)
    np.testing.assert_array_equal(grid.to_model(native, nearest=True), voxels)
    np.testing.assert_array_equal(grid.to_model(native), voxels.astype(np.float32))
    np.testing.assert_array_equal(grid.to_native(voxels, nearest=True), native)


@pytest.mark.parametrize("number", range(48))
def test_any_order_of_axes_is_reached_and_undone_exactly(number: int) -> None:
    """SPL: 48 orders of a file, and what nibabel makes of each."""
    voxels = np.random.default_rng(0).integers(-999, 999, SHAPE).astype(np.int16)
    native, affine = turned(voxels, oblique(), number)
    spec = replace(SPEC, orientation="SPL", patch=SHAPE)
    grid = ModelGrid.for_spec(volume(native, affine), spec)
    codes = nib.orientations.aff2axcodes(grid.affine)
    assert "".join(codes) == "SPL"
    expected = voxels[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(grid.to_model(native, nearest=True), expected)
    np.testing.assert_array_equal(grid.to_native(expected, nearest=True), native)
    floating = expected.astype(np.float32)
    np.testing.assert_array_equal(grid.to_native(grid.to_model(native)), native)
    np.testing.assert_array_equal(grid.to_model(native), floating)


def test_a_spacing_follows_the_order_of_the_axes() -> None:
    image = volume(np.zeros(SHAPE), oblique())
    spec = replace(SPEC, spacing_mm=(1.0, 2.0, 4.0))
    upright = ModelGrid.for_spec(image, spec)
    np.testing.assert_array_equal(upright.affine, ModelGrid.of(image, (1, 2, 4)).affine)
    other = ModelGrid.for_spec(image, replace(spec, orientation="SPL"))
    assert other.shape == upright.shape[::-1]
    unknown = replace(image, units="pixel")
    assert ModelGrid.for_spec(unknown, spec).shape == SHAPE


@pytest.mark.parametrize("number", range(0, 48, 7))
def test_a_whole_volume_brought_to_a_size_keeps_its_corners_and_its_values(
    number: int,
) -> None:
    """A ramp in the world stays that ramp inside, there and back."""
    slope = np.array([0.3, -1.2, 2.0])
    ramp = np.tensordot(slope, centres(oblique(), SHAPE), 1)
    native, affine = turned(ramp, oblique(), number)
    spec = replace(SPEC, orientation="SPL", resized=True, patch=(14, 30, 27))
    grid = ModelGrid.for_spec(volume(native, affine), spec)
    assert grid.shape == (14, 30, 27)
    there = np.tensordot(slope, centres(grid.affine, grid.shape), 1)
    inner = tuple(slice(3, -3) for _ in range(3))
    np.testing.assert_allclose(grid.to_model(native)[inner], there[inner], atol=1e-4)
    back = grid.to_native(there)
    inner = tuple(slice(1, -1) for _ in range(3))
    np.testing.assert_allclose(back[inner], np.asarray(native, float)[inner], atol=1e-4)


@pytest.mark.parametrize("number", range(0, 48, 5))
@pytest.mark.parametrize("wanted", [(1, 1, 1), (2.2, 0.5, 1.7), (5, 5, 5), (99, 9, 9)])
def test_both_grids_have_the_same_corners_in_mm(
    number: int, wanted: tuple[float, ...]
) -> None:
    native, affine = turned(np.zeros(SHAPE), oblique(), number)
    grid = ModelGrid.of(volume(native, affine), wanted)
    ends = itertools.product(*((-0.5, size - 0.5) for size in grid.shape))
    corners = np.array([[*end, 1] for end in ends]).T
    found = (np.linalg.inv(affine) @ grid.affine @ corners)[:3].T
    expected = list(itertools.product(*((-0.5, size - 0.5) for size in native.shape)))
    np.testing.assert_allclose(sorted(found.round(9).tolist()), expected, atol=1e-6)
    for size, actual, mm in zip(grid.shape, grid.spacing_mm, wanted, strict=True):
        assert abs(actual - mm) <= mm / (2 * size) + 1e-9 or size == 1


@pytest.mark.parametrize("number", range(0, 48, 7))
def test_finer_voxels_are_interpolated_where_they_lie(number: int) -> None:
    voxels = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    native, affine = turned(voxels, oblique(), number)
    grid = ModelGrid.of(volume(native, affine), (0.7, 0.55, 1.3))
    world = centres(grid.affine, grid.shape).reshape(3, -1)
    back = np.linalg.inv(affine)
    index = back[:3, :3] @ world + back[:3, 3:]
    expected = map_coordinates(native, index, order=1, mode="nearest")
    np.testing.assert_allclose(grid.to_model(native).ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("wanted", [(1, 1, 1), (4, 3, 5), (2.1, 0.5, 7)])
def test_a_ramp_in_the_world_stays_that_ramp(wanted: tuple[float, ...]) -> None:
    """Up to 6 % of a voxel of the coarser grid, since averages are over whole ones."""
    shape, slope = (33, 47, 29), np.array([0.3, -1.2, 2.0])
    ramp = np.tensordot(slope, centres(oblique(), shape), 1)
    grid = ModelGrid.of(volume(ramp, oblique()), wanted)
    there = np.tensordot(slope, centres(grid.affine, grid.shape), 1)
    steps = [np.abs(slope @ affine[:3, :3]) for affine in (oblique(), grid.affine)]
    close = 0.06 * float(np.maximum(*steps).sum())
    inner = tuple(slice(size // 3, size - size // 3) for size in grid.shape)
    np.testing.assert_allclose(grid.to_model(ramp)[inner], there[inner], atol=close)
    inner = tuple(slice(size // 3, size - size // 3) for size in shape)
    np.testing.assert_allclose(grid.to_native(there)[inner], ramp[inner], atol=close)


@pytest.mark.parametrize("number", range(0, 48, 11))
@pytest.mark.parametrize("wanted", [(0.5, 0.4, 1), (1, 1, 1), (3.1, 2.9, 4.3)])
def test_labels_come_back_within_half_a_voxel_of_the_coarser_grid(
    number: int, wanted: tuple[float, ...]
) -> None:
    labels = box((25, 31, 19))
    native, affine = turned(labels, oblique(), number)
    grid = ModelGrid.of(volume(native, affine), wanted)
    far, _ = turned(
        far_from_the_box(labels.shape, SPACING, grid.spacing_mm), oblique(), number
    )
    there = grid.to_model(native, nearest=True)
    back = grid.to_native(there, nearest=True)
    assert back.dtype == there.dtype == native.dtype
    np.testing.assert_array_equal(back[far], native[far])
    if all(w <= s for w, s in zip(grid.spacing_mm, SPACING, strict=True)):
        np.testing.assert_array_equal(back, native)
    likely = grid.to_native(grid.to_model(native == 2)) > 0.5
    np.testing.assert_array_equal(likely[far], (native == 2)[far])


@pytest.mark.parametrize("wanted", [(0.3, 5, 1), (99, 99, 99)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 8)])
def test_what_is_constant_stays_so(
    shape: tuple[int, ...], wanted: tuple[float, ...]
) -> None:
    grid = ModelGrid.of(volume(np.zeros(shape), oblique()), wanted)
    labels = np.full(shape, 7, np.uint16)
    there = grid.to_model(labels, nearest=True)
    assert (there == 7).all()
    np.testing.assert_array_equal(grid.to_native(there, nearest=True), labels)
    for value in (0.0, 0.37, 1.0):
        there = grid.to_model(np.full(shape, value, np.float32))
        np.testing.assert_allclose(there, value, atol=1e-6)
        np.testing.assert_allclose(grid.to_native(there), value, atol=1e-6)


def test_a_header_that_tells_metres_is_refused() -> None:
    image = volume(np.zeros((9, 9, 9)), np.diag([1500.0, 1, 1, 1]))
    with pytest.raises(GeometryError, match="got 13500; check the image's spacing"):
        ModelGrid.of(image, (1, 1, 1))


def test_what_is_not_finite_does_not_spread() -> None:
    voxels = np.full((6, 6, 6), 50.0)
    voxels[3, 3] = [np.nan, np.inf, -np.inf, 50, 50, 50]
    image = volume(voxels, np.eye(4))
    resampled = on_grid(image, ModelGrid.of(image, (2, 2, 2)), (0.0, 100.0))
    assert np.isfinite(resampled.voxels).all()
    assert resampled.voxels.shape == (3, 3, 3)
    assert resampled.voxels[0, 0, 0] == pytest.approx(50)


def test_colours_are_resampled_one_by_one() -> None:
    voxels = np.zeros((4, 4, 4, 3), np.uint8)
    voxels[..., 1] = 200
    image = Image(voxels, np.diag([-1.0, 1, 1, 1]), rgb=True, units="mm", slice_axis=2)
    grid = ModelGrid.of(image, (2, 1, 1))
    resampled = on_grid(image, grid, (0.0, 255.0))
    assert (resampled.spatial_shape, resampled.slice_axis) == ((2, 4, 4), 2)
    np.testing.assert_allclose(resampled.voxels[..., 1], 200)
    assert (resampled.voxels[..., [0, 2]] == 0).all()


@pytest.mark.parametrize("number", range(48))
def test_pictures_get_the_same_size_in_all_orders(number: int) -> None:
    native, affine = turned(np.zeros((10, 20, 30)), oblique((3, 2, 1)), number)
    image = volume(native, affine)
    walk = ORIENTATIONS[number][0][2]  # up and down: axial pictures
    slices = choose_slices(image, walk, None)
    assert picture_size(image, slices, (0.5, 1.0)) == (80, 30)  # rows are A
    assert picture_size(image, slices, (1.0, 0.5, 9.0)) == (80, 30)  # R, A, S
    assert picture_size(image, slices, None) == (20, 10)
    unknown = Image(native, affine)
    plain = choose_slices(unknown, walk, None)
    assert picture_size(unknown, plain, (0.5, 1.0)) == plain.picture_shape(native.shape)


def by_monai(
    voxels: npt.NDArray[np.generic], affine: Matrix, grid: ModelGrid, mode: str
) -> npt.NDArray[np.float32]:
    """Resample to a grid with MONAI, which finds each voxel through both affines."""
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import SpatialResample

    values = torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None]
    move = SpatialResample(mode=mode, padding_mode="border", dtype=np.float64)
    moved = move(
        MetaTensor(values, affine=torch.from_numpy(affine)),
        dst_affine=torch.from_numpy(grid.affine),
        spatial_size=grid.shape,
    )
    return np.asarray(moved[0])


@pytest.mark.parametrize("number", [0, 13, 29, 47])
def test_where_nothing_shrinks_it_agrees_with_monai(number: int) -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    voxels, affine = turned(noise, oblique(), number)
    grid = ModelGrid.of(volume(voxels, affine), (0.7, 0.5, 1.1))
    np.testing.assert_allclose(
        grid.to_model(voxels), by_monai(voxels, affine, grid, "bilinear"), atol=1e-4
    )
    np.testing.assert_array_equal(
        grid.to_model(voxels, nearest=True),
        by_monai(voxels, affine, grid, "nearest"),
    )


def test_where_it_shrinks_it_is_nearer_to_the_mean_of_each_voxel_than_monai() -> None:
    """MONAI takes values at points: what a coarse voxel skips is lost, noise stays."""
    noise = np.random.default_rng(0).normal(size=(24, 27, 30)).astype(np.float32)
    grid = ModelGrid.of(volume(noise, np.eye(4)), (3, 3, 3))
    mean = noise.reshape(8, 3, 9, 3, 10, 3).mean(axis=(1, 3, 5))
    ours = np.std(grid.to_model(noise) - mean)
    theirs = np.std(by_monai(noise, np.eye(4), grid, "bilinear") - mean)
    assert ours < 0.2 * theirs
