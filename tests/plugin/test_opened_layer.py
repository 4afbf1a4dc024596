"""What is opened lies where its file says, and so does what is cut out of it."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import Camera, Dims, LayerList
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from napari_medvlseg.core.io.opened import Opened, SeriesAxis
from napari_medvlseg.core.orientation import EdgeLetters
from napari_medvlseg.plugin.layer_space import KEY, patient_affine, to_world
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.opened_layer import contrast_limits, to_layer_data
from napari_medvlseg.plugin.orientation_marks import letters_for
from napari_medvlseg.plugin.place import TURN, WORLD
from napari_medvlseg.plugin.result_layers import is_result

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

SHAPE = (3, 4, 5)
OBLIQUE = np.array(
    [[0.5, 0.1, -0.3, 7], [0.05, -0.8, 0.2, -90], [0.2, 0.1, 2.5, 33], [0, 0, 0, 1]]
)
TURNED = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""All 48 axis orders and flips."""
DTYPES = ("u1", "i2", "u2", "i4", "f4", "f8")


def numbered(*shape: int, dtype: str = "i2") -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def turned_affine(turn: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    affine = OBLIQUE.copy()
    affine[:3, :3] = turn @ np.diag((0.5, 0.8, 2.5))
    return affine


def opened_at(affine: np.ndarray[Any, Any], **choices: Any) -> Opened:
    return Opened(
        **{"voxels": numbered(*SHAPE), "units": "mm", **choices}, affine=affine
    )


def layer_of(opened: Opened) -> ImageLayer:
    layer = Layer.create(*to_layer_data(opened, Path("folder") / "image.nii"))
    assert isinstance(layer, ImageLayer)
    return layer


def dims_at(layer: ImageLayer, index: tuple[float, ...]) -> Dims:
    dims = Dims(ndim=layer.ndim, range=((-500, 500, 1e-3),) * layer.ndim)
    dims.point = layer.data_to_world(index)
    return dims


def ras(affine: Any, index: Any) -> Any:
    return (affine @ [*index, *[0] * (3 - len(index)), 1])[:3]


def ras_of(affine: Any, indices: Any) -> Any:
    """Return the places of many voxels, (N, 2 or 3)."""
    return indices @ affine[:3, : indices.shape[1]].T + affine[:3, 3]


def file_index(value: int) -> tuple[int, ...]:
    """Return where `numbered` has a value."""
    return tuple(int(i) for i in np.unravel_index(value, SHAPE))


def image_data(opened: Opened) -> tuple[Any, dict[str, Any]]:
    voxels, choices, kind = to_layer_data(opened, Path("folder") / "image.nii")
    assert kind == "image"
    return voxels, choices


@pytest.mark.parametrize("turn", TURNED)
def test_every_voxel_lies_where_the_file_says_however_it_is_stored(turn: Any) -> None:
    """That napari places voxels by scale and translate so is the next test's."""
    opened = opened_at(turned_affine(turn))
    voxels, choices = image_data(opened)
    assert np.shares_memory(voxels, opened.voxels)
    assert "affine" not in choices  # other plugins know only scale and translate
    assert (choices["scale"] > 0).all()
    index = np.indices(voxels.shape).reshape(3, -1).T
    world = index * choices["scale"] + choices["translate"]
    stored = np.stack(np.unravel_index(voxels.ravel(), SHAPE), axis=-1)
    np.testing.assert_allclose(
        world @ TURN[:3, :3].T, ras_of(opened.affine, stored), rtol=0, atol=1e-6
    )
    walked = choices["metadata"][KEY]["slice_axis"]
    assert voxels.shape[walked] == opened.spatial_shape[opened.slice_axis]


@pytest.mark.parametrize(
    ("turn", "is_oblique", "dtype"),
    [
        *((turn, True, DTYPES[k % 6]) for k, turn in enumerate(TURNED[::5])),
        *((turn, False, "i2") for turn in TURNED[::9]),
    ],
)
def test_napari_shows_a_volume_where_the_file_says(
    turn: Any, dtype: str, *, is_oblique: bool
) -> None:
    affine = turned_affine(turn)
    if is_oblique:
        affine = OBLIQUE @ np.block([[turn, np.zeros((3, 1))], [0, 0, 0, 1]])
    layer = layer_of(opened_at(affine, voxels=numbered(*SHAPE, dtype=dtype)))
    assert layer.data.dtype == np.dtype(dtype)
    assert np.array_equal(layer.affine.affine_matrix, np.eye(4)) == (not is_oblique)
    for index in ((0, 0, 0), (1, 2, 1), tuple(s - 1 for s in layer.data.shape)):
        wanted = ras(affine, file_index(int(layer.data[index])))
        found = (TURN @ [*layer.data_to_world(index), 1])[:3]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        layer.scale, np.linalg.norm(to_world(layer)[:3, :3], axis=0)
    )


