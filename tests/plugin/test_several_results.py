"""Several results of one image: which are on the screen, and what the legend tells."""

from __future__ import annotations

import tracemalloc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers.utils.stack_utils import stack_to_images

from napari_medvlseg.plugin.findings import find
from napari_medvlseg.plugin.layer_space import patient_affine, spatial_shape
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.result_layers import KEY, is_result
from tests.plugin.conftest import WAIT_MS, disc, run_and_wait, slow_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget


def _shown(viewer: Any) -> list[str]:
    """Return the names of the results' layers that are on the screen."""
    return [la.name for la in viewer.layers if is_result(la) and la.visible]


def _masks(viewer: Any) -> list[str]:
    return [la.name for la in viewer.layers if la.name.startswith("mask")]


def test_a_later_result_of_the_same_prompt_is_seen_alone(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    """Two entropies over one image would look like a third."""
    run_and_wait(qtbot, dock, "bright blob")
    run_and_wait(qtbot, dock, "dark hole")
    run_and_wait(qtbot, dock, "bright blob")
    assert _shown(viewer_with_disc) == [
        "predictive entropy · dark hole · cells",
        "mask · dark hole · cells",
        "predictive entropy · bright blob · cells [1]",
        "mask · bright blob · cells [1]",
    ]
    dock.results.boxes["probability"].click()
    assert "probability · bright blob · cells [1]" in _shown(viewer_with_disc)
    assert "probability · bright blob · cells" not in _shown(viewer_with_disc)


def test_results_of_other_slices_stay_on_the_screen(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(np.stack([disc(), disc(), disc()]), name="cells")
    for index in (0, 2):
        viewer.dims.set_current_step(0, index)
        run_and_wait(qtbot, dock, "bright blob")
    assert sum(name.startswith("mask") for name in _shown(viewer)) == 2
    dock.options.whole.click()
    run_and_wait(qtbot, dock, "bright blob")  # which covers both
    assert _shown(viewer)[-1] == "mask · bright blob · cells [2]"
    assert sum(name.startswith("mask") for name in _shown(viewer)) == 1


def test_all_layers_of_a_result_have_one_number(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    for layer in list(viewer_with_disc.layers)[1:]:
        if not layer.name.startswith("probability"):
            viewer_with_disc.layers.remove(layer)
    run_and_wait(qtbot, dock, "bright blob")
    names = [layer.name for layer in viewer_with_disc.layers][2:]
    assert len(names) == 5
    assert all(name.endswith(" · cells [1]") for name in names)


def test_a_run_that_goes_on_takes_the_place_of_the_cancelled_one(
    qtbot: QtBot, viewer_with_disc: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    dock = make_dock(slow_steps)
    dock.options.samples.setValue(5)
    dock.prompt.set_text("bright blob")
    dock.run()
    qtbot.waitUntil(lambda: dock.session.current is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: bool(dock.results.legend.text()), timeout=WAIT_MS)
    dock.cancel()
    qtbot.waitUntil(lambda: not dock.session.has_threads, timeout=WAIT_MS)
    maps = [
        weakref.ref(layer.data)
        for layer in viewer_with_disc.layers
        if layer.name.startswith("predictive entropy")
    ]
    assert run_and_wait(qtbot, dock, "bright blob")
    assert _masks(viewer_with_disc) == ["mask · bright blob · cells"]
    assert len(dock.session.results) == 1
    assert [one() for one in maps] == [None]  # of a volume both would not fit


def test_what_was_corrected_by_hand_is_never_replaced(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    mask = dock.session.results[0].mask
    mask.brush_size = 1
    mask.paint((2, 3), 1)
    dock.options.replace.setChecked(True)
    run_and_wait(qtbot, dock, "bright blob")
    assert _masks(viewer_with_disc) == [
        "mask · bright blob · cells",
        "mask · bright blob · cells [1]",
    ]
    assert viewer_with_disc.layers["mask · bright blob · cells"].data[2, 3] == 1


def test_the_legend_tells_the_chosen_result_and_nothing_of_removed_ones(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    run_and_wait(qtbot, dock, "nothing")
    assert "not found: <b>nothing</b>" in dock.results.legend.text()
    layers = viewer_with_disc.layers
    layers.selection.active = dock.session.results[0].mask
    assert "bright blob" in dock.results.legend.text()
    layers.selection.active = dock.session.results[1].mask
    assert "nothing" in dock.results.legend.text()
    assert not dock.results.legend.isHidden()
    layers.clear()
    assert dock.results.legend.text() == ""
    assert dock.results.legend.isHidden()  # and leaves no gap


@pytest.mark.parametrize("axis", [0, 2])
def test_what_napari_splits_from_a_volume_does_not_lie_where_the_volume_does(
    viewer: Any, axis: int
) -> None:
    affine = np.array([[0, 0, -1, 9], [0, -1, 0, 8], [-2, 0, 0, 7], [0, 0, 0, 1]])
    entry = {"affine": affine.tolist(), "units": "mm", "shape": [4, 5, 6]}
    volume = viewer.add_image(np.zeros((4, 5, 6)), metadata={KEY: entry})
    assert patient_affine(volume.metadata, spatial_shape(volume)) is not None
    part = stack_to_images(volume, axis)[1]
    assert part.metadata == volume.metadata  # napari hands it on
    viewer.add_layer(part)
    assert cut_layer(part, viewer.dims, whole=False).units == "pixel"


def test_results_tell_the_shape_that_their_place_is_of(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    entry = {"affine": np.eye(4).tolist(), "units": "mm", "shape": [3, 24, 32]}
    viewer.add_image(np.stack([disc()] * 3), name="cells", metadata={KEY: entry})
    viewer.dims.set_current_step(0, 2)
    run_and_wait(qtbot, dock, "bright blob")
    for layer in dock.session.results[0].layers:
        assert layer.metadata[KEY]["shape"] == [1, 24, 32] == list(layer.data.shape)
        assert patient_affine(layer.metadata, spatial_shape(layer))[0, 3] == 2  # type: ignore[index]


def test_sizes_are_told_without_powers_of_ten(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(disc(), name="cells", scale=(20, 30), units="mm")
    run_and_wait(qtbot, dock, "bright blob")
    segmentation = dock.session.results[0].segmentation
    assert segmentation is not None
    pixels = int((segmentation.labels == 1).sum())
    assert find(segmentation).each[0].size.endswith(f", {pixels * 600} mm²")
    assert pixels * 600 > 10_000


def test_counting_a_volume_takes_little_memory(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    viewer.add_image(disc(), name="cells")
    run_and_wait(qtbot, dock, "bright blob")
    segmentation = dock.session.results[0].segmentation
    assert segmentation is not None
    labels = np.zeros((100, 100, 100), np.uint8)
    labels[:, :50] = 1
    volume = replace(
        segmentation, labels=labels, probability=labels[None].astype(np.float32)
    )
    tracemalloc.start()
    try:
        told = find(volume)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told.each[0].size.startswith("50.0%")
    assert peak < 3 * labels.nbytes
