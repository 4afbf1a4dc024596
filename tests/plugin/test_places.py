"""Results lie on their image, whatever carries it to the world, and are drawn there."""

from __future__ import annotations

from collections import deque
from itertools import product
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.utils.colormaps import ensure_colormap

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.layer_space import KEY, patient_affine, to_world
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.result_layers import KINDS, Result, is_result
from napari_medvlseg.plugin.worker import Job
from tests.plugin.conftest import blob_steps

if TYPE_CHECKING:
    import numpy.typing as npt

SHAPE = (3, 4, 5, 6)
CLOSE = 1e-9  # of the largest number in the layer's matrix
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def run(viewer: Any, layer: Any, *, whole: bool, **choices: Any) -> Result:
    """Segment what the viewer shows and add the layers, as a session does."""
    cut = cut_layer(layer, viewer.dims, whole=whole, **choices)
    config = SegmentConfig(num_samples=1)
    job = Job(cut, ("bright blob",), "blobs", config)
    result = Result(viewer.layers, job, LayerFrame.of(layer))
    deque(result.prepare({"mask"}), maxlen=0)
    (step,) = blob_steps(cut.read(), job.prompts, job.model, config)
    shown = result.show(cut.paste(step.snapshot()), KINDS, complete=True)
    deque(shown, maxlen=0)
    return result


def test_of_a_slide_larger_than_the_memory_a_region_is_asked_for() -> None:
    levels = [da.zeros((size, size), "u1", chunks=1000) for size in (40_000, 100)]
    viewer = ViewerModel()
    layer = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 9))
    with pytest.raises(ImageError, match="got 40,000 x 40,000; draw a region"):
        cut_layer(layer, viewer.dims, whole=False)
    region = viewer.add_shapes([[[70, 80], [70, 95], [75, 95], [75, 80]]])
    cut = cut_layer(layer, viewer.dims, whole=False, region=region)
    assert cut.read().spatial_shape == (6, 16)


def noise(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).random(shape)


numbers = st.floats(-1, 1)
signs = st.sampled_from((-1, 1))


