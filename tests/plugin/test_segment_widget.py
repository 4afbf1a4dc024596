"""The dock: from a typed prompt to layers, in a real viewer."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.plugin.result_layers import KEY
from tests.plugin.conftest import blob_steps, disc, run_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget
    from napari_medvlseg.plugin.settings import Settings

LN2 = math.log(2)
TITLES = (
    "mask",
    "expected entropy",
    "mutual information",
    "predictive entropy",
    "probability",
)


def results(viewer: Any) -> dict[str, Any]:
    """Return the result layers by their kind."""
    found = {}
    for layer in viewer.layers:
        if KEY in layer.metadata:
            found[layer.metadata[KEY]["kind"]] = layer
    return found


def test_a_prompt_becomes_a_mask_and_four_maps(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    assert run_and_wait(qtbot, dock, "bright blob")
    names = [layer.name for layer in viewer_with_disc.layers][::-1]
    assert names[:-1] == [f"{title} · bright blob · cells" for title in TITLES]
    made = results(viewer_with_disc)
    np.testing.assert_array_equal(made["mask"].data, disc() > 120)
    assert "Done" in dock.progress.status.text()
    assert "bright blob" in dock.results.legend.text()


def test_maps_have_fixed_comparable_limits(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    made = results(viewer_with_disc)
    assert made.pop("probability").contrast_limits == [0, 1]
    made.pop("mask")
    assert [layer.contrast_limits for layer in made.values()] == [[0, LN2]] * 3
    assert {layer.colormap.name for layer in made.values()} == {"plasma, clear at 0"}


def test_layers_lie_where_their_image_does(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    image = viewer.add_image(
        disc(),
        scale=(0.5, 0.25),
        translate=(3, -2),
        rotate=20,
        shear=[0.2],
        affine=np.array([[1, 0.1, 4], [0, 1.1, 5], [0, 0, 1]]),
        units=("mm", "mm"),
        axis_labels=("row", "column"),
        metadata={"patient_side": "left"},
    )
    run_and_wait(qtbot, dock, "bright blob")
    made = results(viewer)
    assert len(made) == 5
    for layer in made.values():
        for place in ((0, 0), (23, 31), (4, 9)):
            np.testing.assert_allclose(
                layer.data_to_world(place), image.data_to_world(place), atol=1e-6
            )
        assert layer.units == image.units
        assert layer.axis_labels == ("row", "column")
        assert layer.metadata["patient_side"] == "left"
        assert layer.metadata[KEY]["provenance"]["model"] == "blobs"
        assert layer.metadata[KEY]["complete"]


def test_a_slice_of_a_volume_gets_its_result_on_that_slice(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    volume = np.stack(
        [np.zeros_like(disc()), disc(), disc().T[:24, :24].repeat(2, 1)[:, :32]]
    )
    image = viewer.add_image(volume, scale=(3, 1, 1), translate=(6, 0, 0))
    viewer.dims.set_current_step(0, 1)
    dock.options.slice.setChecked(True)
    run_and_wait(qtbot, dock, "bright blob")
    mask = results(viewer)["mask"]
    assert mask.data.shape == (1, 24, 32)
    np.testing.assert_array_equal(mask.data[0], volume[1] > 120)
    np.testing.assert_allclose(
        mask.data_to_world((0, 5, 5)), image.data_to_world((1, 5, 5))
    )
    assert mask.get_value((*viewer.dims.point[:1], 12, 16), world=True) == 1


def test_a_whole_volume_gets_a_volume(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    volume = np.stack([disc(), disc(), np.zeros_like(disc())])
    viewer.add_image(volume)
    dock.options.whole.setChecked(True)
    run_and_wait(qtbot, dock, "bright blob")
    np.testing.assert_array_equal(results(viewer)["mask"].data, volume > 120)


def test_a_flat_image_offers_no_volume(
    viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    assert not dock.options.whole.isEnabled()
    viewer_with_disc.add_image(np.zeros((3, 8, 8)))
    assert dock.options.whole.isEnabled()


def test_each_line_gets_a_label_and_maps_of_its_own(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob\ndark rest")
    mask = results(viewer_with_disc)["mask"]
    np.testing.assert_array_equal(mask.data, np.where(disc() > 120, 1, 2))
    assert list(mask.features["prompt"]) == ["background", "bright blob", "dark rest"]
    names = [layer.name for layer in viewer_with_disc.layers]
    assert "probability · bright blob · cells" in names
    assert "probability · dark rest · cells" in names


@pytest.mark.usefixtures("viewer_with_disc")
def test_what_is_not_found_is_said(qtbot: QtBot, dock: SegmentWidget) -> None:
    run_and_wait(qtbot, dock, "bright blob\nnothing")
    assert "Not found: nothing" in dock.progress.status.text()
    legend = dock.results.legend.text()
    assert "not found: <b>nothing</b>" in legend
    assert "at most" not in legend  # its probability is 0 everywhere


def test_a_doubtful_answer_is_called_so(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    """A disc on black is plain; where half is half bright, no draw is sure."""
    viewer.add_image(disc(), name="cells")
    run_and_wait(qtbot, dock, "bright blob")
    assert "doubtful" not in dock.results.legend.text()
    half = disc()
    half[:, ::2] = np.maximum(half[:, ::2], 120)
    viewer.add_image(half, name="half")
    dock.image.choose(viewer.layers["half"])
    run_and_wait(qtbot, dock, "bright blob")
    assert "bright blob: " in dock.results.legend.text()
    assert "<b>doubtful</b>, look closely" in dock.results.legend.text()


def test_the_threshold_labels_anew_without_the_model(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    runs: list[str] = []

    def counted(image: Any, prompts: Any, model: str, config: Any) -> Any:
        runs.append(model)
        return blob_steps(image, prompts, model, config)

    ramp = np.tile(np.linspace(0, 1, 32), (8, 1))
    viewer.add_image(ramp)
    dock = make_dock(counted)
    run_and_wait(qtbot, dock, "bright blob")
    made = results(viewer)
    for percent in (20, 80):
        dock.results.slider.setValue(percent)
        wanted = made["probability"].data > percent / 100
        qtbot.waitUntil(partial(_holds, made["mask"], wanted))
        assert made["mask"].metadata[KEY]["threshold"] == percent / 100
    assert runs == ["blobs"]


def _holds(layer: Any, wanted: Any) -> bool:
    return bool(np.array_equal(layer.data, wanted))


def test_a_mask_painted_by_hand_is_left_alone(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    mask = results(viewer_with_disc)["mask"]
    mask.paint((2, 2), 1)
    painted = mask.data.copy()
    dock.results.slider.setValue(90)
    qtbot.wait(200)
    np.testing.assert_array_equal(mask.data, painted)


def test_the_same_prompt_again_keeps_the_old_result(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    run_and_wait(qtbot, dock, "bright blob")
    names = [layer.name for layer in viewer_with_disc.layers]
    assert len(names) == 11
    assert "mask · bright blob · cells [1]" in names


def test_the_old_result_is_replaced_if_told(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    dock.options.replace.setChecked(True)
    run_and_wait(qtbot, dock, "bright blob")
    names = [layer.name for layer in viewer_with_disc.layers]
    assert len(names) == 6
    assert "mask · bright blob · cells" in names


def test_only_the_checked_maps_are_shown(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    dock.results.boxes["predictive_entropy"].setChecked(False)
    dock.results.boxes["mutual_information"].setChecked(True)
    run_and_wait(qtbot, dock, "bright blob")
    shown = {kind for kind, layer in results(viewer_with_disc).items() if layer.visible}
    assert shown == {"mask", "mutual_information"}
    dock.results.boxes["probability"].setChecked(True)
    assert results(viewer_with_disc)["probability"].visible


def test_the_choice_of_layer_is_left_to_the_user(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    image = viewer_with_disc.layers[0]
    run_and_wait(qtbot, dock, "bright blob")
    assert viewer_with_disc.layers.selection.active == image
    assert dock.image.layer == image
    assert dock.image.count() == 1


def test_the_dock_reads_the_values_under_the_cursor(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    viewer_with_disc.cursor.position = (12 * 0.5, 16 * 0.25)
    text = dock.results.read_out.text()
    made = results(viewer_with_disc)
    assert "Label 1" in text
    assert f"probability {made['probability'].data[12, 16]:.2f}" in text
    assert f"entropy {made['predictive_entropy'].data[12, 16]:.2f}" in text
    viewer_with_disc.cursor.position = (0, 0)
    assert "Background" in dock.results.read_out.text()
    viewer_with_disc.cursor.position = (-50, 0)
    assert "Point at" in dock.results.read_out.text()


def test_a_drawn_region_limits_the_run(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    dock.draw_region()
    region = dock.region.layer
    region.add_rectangles(np.array([[0, 0], [0, 16], [23, 16], [23, 0]]))
    run_and_wait(qtbot, dock, "bright blob")
    mask = results(viewer_with_disc)["mask"]
    wanted = disc() > 120
    wanted[:, 17:] = False
    np.testing.assert_array_equal(mask.data, wanted)
    assert mask.metadata[KEY]["region_of_interest"] == [[0, 24], [0, 17]]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        pytest.param("", "type what to look for", id="empty"),
        pytest.param("   \n ", "type what to look for", id="blank"),
        pytest.param("x" * 10_000, "at most 2000 characters", id="long"),
        pytest.param("poly\x07p", "printable", id="control"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_told_in_a_sentence(
    viewer_with_disc: Any, dock: SegmentWidget, prompt: str, sentence: str
) -> None:
    dock.prompt.set_text(prompt)
    dock.run()
    assert sentence in dock.progress.status.text()
    assert sentence in notification_manager.records[-1].message
    assert not dock.session.is_running
    assert len(viewer_with_disc.layers) == 1


def test_a_prompt_in_another_script_is_run(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    assert run_and_wait(qtbot, dock, "息肉 полип")
    assert "mask · 息肉 полип · cells" in viewer_with_disc.layers


def test_without_an_image_the_dock_says_how_to_open_one(dock: SegmentWidget) -> None:
    dock.prompt.set_text("polyp")
    dock.run()
    assert "Open Sample" in dock.progress.status.text()


def test_without_a_model_the_dock_says_so(
    viewer_with_disc: Any, settings: Settings
) -> None:
    from napari_medvlseg.plugin.segment_widget import SegmentWidget

    widget = SegmentWidget(viewer_with_disc, models=[], settings=settings)
    viewer_with_disc.window.add_dock_widget(widget)
    widget.prompt.set_text("polyp")
    widget.run()
    assert "expected a model" in widget.progress.status.text().lower()


@pytest.mark.usefixtures("viewer_with_disc")
def test_an_error_in_the_run_is_told_in_a_sentence(
    qtbot: QtBot, make_dock: Callable[..., SegmentWidget]
) -> None:
    def refuses(*_: object) -> Any:
        msg = "expected a bigger image, got a small one; open another"
        raise ImageError(msg)

    dock = make_dock(refuses)
    assert not run_and_wait(qtbot, dock, "polyp")
    assert dock.progress.status.text() == (
        "Expected a bigger image, got a small one; open another."
    )
    assert "bigger image" in notification_manager.records[-1].message
    assert dock.progress.run.isEnabled()


@pytest.mark.parametrize("kind", [RuntimeError, ZeroDivisionError, MemoryError])
@pytest.mark.usefixtures("viewer_with_disc")
def test_a_bug_in_the_run_leaves_a_dock_that_works(
    qtbot: QtBot,
    make_dock: Callable[..., SegmentWidget],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(
        notification_manager, "receive_error", lambda k, *_: told.append(k)
    )
    faults = [kind("broken")]

    def breaks_once(*job: Any) -> Any:
        for step in blob_steps(*job):
            yield step
            if faults:
                raise faults.pop()

    dock = make_dock(breaks_once)
    assert not run_and_wait(qtbot, dock, "polyp")
    assert told == [kind]
    assert "broken" in dock.progress.status.text()
    assert run_and_wait(qtbot, dock, "bright blob")
