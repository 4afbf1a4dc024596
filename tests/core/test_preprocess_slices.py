"""Pictures of images, upright and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.preprocess.slices import Turn, choose_slices
from napari_medvlseg.core.types import Image

ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
SIZES = (5, 6, 7)
"""Of the world's right, anterior and superior."""


def _volume(order: tuple[int, ...], signs: tuple[int, ...]) -> Image:
    """Return voxels that hold their own RAS coordinates, stored in some orientation."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for voxel, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, voxel] = sign * (1 + world)
    shape = tuple(SIZES[world] for world in order)
    for voxel, (world, sign) in enumerate(zip(order, signs, strict=True)):
        if sign < 0:
            affine[world, 3] += (shape[voxel] - 1) * (1 + world)
    index = np.moveaxis(np.indices(shape), 0, -1)
    world_mm = index @ affine[:3, :3].T + affine[:3, 3]
    return Image(
        (world_mm @ [1.0, 100.0, 10000.0]).astype(np.float32), affine, units="mm"
    )


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_an_axial_slice_stands_as_a_radiologist_sees_it(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image = _volume(order, signs)
    slices = choose_slices(image, axis=order.index(2), index=2)
    picture = slices.picture(image.voxels, 2)
    assert picture.shape == (SIZES[1], SIZES[0])
    anterior = picture // 100 % 100
    right = picture % 100
    assert (np.diff(anterior, axis=0) < 0).all()  # anterior is up
    assert (np.diff(right, axis=1) < 0).all()  # the patient's right is on the left


@pytest.mark.parametrize(("axis_of", "up"), [(1, 10000), (0, 10000)])
def test_coronal_and_sagittal_slices_have_the_head_up(axis_of: int, up: int) -> None:
    image = _volume((2, 0, 1), (1, -1, 1))
    axis = (2, 0, 1).index(axis_of)
    picture = choose_slices(image, axis, 1).picture(image.voxels, 1)
    assert (np.diff(picture // up, axis=0) < 0).all()


@pytest.mark.parametrize(
    "turn", [Turn(*flags) for flags in itertools.product((False, True), repeat=3)]
)
def test_turning_back_is_exact(turn: Turn) -> None:
    picture = np.arange(4 * 6).reshape(4, 6)
    np.testing.assert_array_equal(turn.undo(turn.apply(picture)), picture)


def test_a_film_is_shown_as_it_is() -> None:
    film = Image(np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3), rgb=True)
    slices = choose_slices(film, None, None)
    assert slices.axis == 0
    assert list(slices.indices) == [0, 1, 2]
    np.testing.assert_array_equal(slices.picture(film.voxels, 1), film.voxels[1])


def test_a_window_is_where_the_picture_came_from() -> None:
    volume = Image(np.arange(24).reshape(2, 3, 4))
    slices = choose_slices(volume, axis=-1, index=3)
    np.testing.assert_array_equal(
        volume.voxels[slices.window(3)], slices.picture(volume.voxels, 3)
    )


@pytest.mark.parametrize(("axis", "index"), [(3, None), (0, 2), (-4, None), (1, -1)])
def test_a_slice_that_is_not_there_is_refused(axis: int, index: int | None) -> None:
    volume = Image(np.zeros((2, 3, 4)))
    with pytest.raises(ImageError, match="expected"):
        choose_slices(volume, axis, index)


def test_a_single_picture_has_only_slice_zero() -> None:
    with pytest.raises(ImageError, match="single picture"):
        choose_slices(Image(np.zeros((3, 4))), None, 1)
