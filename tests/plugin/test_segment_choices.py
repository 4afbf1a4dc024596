"""The dock: what it remembers and tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtWidgets import (
    QApplication,
)

from tests.plugin.conftest import run_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.plugin.segment_widget import SegmentWidget


@pytest.mark.usefixtures("viewer_with_disc")
def test_the_choices_are_there_in_the_next_session(
    qtbot: QtBot,
    make_dock: Callable[..., SegmentWidget],
) -> None:
    first = make_dock()
    first.options.samples.setValue(7)
    first.options.device.setCurrentIndex(1)
    first.results.slider.setValue(35)
    first.results.boxes["probability"].setChecked(True)
    run_and_wait(qtbot, first, "bright blob")
    second = make_dock()
    second.prompt.set_text("x")
    config = second.job().config
    assert (config.num_samples, config.device, config.threshold) == (7, "cpu", 0.35)
    assert "probability" in second.results.shown
    assert second.prompt._settings.history() == ["bright blob"]


def test_the_model_says_what_it_is_and_knows(
    dock: SegmentWidget, card: ModelCard
) -> None:
    assert dock.options.summary.text() == card.summary
    assert card.intended_use in dock.options.summary.toolTip()
    assert "bright blob" in dock.options.summary.toolTip()


@pytest.mark.usefixtures("viewer_with_disc")
def test_the_shell_command_is_copied(dock: SegmentWidget) -> None:
    dock.prompt.set_text("a polyp's edge")
    dock.options.samples.setValue(5)
    dock.copy_command()
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    assert clipboard.text() == (
        "medvlseg segment IMAGE --prompt 'a polyp'\"'\"'s edge' --model blobs "
        "--samples 5 --seed 0 --threshold 0.5 --device auto"
    )


@pytest.mark.usefixtures("viewer_with_disc")
def test_grey_values_and_smoothing_are_chosen_and_remembered(
    qtbot: QtBot,
    make_dock: Callable[..., SegmentWidget],
) -> None:
    dock = make_dock()
    dock.prompt.set_text("bright blob")
    assert dock.job().config.intensity == "auto"
    assert dock.job().config.smooth_slices == 0
    intensity = dock.options.intensity
    assert intensity.level.isHidden() or not intensity.level.isVisibleTo(dock)
    intensity.choice.setCurrentIndex(intensity.choice.findData("temporal-bone"))
    assert dock.job().config.intensity == "temporal-bone"
    intensity.choice.setCurrentIndex(intensity.choice.findData("own"))
    assert intensity.level.isVisibleTo(dock.options.more_grid.parentWidget())
    intensity.level.setValue(-37.5)
    intensity.width.setValue(150)
    dock.options.smoothing.setValue(2.5)
    run_and_wait(qtbot, dock, "bright blob")
    again = make_dock()
    again.prompt.set_text("bright blob")
    config = again.job().config
    assert (config.intensity, config.smooth_slices) == ("L-37.5W150", 2.5)
    again.copy_command()
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    assert "--intensity L-37.5W150 --smooth-slices 2.5" in clipboard.text()
