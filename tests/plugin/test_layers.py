"""A layer is cut where the viewer shows it, and the result goes back there."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.components import Dims, ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Shapes

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.preprocess.slices import choose_slices
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.layer_space import extents, to_world
from napari_medvlseg.plugin.layers import cut_layer
from tests.plugin.conftest import blob_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OBLIQUE = {
    "scale": (2.0, 0.5, 0.7),
    "translate": (10.0, -4.0, 3.0),
    "rotate": (0.0, 0.0, 30.0),
    "shear": (0.1, 0.0, 0.2),
    "affine": np.array(
        [[1, 0, 0, 5], [0, 0.9, 0.1, 6], [0, -0.1, 0.9, 7], [0, 0, 0, 1.0]]
    ),
    "units": ("mm", "mm", "mm"),
    "axis_labels": ("z", "y", "x"),
}


def volume() -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


def dims_at(*index: int, order: tuple[int, ...] | None = None) -> Dims:
    dims = Dims(ndim=len(index), range=tuple((0, 100, 1) for _ in index))
    dims.point = index
    if order is not None:
        dims.order = order
    return dims


def test_a_slice_is_the_one_that_the_viewer_shows() -> None:
    cut = cut_layer(ImageLayer(volume()), dims_at(3, 0, 0), whole=False)
    np.testing.assert_array_equal(cut.read().voxels, volume()[3])
    assert (cut.kept, cut.offset) == ((1, 2), (3, 0, 0))


def test_a_slice_follows_the_viewers_axis_order() -> None:
    dims = dims_at(0, 4, 0, order=(1, 0, 2))
    cut = cut_layer(ImageLayer(volume()), dims, whole=False)
    np.testing.assert_array_equal(cut.read().voxels, volume()[:, 4])
    assert (cut.kept, cut.offset) == ((0, 2), (0, 4, 0))


def test_a_volume_is_walked_along_the_slider() -> None:
    dims = dims_at(0, 4, 0, order=(1, 0, 2))
    image = cut_layer(ImageLayer(volume()), dims, whole=True).read()
    assert image.spatial_shape == (5, 6, 7)
    assert image.slice_axis == 1


def test_one_time_point_of_a_series_of_volumes_is_taken() -> None:
    series = np.stack([volume(), volume() + 1000])
    cut = cut_layer(ImageLayer(series), dims_at(1, 2, 0, 0), whole=True)
    np.testing.assert_array_equal(cut.read().voxels, series[1])
    assert (cut.kept, cut.offset) == ((1, 2, 3), (1, 0, 0, 0))


def test_colour_is_no_axis() -> None:
    film = np.zeros((4, 6, 7, 3), np.uint8)
    image = cut_layer(ImageLayer(film, rgb=True), dims_at(2, 0, 0), whole=False).read()
    assert image.rgb
    assert image.spatial_shape == (6, 7)


def test_only_the_slice_of_lazy_data_is_computed() -> None:
    seen: list[int] = []

    def block(block_info: Any = None) -> np.ndarray[Any, np.dtype[np.int16]]:
        start = block_info[None]["array-location"][0][0]
        seen.append(start)
        return volume()[start : start + 1]

    lazy = da.map_blocks(block, chunks=((1,) * 5, (6,), (7,)), dtype=np.int16)
    layer = ImageLayer(lazy, contrast_limits=(0, 210))
    cut = cut_layer(layer, dims_at(3, 0, 0), whole=False)
    seen.clear()
    np.testing.assert_array_equal(cut.read().voxels, volume()[3])
    assert seen == [3]


def test_the_finest_of_several_resolutions_is_taken() -> None:
    levels = [volume()[0].repeat(4, 0).repeat(4, 1), volume()[0]]
    layer = ImageLayer(levels, multiscale=True, contrast_limits=(0, 210))
    assert cut_layer(layer, dims_at(0, 0), whole=False).read().spatial_shape == (24, 28)


def test_a_file_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, volume()[0])

    def load() -> np.ndarray[Any, np.dtype[np.int16]]:
        loaded: np.ndarray[Any, np.dtype[np.int16]] = np.load(path)
        return loaded

    lazy = da.from_delayed(_delayed(load), (6, 7), np.int16)
    layer = ImageLayer(lazy, contrast_limits=(0, 42), name="gone")
    cut = cut_layer(layer, dims_at(0, 0), whole=False)
    path.unlink()
    with pytest.raises(ImageError, match="open it again"):
        cut.read()


def _delayed(function: Callable[[], Any]) -> Any:
    from dask.delayed import delayed

    return delayed(function, pure=False)()


def test_a_flat_image_lies_where_its_layer_does() -> None:
    layer = ImageLayer(volume()[0], scale=(0.5, 0.7), translate=(3, 4), units="mm")
    image = cut_layer(layer, dims_at(0, 0), whole=False).read()
    assert image.units == "mm"
    assert image.spacing_mm == pytest.approx((0.5, 0.7))
    # right is the patient's left, down is inferior, as one looks at a patient
    wanted = np.diag([0.0, 0, 0, 1])
    wanted[:3] = [0, -0.7, 0, -4], [0, 0, 1, 0], [-0.5, 0, 0, -3]
    np.testing.assert_allclose(image.affine, wanted)


def test_other_lengths_become_millimetres() -> None:
    layer = ImageLayer(volume()[0], scale=(200, 300), units="micrometer")
    image = cut_layer(layer, dims_at(0, 0), whole=False).read()
    assert image.spacing_mm == pytest.approx((0.2, 0.3))


def test_pixels_are_no_length() -> None:
    layer = ImageLayer(volume()[0], scale=(0.5, 0.5))
    assert cut_layer(layer, dims_at(0, 0), whole=False).read().spacing_mm is None


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@pytest.mark.parametrize("whole", [False, True])
def test_every_voxel_of_an_oblique_image_keeps_its_place(*, whole: bool) -> None:
    layer = ImageLayer(volume(), **OBLIQUE)
    dims = Dims(ndim=3, range=tuple((-100, 100, 0.01) for _ in range(3)))
    dims.point = (16.1, 5, 7)
    cut = cut_layer(layer, dims, whole=whole)
    image = cut.read()
    shown = cut.index[0]
    assert 0 < shown < 4
    for index in ((0, 0), (5, 6), (2, 4)):
        kept = (shown, *index) if whole else index
        right, depth, up = (image.affine @ [*kept, *[0] * (3 - len(kept)), 1])[:3]
        np.testing.assert_allclose(
            (depth, -up, -right), layer.data_to_world((shown, *index)), atol=1e-6
        )


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_slice_of_an_oblique_layer_is_the_one_on_the_screen(
    order: tuple[int, ...],
) -> None:
    layer = ImageLayer(volume(), **OBLIQUE)
    dims = Dims(ndim=3, range=tuple((-100, 100, 0.01) for _ in range(3)))
    dims.order = order
    slider = order[0]
    inverse = np.linalg.inv(to_world(layer))
    for index in range(layer.data.shape[slider]):
        point = [50.0, 50.0, 50.0]  # on the displayed axes it does not count
        point[slider] = (index + 0.3 - inverse[slider, -1]) / inverse[slider, slider]
        dims.point = point
        layer._slice_dims(dims)
        on_screen = layer._slice.image.view
        cut = cut_layer(layer, dims, whole=False)
        voxels = cut.read().voxels
        np.testing.assert_array_equal(
            voxels, on_screen if order[1] < order[2] else on_screen.T
        )


@pytest.mark.parametrize("units", ["pixel", "mm"])
@pytest.mark.parametrize("mirrored", [(False, False), (True, False), (False, True)])
def test_the_model_sees_the_picture_as_it_stands_on_the_screen(
    units: str, mirrored: tuple[bool, bool]
) -> None:
    layer = ImageLayer(volume(), units=units)
    for order in permutations(range(3)):
        dims = dims_at(1, 2, 3, order=order)
        layer._slice_dims(dims)
        on_screen = layer._slice.image.view
        on_screen = on_screen[:: -1 if mirrored[0] else 1, :: -1 if mirrored[1] else 1]
        for whole in (False, True):
            image = cut_layer(layer, dims, whole=whole, mirrored=mirrored).read()
            slices = choose_slices(image, None, None)
            index = dims.point[order[0]] if whole else 0
            picture = slices.picture(image.voxels, int(index))
            np.testing.assert_array_equal(picture, on_screen)


def test_the_sliders_may_stand_in_another_unit_than_the_layer() -> None:
    viewer = ViewerModel()
    finer = {"units": "um", "scale": (1000, 1, 1), "name": "finer"}
    viewer.add_image(np.zeros((5, 6, 7)), **finer)
    layer = viewer.add_image(volume(), units="mm")
    viewer.dims.set_current_step(0, 3)
    assert cut_layer(layer, viewer.dims, whole=False).index[0] == 3
    np.testing.assert_array_equal(layer._slice.image.view, volume()[3])


def test_a_layer_of_known_place_is_cut_with_its_place_in_the_patient() -> None:
    known = np.array([[0, 0, -0.7, 9], [0, 0.5, 0, 8], [-2.0, 0, 0, 7], [0, 0, 0, 1]])
    entry = {"affine": known.tolist(), "units": "mm", "facts": {"modality": "CT"}}
    layer = ImageLayer(volume(), metadata={"medvlseg": entry}, scale=(2, 0.5, 0.7))
    cut = cut_layer(layer, dims_at(6, 0, 0), whole=True)
    np.testing.assert_array_equal(cut.read().affine, known)
    assert cut.read().facts["modality"] == "CT"
    assert "orientation" in cut.read().facts
    flat = cut_layer(layer, dims_at(6, 0, 0), whole=False).read()
    assert flat.units == "mm"
    for index in ((0, 0), (5, 6)):
        np.testing.assert_allclose(
            flat.affine @ [*index, 0, 1], known @ [3, *index, 1], atol=1e-12
        )


def test_a_region_of_a_layer_of_known_place_has_no_middle_of_the_patient() -> None:
    entry = {"affine": np.eye(4).tolist(), "units": "mm"}
    layer = ImageLayer(volume()[0], metadata={"medvlseg": entry})
    region = rectangle((1, 2), (1, 4), (3, 4), (3, 2))
    cut = cut_layer(layer, dims_at(0, 0), whole=False, region=region)
    assert "orientation" not in cut.read().facts


@pytest.mark.parametrize("affine", [None, "no", [[1, 2]], np.zeros((4, 4)).tolist()])
def test_metadata_of_another_make_are_no_place(affine: object) -> None:
    entry = {"affine": affine, "units": "mm"}
    layer = ImageLayer(volume(), metadata={"medvlseg": entry})
    assert cut_layer(layer, dims_at(0, 0, 0), whole=True).units == "pixel"


def test_a_film_has_no_volume_in_millimetres() -> None:
    layer = ImageLayer(volume(), units=("s", "mm", "mm"))
    assert cut_layer(layer, dims_at(0, 0, 0), whole=True).units == "pixel"
    assert cut_layer(layer, dims_at(0, 0, 0), whole=False).units == "mm"


CHANNELS_FIRST = {"axis_labels": ("channel", "y", "x")}


def test_channels_that_come_first_are_taken_as_colour() -> None:
    pixels = np.arange(3 * 6 * 7, dtype=np.uint8).reshape(3, 6, 7)
    layer = ImageLayer(pixels, **CHANNELS_FIRST)
    assert extents(layer) == {"has_slices": False, "colour": 0, "is_photograph": True}
    cut = cut_layer(layer, dims_at(1, 0, 0), whole=False, colour=0)
    image = cut.read()
    assert image.rgb
    np.testing.assert_array_equal(image.voxels, np.moveaxis(pixels, 0, -1))


def test_the_result_of_a_colour_picture_is_seen_at_each_channel() -> None:
    layer = ImageLayer(
        np.zeros((3, 6, 7), np.uint8), scale=(1, 2, 3), translate=(5, 6, 7)
    )
    cut = cut_layer(layer, dims_at(1, 0, 0), whole=False, colour=0)
    place = LayerFrame.of(layer).at(cut.offset, cut.stretch)
    result = ImageLayer(cut.expand(np.ones((6, 7))), **place)
    assert result.data.shape == (1, 6, 7)
    for channel in range(3):
        world = layer.data_to_world((channel, 2, 4))
        index = result.world_to_data(world)
        np.testing.assert_allclose(index[1:], (2, 4), atol=1e-9)
        assert np.rint(index[0]) == 0


def test_of_many_channels_the_one_at_the_slider_is_taken() -> None:
    stack = (
        np.stack([volume()] * 5)
        + 1000 * np.arange(5, dtype=np.int16)[:, None, None, None]
    )
    layer = ImageLayer(np.moveaxis(stack, 0, 1), axis_labels=("z", "c", "y", "x"))
    assert extents(layer) == {
        "has_slices": True,
        "colour": None,
        "is_photograph": False,
    }
    cut = cut_layer(layer, dims_at(2, 3, 0, 0), whole=True)
    assert cut.kept == (0, 2, 3)  # never walked along
    np.testing.assert_array_equal(cut.read().voxels, stack[3])
    assert cut.offset == (0, 3, 0, 0)


@pytest.mark.parametrize(
    ("order", "shape", "reason"),
    [((0, 1, 2), (5, 6, 7), "got 5"), ((1, 0, 2), (3, 6, 7), "roll the axes")],
)
def test_what_cannot_be_colour_is_refused(
    order: tuple[int, ...], shape: tuple[int, ...], reason: str
) -> None:
    layer = ImageLayer(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match=reason):
        cut_layer(layer, dims_at(0, 0, 0, order=order), whole=False, colour=0)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
def test_a_result_on_a_slice_lies_on_that_slice_of_an_oblique_image() -> None:
    layer = ImageLayer(volume(), **OBLIQUE)
    place = LayerFrame.of(layer).at((3, 0, 0))
    result = ImageLayer(volume()[3:4], **place)
    for index in ((0, 0), (5, 6), (2, 4)):
        np.testing.assert_allclose(
            result.data_to_world((0, *index)),
            layer.data_to_world((3, *index)),
            atol=1e-6,
        )
    assert result.units == layer.units
    assert result.axis_labels == layer.axis_labels


def rectangle(*corners: tuple[float, ...]) -> Shapes:
    return Shapes([np.array(corners)], shape_type="rectangle")


def test_a_rectangle_limits_the_run() -> None:
    layer = ImageLayer(volume()[0], scale=(2, 2))
    region = rectangle((2, 4), (2, 8), (6, 8), (6, 4))  # world: voxels 1-3, 2-4
    cut = cut_layer(layer, dims_at(0, 0), whole=False, region=region)
    assert cut.box == (slice(1, 4), slice(2, 5))
    np.testing.assert_array_equal(cut.read().voxels, volume()[0, 1:4, 2:5])
    np.testing.assert_allclose(cut.read().affine[:3, 3], (-4, 0, -2))


def test_a_rectangle_on_one_slice_limits_every_slice_of_a_volume() -> None:
    region = rectangle((2, 1, 2), (2, 1, 4), (2, 3, 4), (2, 3, 2))
    cut = cut_layer(ImageLayer(volume()), dims_at(0, 0, 0), whole=True, region=region)
    assert cut.box == (slice(0, 5), slice(1, 4), slice(2, 5))


@pytest.mark.parametrize("region", [Shapes(), rectangle((90, 90), (99, 99))])
def test_a_region_that_holds_nothing_is_refused(region: Shapes) -> None:
    with pytest.raises(ImageError, match="draw"):
        cut_layer(ImageLayer(volume()[0]), dims_at(0, 0), whole=False, region=region)


def test_outside_the_region_nothing_is_found() -> None:
    layer = ImageLayer(volume()[0])
    region = rectangle((1, 2), (1, 4), (3, 4), (3, 2))
    cut = cut_layer(layer, dims_at(0, 0), whole=False, region=region)
    config = SegmentConfig(num_samples=1)
    (step,) = blob_steps(cut.read(), ["blob", "dark"], "blobs", config)
    inner = step.snapshot()
    pasted = cut.paste(inner)
    assert pasted.labels.shape == (6, 7)
    assert pasted.probability.shape == (2, 6, 7)
    np.testing.assert_array_equal(pasted.probability[:, 1:4, 2:5], inner.probability)
    outside = np.ones((6, 7), bool)
    outside[1:4, 2:5] = False
    assert not pasted.labels[outside].any()
    assert not pasted.predictive_entropy[:, outside].any()
    assert pasted.provenance["region_of_interest"] == [[1, 4], [2, 5]]
    np.testing.assert_array_equal(pasted.affine, cut.affine)


def test_the_smallest_finding_is_measured_in_the_region() -> None:
    from dataclasses import replace

    layer = ImageLayer(np.zeros((10, 10)))
    region = rectangle((0, 0), (0, 4), (4, 4), (4, 0))  # 5 x 5 of 10 x 10
    cut = cut_layer(layer, dims_at(0, 0), whole=False, region=region)
    (step,) = blob_steps(cut.read(), ["x"], "blobs", SegmentConfig(num_samples=1))
    inner = replace(step.snapshot(), min_foreground=0.2)
    assert cut.paste(inner).min_foreground == pytest.approx(0.05)