def test_a_slice_is_upright_and_shows_the_patients_right_on_the_left() -> None:
    layer = layer_of(opened_at(np.diag([1.0, 1, 1, 1]), voxels=numbered(3, 4, 5)))
    matrix = to_world(layer)
    grows = [TURN[:3, :3] @ matrix[:3, axis] for axis in range(3)]
    np.testing.assert_array_equal(grows, [(0, 0, -1), (0, -1, 0), (-1, 0, 0)])
    assert tuple(layer.axis_labels) == WORLD
    assert {str(unit) for unit in layer.units} == {"millimeter"}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("turn", TURNED[::11])
def test_what_is_cut_keeps_the_files_affine(turn: Any, *, whole: bool) -> None:
    affine = OBLIQUE @ np.block([[turn, np.zeros((3, 1))], [0, 0, 0, 1]])
    layer = layer_of(opened_at(affine))
    cut = cut_layer(layer, dims_at(layer, (1, 0, 0)), whole=whole)
    image = cut.read()
    assert image.units == "mm"
    for index in np.ndindex(image.spatial_shape):
        wanted = ras(affine, file_index(int(image.voxels[index])))
        found = ras(image.affine, index)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", TURNED)
def test_a_picture_stands_upright_and_lies_in_the_body(turn: Any) -> None:
    opened = opened_at(turned_affine(turn), voxels=numbered(4, 5))
    voxels, choices = image_data(opened)
    assert np.shares_memory(voxels, opened.voxels)
    assert choices["axis_labels"] == ("row", "column")
    affine = np.array(choices["metadata"][KEY]["affine"])
    lengths = np.linalg.norm(affine[:3, :2], axis=0)
    np.testing.assert_allclose(choices["scale"], lengths)
    index = np.indices(voxels.shape).reshape(2, -1).T
    stored = np.stack(np.unravel_index(voxels.ravel(), (4, 5)), axis=-1)
    np.testing.assert_allclose(
        ras_of(affine, index), ras_of(opened.affine, stored), rtol=0, atol=1e-9
    )
    down, right = (TURN @ affine)[:3, :2].T
    assert down.max() > 1e-9 > -down.min()  # to the feet or the back
    assert right.max() > 1e-9 > -right.min()  # to the patient's left, or the back
    assert down.argmax() < right.argmax()


@pytest.mark.parametrize("turn", TURNED[::9])
def test_what_is_cut_of_a_picture_keeps_its_place(turn: Any) -> None:
    layer = layer_of(opened_at(turned_affine(turn), voxels=numbered(4, 5)))
    assert layer.ndim == 2
    image = cut_layer(layer, dims_at(layer, (0, 0)), whole=False).read()
    affine = np.array(layer.metadata[KEY]["affine"])
    np.testing.assert_allclose(image.affine, affine, rtol=0, atol=1e-6)


def test_of_a_picture_whose_place_is_unknown_only_the_size_is_told() -> None:
    facts = {"spacing_from": "detector"}
    opened = opened_at(OBLIQUE, voxels=numbered(4, 5), facts=facts)
    layer = layer_of(opened)
    assert patient_affine(layer.metadata) is None
    image = cut_layer(layer, dims_at(layer, (0, 0)), whole=False).read()
    assert image.spacing_mm == pytest.approx(opened.spacing_mm)


def test_a_series_has_its_time_first_and_its_volumes_in_place() -> None:
    time = SeriesAxis("time", 40, "ms")
    opened = opened_at(OBLIQUE, voxels=numbered(2, *SHAPE), series=(time,))
    layer = layer_of(opened)
    assert layer.data.shape[0] == 2
    assert [str(unit) for unit in layer.units] == ["millisecond", *["millimeter"] * 3]
    assert tuple(layer.axis_labels) == ("time", *WORLD)
    assert layer.data_to_world((1, 0, 0, 0))[0] == pytest.approx(40)
    cut = cut_layer(layer, dims_at(layer, (1, 0, 0, 0)), whole=True)
    image = cut.read()
    assert (cut.index[0], image.ndim, image.units) == (1, 3, "mm")
    for index in np.ndindex(image.spatial_shape):
        stored = file_index(int(image.voxels[index]) - 60)
        np.testing.assert_allclose(
            ras(image.affine, index), ras(OBLIQUE, stored), rtol=0, atol=1e-6
        )


def test_an_image_of_unknown_place_keeps_its_axes() -> None:
    affine = np.eye(4)[:, [2, 1, 0, 3]]  # as of a NIfTI file whose spacing was lost
    opened = opened_at(affine, units="pixel")
    layer = layer_of(opened)
    assert layer.data is opened.voxels
    assert tuple(layer.axis_labels) == ("slice", "row", "column")
    assert patient_affine(layer.metadata) is None
    image = cut_layer(layer, dims_at(layer, (0, 0, 0)), whole=True).read()
    assert image.units == "pixel"
    layer.scale, layer.units = (3, 1, 1), "mm"  # the user knows
    told = cut_layer(layer, dims_at(layer, (0, 0, 0)), whole=True).read()
    assert told.spacing_mm == pytest.approx((3, 1, 1))


