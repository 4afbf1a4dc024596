"""A working session is saved and opened again in the real viewer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Picture
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_medvlseg.core.io.workspace import FILE
from napari_medvlseg.plugin.result_layers import KEY, is_result
from tests.plugin.conftest import WAIT_MS, blob_steps, disc, run_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

READER = "napari"


def _save(qtbot: QtBot, dock: SegmentWidget, folder: Path) -> None:
    """Save as the button does, once a folder is chosen."""
    with qtbot.waitSignal(dock.workspace.told, timeout=WAIT_MS):
        dock.workspace.save_requested.emit(folder)


def _open(qtbot: QtBot, dock: SegmentWidget, folder: Path, layers: int) -> None:
    """Open a folder, and wait for its layers."""
    dock.workspace.open_from(folder)
    viewer = dock._viewer
    qtbot.waitUntil(lambda: len(viewer.layers) >= layers, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: bool(dock.results.legend.text()), timeout=WAIT_MS)


def _told(viewer: Any) -> list[tuple[Any, ...]]:
    """Return what matters of each layer."""
    return [
        (
            layer.name,
            np.asarray(layer.data).tolist(),
            layer.scale.tolist(),
            layer.translate.tolist(),
            layer.affine.affine_matrix.tolist(),
            [str(unit) for unit in layer.units],
            layer.visible,
            layer.opacity,
            layer.metadata.get(KEY, {}).get("prompts"),
        )
        for layer in viewer.layers
    ]


def _threshold_of(result: Any) -> float:
    """Return the threshold of a result that is there."""
    return float(result.segmentation.threshold)


@pytest.fixture
def scene(qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path) -> Path:
    """A picture of a file, moved and turned, with two results, one corrected."""
    path = tmp_path / "images" / "cells.png"
    path.parent.mkdir()
    Picture.fromarray(disc()).save(path)
    (layer,) = viewer.open(str(path), plugin=READER)
    layer.scale = (0.5, 0.25)
    layer.translate = (3, -7)
    layer.affine = [[0.8, -0.6, 5], [0.6, 0.8, 1], [0, 0, 1]]
    layer.units = ("millimeter", "millimeter")
    layer.opacity = 0.75
    layer.colormap = "green"
    layer.contrast_limits = (5, 200)
    dock.options.samples.setValue(3)
    run_and_wait(qtbot, dock, "bright blob")
    run_and_wait(qtbot, dock, "dark hole\nnothing")
    mask = next(la for la in viewer.layers if la.name.startswith("mask · bright"))
    mask.brush_size = 1
    mask.paint((2, 3), 1)
    assert mask.data[2, 3] == 1
    return path


def test_a_session_comes_back_as_it_was(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, scene: Path, tmp_path: Path
) -> None:
    dock.options.samples.setValue(7)
    dock.options.stopping.set_value(0.045)
    dock.options.intensity.level.setValue(33)
    dock.results.threshold.setValue(0.3)
    dock.results.boxes["mutual_information"].setChecked(True)
    dock.prompt.set_text("what was typed\nlast")
    newest = dock.session.results[-1]
    qtbot.waitUntil(lambda: _threshold_of(newest) == 0.3, timeout=WAIT_MS)
    before = _told(viewer)
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    dock.options.samples.setValue(2)
    dock.options.stopping.set_value(0)
    dock.options.intensity.level.setValue(44)
    dock.results.threshold.setValue(0.9)
    dock.results.boxes["mutual_information"].setChecked(False)
    dock.prompt.set_text("")
    _open(qtbot, dock, tmp_path / "session", len(before))
    qtbot.waitUntil(lambda: _told(viewer) == before, timeout=WAIT_MS)
    image = viewer.layers[0]
    assert image.source.path == str(scene)
    assert image.colormap.name == "green"
    assert image.contrast_limits == [5, 200]
    chosen = (dock.options.samples, dock.options.stopping, dock.options.intensity.level)
    assert [each.value() for each in chosen] == [7, 0.045, 33]
    assert dock.results.threshold.value() == dock.session.threshold == 0.3
    assert [_threshold_of(result) for result in dock.session.results] == [0.5, 0.3]
    assert "mutual_information" in dock.results.shown
    assert dock.prompt.text == "what was typed\nlast"
    assert "Session opened: 1 image, 2 results" in dock.progress.status.text()


def test_an_opened_result_goes_on_like_its_own(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, scene: Path, tmp_path: Path
) -> None:
    """The corrected mask is kept from the threshold; the other follows it."""
    assert scene.exists()
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session", 15)
    qtbot.waitUntil(lambda: len(dock.session.results) == 2, timeout=WAIT_MS)
    corrected, other = (result.mask for result in dock.session.results)
    viewer.layers.selection.active = corrected
    dock.results.slider.setValue(0)
    qtbot.wait(100)
    assert corrected.data[2, 3] == 1
    assert corrected.data[0, 0] == 0
    before = other.data.copy()
    viewer.layers.selection.active = other
    dock.results.slider.setValue(99)
    qtbot.waitUntil(lambda: other.data.sum() < before.sum(), timeout=WAIT_MS)
    assert run_and_wait(qtbot, dock, "bright blob")


def test_an_image_without_a_file_is_kept_whole(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    run_and_wait(qtbot, dock, "bright blob")
    before = _told(viewer_with_disc)
    _save(qtbot, dock, tmp_path / "session")
    viewer_with_disc.layers.clear()
    _open(qtbot, dock, tmp_path / "session", len(before))
    qtbot.waitUntil(lambda: _told(viewer_with_disc) == before, timeout=WAIT_MS)
    np.testing.assert_array_equal(viewer_with_disc.layers[0].data, disc())


@pytest.mark.parametrize("answer", ["the moved one", "another one", "none"])
def test_a_moved_image_is_asked_for(
    qtbot: QtBot,
    dock: SegmentWidget,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    viewer = dock._viewer
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    moved = scene.rename(tmp_path / "moved.png")
    other = tmp_path / "other.png"
    Picture.fromarray(disc()[::-1] // 2).save(other)
    answers = {
        "the moved one": [str(moved)],
        "another one": [str(other), str(moved)],
        "none": [""],
    }[answer]
    asked: list[str] = []

    def choose(_parent: Any, title: str, _folder: str) -> tuple[str, str]:
        asked.append(title)
        return answers[len(asked) - 1], ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    no = QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_: no)
    expected = 14 if answer == "none" else 15
    _open(qtbot, dock, tmp_path / "session", expected)
    assert asked == ["Where is cells.png now?"] * len(answers)
    images = [layer for layer in viewer.layers if not is_result(layer)]
    said = dock.progress.status.text()
    if answer == "none":
        assert images == []
        assert "Not there: cells" in said
    else:
        assert [layer.source.path for layer in images] == [str(moved)]
        assert "Not there" not in said
    qtbot.waitUntil(lambda: len(dock.session.results) == 2, timeout=WAIT_MS)


def test_slices_and_volumes_come_back_in_their_places(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    volume = np.stack([np.roll(disc(), 3 * z, axis=1) for z in range(4)])
    viewer.add_image(volume, name="stack", scale=(4, 0.5, 0.5))
    viewer.dims.set_point(0, 8)
    dock.options.samples.setValue(2)
    run_and_wait(qtbot, dock, "bright blob")
    dock.options.whole.setChecked(True)
    run_and_wait(qtbot, dock, "dark hole")
    before = _told(viewer)
    _save(qtbot, dock, tmp_path / "session")
    viewer.layers.clear()
    _open(qtbot, dock, tmp_path / "session", len(before))
    qtbot.waitUntil(lambda: _told(viewer) == before, timeout=WAIT_MS)
    assert viewer.dims.current_step[0] == 2
    assert dock.options.is_whole


def test_a_folder_that_is_no_session_is_told(
    qtbot: QtBot, dock: SegmentWidget, tmp_path: Path
) -> None:
    with qtbot.waitSignal(dock.workspace.failed, timeout=WAIT_MS):
        dock.workspace.open_from(tmp_path)
    assert "xpected a saved session" in dock.progress.status.text()
    (tmp_path / FILE).write_text(json.dumps({"format": 99}), encoding="utf-8")
    with qtbot.waitSignal(dock.workspace.failed, timeout=WAIT_MS):
        dock.workspace.open_from(tmp_path)
    assert "update napari-medvlseg" in dock.progress.status.text()


def test_saving_where_other_things_lie_is_refused_and_keeps_them(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget, tmp_path: Path
) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear", encoding="utf-8")
    assert len(viewer_with_disc.layers) == 1
    with qtbot.waitSignal(dock.workspace.failed, timeout=WAIT_MS):
        dock.workspace.save_requested.emit(tmp_path / "letters")
    assert "choose another name" in dock.progress.status.text()
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["a.txt"]


def test_the_buttons_ask_for_a_folder(
    qtbot: QtBot,
    viewer_with_disc: Any,
    make_dock: Callable[..., SegmentWidget],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(viewer_with_disc.layers) == 1
    dock = make_dock(blob_steps)
    folder = tmp_path / "session"
    given: list[str] = []

    def save_name(_parent: Any, _title: str, before: str, **_: Any) -> tuple[str, str]:
        given.append(before)
        return str(folder), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", save_name)
    with qtbot.waitSignal(dock.workspace.told, timeout=WAIT_MS):
        dock.workspace.save.click()
    assert (folder / FILE).is_file()
    with qtbot.waitSignal(dock.workspace.told, timeout=WAIT_MS):
        dock.workspace.save.click()
    assert given[1] == str(folder)  # remembered
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    viewer_with_disc.layers.clear()
    dock.workspace.open.click()
    qtbot.waitUntil(lambda: len(viewer_with_disc.layers) == 1, timeout=WAIT_MS)