@st.composite
def placements(draw: st.DrawFn, ndim: int) -> dict[str, Any]:
    """Draw every transform that napari composes; none of them flattens."""
    scale = [draw(signs) * 10 ** draw(st.floats(-2, 2)) for _ in range(ndim)]
    affine = np.eye(ndim + 1)
    mixing = np.array([[draw(numbers) for _ in range(ndim)] for _ in range(ndim)])
    affine[:-1, :-1] += 0.9 * mixing / ndim  # diagonally dominant: invertible
    affine[:-1, -1] = [100 * draw(numbers) for _ in range(ndim)]
    turn, _ = np.linalg.qr(mixing + 2 * np.eye(ndim))
    return {
        "scale": scale,
        "translate": [1000 * draw(numbers) for _ in range(ndim)],
        "rotate": turn,
        "shear": [draw(numbers) for _ in range(ndim * (ndim - 1) // 2)],
        "affine": affine[:, [*draw(st.permutations(range(ndim))), ndim]],
    }


@st.composite
def situations(draw: st.DrawFn) -> tuple[Any, ...]:
    ndim = draw(st.integers(2, 4))
    order = draw(st.permutations(range(ndim)))
    at = [draw(st.integers(0, size - 1)) for size in SHAPE[-ndim:]]
    whole, boxed = draw(st.booleans()), draw(st.booleans())
    return draw(placements(ndim)), order, at, whole, boxed


@settings(max_examples=25, derandomize=True, deadline=None)
@given(situations())
def test_every_voxel_of_a_result_lies_on_the_images(given_: tuple[Any, ...]) -> None:
    placement, order, at, whole, boxed = given_
    ndim = len(order)
    viewer = ViewerModel()
    layer = viewer.add_image(noise(SHAPE[-ndim:]), **placement)
    viewer.dims.order = order
    viewer.dims.point = layer.data_to_world(at)
    is_flat = abs(np.linalg.det(_drawn(layer, list(order[-2:]))[:2, :2])) < 1e-6
    region = _middle(viewer, layer) if boxed and not is_flat else None
    result = run(viewer, layer, whole=whole, region=region)
    assert len(result.layers) == len(KINDS)
    offset = np.array(result.job.cut.offset)
    size = np.abs(to_world(layer)).max()
    for made in result.layers:
        # Affine maps that agree at the corners agree at every voxel between them.
        for index in product(*({0, size - 1} for size in made.data.shape)):
            there = np.array(layer.data_to_world(tuple(index + offset)))
            here = np.array(made.data_to_world(index))
            assert np.abs(here - there).max() <= CLOSE * size
        shown = list(order[-2:])
        np.testing.assert_allclose(
            _drawn(made, shown), _drawn(layer, shown), atol=CLOSE * size, rtol=CLOSE
        )
    inside = result.job.cut.read().voxels
    assert result.segmentation is not None
    pasted = result.segmentation.probability[0][result.job.cut.box]
    assert np.corrcoef(inside.ravel(), pasted.ravel())[0, 1] > 0.9


def _middle(viewer: Any, layer: Any) -> Any:
    """Return a rectangle that leaves the outermost voxels out."""
    shown = list(viewer.dims.order[-2:])
    corner = np.zeros((4, layer.ndim))
    ends = [(0.6, layer.data.shape[axis] - 1.6) for axis in shown]
    corner[:, shown] = [
        (ends[0][row], ends[1][column])
        for row, column in ((0, 0), (0, 1), (1, 1), (1, 0))
    ]
    region = viewer.add_shapes(
        ndim=layer.ndim, **LayerFrame.of(layer).at((0,) * layer.ndim)
    )
    region.add_polygons(corner)
    return region


def _drawn(layer: Any, shown: list[int]) -> npt.NDArray[np.float64]:
    """Return the matrix by which napari draws what it has cut out of a layer."""
    drawn: npt.NDArray[np.float64] = layer._transforms.simplified.set_slice(
        shown
    ).affine_matrix
    return drawn


def test_a_region_is_where_it_is_drawn_over_an_oblique_image() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(
        noise((4, 20, 20)), rotate=(0, 20, 30), scale=(3, 1, 1), translate=(4, 5, 6)
    )
    viewer.dims.set_current_step(0, 2)
    drawn = _drawn(layer, [1, 2])
    corners = np.array([[5, 6], [5, 12], [9, 12], [9, 6]])
    on_screen = corners @ drawn[:2, :2].T + drawn[:2, 2]
    region = viewer.add_shapes([on_screen], shape_type="polygon")
    cut = cut_layer(layer, viewer.dims, whole=False, region=region)
    assert cut.box == (slice(5, 10), slice(6, 13))


def test_a_result_lies_on_its_time_point_alone() -> None:
    viewer = ViewerModel()
    series = noise(SHAPE)
    layer = viewer.add_image(series.copy(), scale=(1, 2, 0.5, 0.5))
    viewer.dims.set_current_step(0, 2)
    result = run(viewer, layer, whole=True)
    np.testing.assert_array_equal(layer.data, series)
    assert result.mask.data.shape == (1, 4, 5, 6)
    brightest = np.unravel_index(series[2].argmax(), SHAPE[1:])
    for time in range(3):
        world = layer.data_to_world((time, *brightest))
        viewer.dims.point = world
        value = result.mask.get_value(world, world=True)
        assert value == (1 if time == 2 else None)
        assert result.voxel_at(world) == (brightest if time == 2 else None)


def test_a_slice_of_an_oblique_volume_has_values_on_that_slice_alone() -> None:
    viewer = ViewerModel()
    leaning = np.eye(4)
    leaning[1:3, 0] = 0.5, 0.2  # as under a tilted gantry
    layer = viewer.add_image(noise(SHAPE[1:]), affine=leaning)
    viewer.dims.set_current_step(0, 2)
    result = run(viewer, layer, whole=False)
    picked = result.job.cut.index[0]
    filled = result.mask.data.any(axis=(1, 2))
    np.testing.assert_array_equal(filled, np.arange(4) == picked)
    assert result.voxel_at(layer.data_to_world((picked, 3, 2))) == (3, 2)
    assert result.voxel_at(layer.data_to_world((picked + 1, 3, 2))) is None


def test_of_a_lazy_series_only_what_is_meant_is_computed() -> None:
    seen: list[tuple[int, ...]] = []

    def block(block_info: Any = None) -> npt.NDArray[np.float64]:
        ranges = block_info[None]["array-location"]
        seen.append(tuple(start for start, _ in ranges))
        return noise(SHAPE)[tuple(slice(*ends) for ends in ranges)]

    lazy = da.map_blocks(block, chunks=((1,) * 3, (1,) * 4, (5,), (3, 3)), dtype=float)
    viewer = ViewerModel()
    layer = viewer.add_image(lazy, contrast_limits=(0, 1))
    viewer.dims.set_current_step(0, 1)
    cut = cut_layer(layer, viewer.dims, whole=True)
    seen.clear()
    cut.read()
    assert sorted(seen) == [(1, z, 0, x) for z in range(4) for x in (0, 3)]
    box = [[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 4, 2], [0, 0, 4, 0]]
    region = viewer.add_shapes([box], shape_type="rectangle")
    cut = cut_layer(layer, viewer.dims, whole=False, region=region)
    seen.clear()
    cut.read()
    assert seen == [(1, cut.index[1], 0, 0)]


def test_a_result_of_a_pyramid_lies_on_its_finest_level() -> None:
    finest = noise((16, 24))
    levels = [finest, finest[::2, ::2], finest[::4, ::4]]
    viewer = ViewerModel()
    layer = viewer.add_image(
        levels, multiscale=True, scale=(0.5, 0.25), translate=(3, 4)
    )
    result = run(viewer, layer, whole=False)
    assert result.mask.data.shape == (16, 24)
    for made in result.layers:
        assert made.data_to_world((15, 23)) == layer.data_to_world((15, 23))


def test_results_keep_the_place_in_the_patient() -> None:
    known = np.array([[0, 0, -0.7, 9], [0, 0.5, 0, 8], [-2.0, 0, 0, 7], [0, 0, 0, 1]])
    entry = {"affine": known.tolist(), "units": "mm", "path": "ct.nii"}
    viewer = ViewerModel()
    layer = viewer.add_image(noise(SHAPE), metadata={KEY: entry, "mine": 1})
    assert not is_result(layer)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 2)
    for whole, first in ((False, (2, 0, 0)), (True, (0, 0, 0))):
        for made in run(viewer, layer, whole=whole).layers:
            assert is_result(made)
            assert made.metadata["mine"] == 1
            assert made.metadata[KEY]["path"] == "ct.nii"
            affine = patient_affine(made.metadata)
            assert affine is not None
            np.testing.assert_allclose(affine @ [0, 0, 0, 1], known @ [*first, 1])
    assert layer.metadata[KEY] == entry  # the image's own are as they were


def test_a_probability_near_nothing_hides_neither_image_nor_mask() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(noise(SHAPE[1:]))
    made = {
        one.metadata[KEY]["kind"]: one for one in run(viewer, layer, whole=True).layers
    }
    probability = made["probability"]
    assert probability.blending == "translucent_no_depth"  # 3D: the mask has depth
    values = np.linspace(0, 1, 11)
    colors = probability.colormap.map(values)
    viridis = ensure_colormap("viridis")
    np.testing.assert_allclose(colors[1:], viridis.map(values)[1:], atol=0.01)
    assert colors[0, 3] == 0
    assert viridis.map(np.zeros(1))[0, 3] == 1  # napari's own is as it was


def test_doubt_is_laid_over_a_bright_image_and_not_lost_in_it() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(noise(SHAPE[1:]))
    for one in run(viewer, layer, whole=True).layers:
        if one.metadata[KEY]["kind"] not in ("mask", "probability"):
            assert one.blending == "translucent_no_depth"
            certain, half, doubtful = one.colormap.map(
                np.array([0, 0.25, 0.5]) / np.log(2)
            )
            assert certain[3] == 0
            assert half[3] == pytest.approx(0.5, abs=0.01)
            assert doubtful[3] == pytest.approx(1, abs=0.01)