def test_a_film_has_lengths_in_its_frames_but_not_between_them() -> None:
    opened = opened_at(np.eye(4), units="pixel", is_film=True, pixel_mm=(0.5, 0.25))
    layer = layer_of(opened)
    assert tuple(layer.axis_labels) == ("frame", "row", "column")
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.25))
    dims = dims_at(layer, (1, 0, 0))
    frame = cut_layer(layer, dims, whole=False).read()
    assert frame.spacing_mm == pytest.approx((0.5, 0.25))
    assert cut_layer(layer, dims, whole=True).read().spacing_mm is None


def test_colours_stay_last() -> None:
    colours = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    layer = layer_of(opened_at(turned_affine(TURNED[0]), voxels=colours, rgb=True))
    assert layer.rgb
    assert layer.ndim == 3
    assert layer.data.shape[-1] == 3
    np.testing.assert_array_equal(np.diff(layer.data.astype(int), axis=-1), 1)


def test_an_opened_layer_is_no_result() -> None:
    assert not is_result(layer_of(opened_at(OBLIQUE)))


def test_lazy_voxels_stay_lazy_and_few_are_looked_at() -> None:
    seen: list[int] = []

    def block(block_info: Any = None) -> np.ndarray[Any, Any]:
        start = block_info[None]["array-location"][0][0]
        seen.append(start)
        return np.full((1, 6, 7), start, np.int16)

    lazy = da.map_blocks(
        block, chunks=((1,) * 50, (6,), (7,)), dtype=np.int16, meta=np.empty((0, 0, 0))
    )
    layer = layer_of(opened_at(OBLIQUE, voxels=lazy))
    assert isinstance(layer.data, da.Array)
    assert len(set(seen)) <= 7  # of 50: five to find the contrast, and what is shown
    assert layer.contrast_limits[1] < 50


@pytest.mark.parametrize(
    ("facts", "values", "limits"),
    [
        ({"window_center": 40, "window_width": 400}, (-1000, 1000), (-160, 240)),
        ({"window_center": 4000, "window_width": 10}, (0, 100), (0.5, 99.5)),
        ({"window_center": 40, "window_width": 0}, (0, 100), (0.5, 99.5)),
        ({"cal_min": 10.0, "cal_max": 50.0}, (0, 100), (10, 50)),
        ({}, (0, 100), (0.5, 99.5)),
        ({}, (7, 7), (7, 8)),
    ],
)
def test_contrast_follows_the_header_or_else_the_values(
    facts: Any, values: Any, limits: Any
) -> None:
    voxels = np.linspace(values[0], values[1], 10_201).reshape(101, 101)
    opened = Opened(voxels=voxels, facts=facts)
    assert contrast_limits(opened) == pytest.approx(limits)


def test_what_is_no_number_does_not_spoil_the_contrast() -> None:
    voxels = np.array([[np.nan, 0.0], [np.inf, 1.0]])
    low, high = contrast_limits(Opened(voxels=voxels))
    assert 0 <= low < high <= 1
    assert contrast_limits(Opened(voxels=voxels[:, :1])) == (0, 1)


@pytest.mark.parametrize("value", [2**63 + 5, -(2**62), 1e30])
def test_a_flat_image_of_large_numbers_can_be_shown(value: float) -> None:
    layer = layer_of(opened_at(OBLIQUE, voxels=np.full((2, 3, 4), value)))
    low, high = layer.contrast_limits
    assert low == float(value) < high


def test_of_an_x_ray_that_tells_its_sides_the_sides_are_known() -> None:
    affine = np.array([[0, -2.0, 0, 0], [0, 0, 1, 0], [-2, 0, 0, 0], [0, 0, 0, 1]])
    facts = {"spacing_from": "detector", "sides_from": "header"}
    opened = Opened(voxels=numbered(4, 5), affine=affine, units="mm", facts=facts)
    layer = layer_of(opened)
    assert layer.translate.tolist() == [0, 0]
    letters = letters_for(LayerList([layer]), dims_at(layer, (0, 0)), Camera())
    assert letters == EdgeLetters(left="R", right="L", top="S", bottom="I")


def test_sides_that_a_file_has_not_told_are_not_written_at_the_edges() -> None:
    """Its place is a convention: good to lay results over it, not to find the left."""
    opened = opened_at(np.diag([1, 1, 3, 1.0]), facts={"orientation": "unknown"})
    layer = layer_of(opened)
    dims = dims_at(layer, (1, 1, 1))
    assert letters_for(LayerList([layer]), dims, Camera()) is None
    cut = cut_layer(layer, dims, whole=True)
    assert cut.units == "mm"
    assert cut.facts["orientation"] == "unknown"
