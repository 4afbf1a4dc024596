"""The dock: what it remembers and tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import (
    QApplication,
)

from napari_medvlseg.core.config import ADAPTIVE_TOLERANCE
from napari_medvlseg.core.types import Midline, Segmentation
from napari_medvlseg.plugin.findings import drawn, find, relabel
from tests.plugin.conftest import disc, run_and_wait

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
def test_the_legend_asks_which_side_was_found(
    qtbot: QtBot, dock: SegmentWidget
) -> None:
    run_and_wait(qtbot, dock, "left lung <x>")
    result = dock.session.current
    assert result is not None
    assert result.segmentation is not None
    assert "Which side?" not in dock.results.legend.text()
    # The disc lies to the right of column 10, which is said to be the midline.
    midline = Midline(axis=1, index=9.5, rightward=True)
    dock.results.set_findings(find(replace(result.segmentation, midline=midline)))
    assert "Which side?" in dock.results.legend.text()
    assert "patient's right" in dock.results.legend.text().replace("&#x27;", "'")
    again = relabel(replace(result.segmentation, midline=midline), 0.6)
    assert again.each[0].side_warning  # another threshold keeps it


def test_channels_first_are_offered_as_colour(
    qtbot: QtBot, viewer: Any, dock: SegmentWidget
) -> None:
    options = dock.options
    assert options.colours.isHidden()
    labels = ("channel", "y", "x")
    viewer.add_image(np.stack([disc()] * 3), axis_labels=labels, name="photograph")
    assert not options.colours.isHidden()
    assert options.colours.isChecked()
    assert not options.whole.isEnabled()
    assert run_and_wait(qtbot, dock, "bright blob")
    mask = dock.session.current.mask if dock.session.current else None
    assert mask is not None
    np.testing.assert_array_equal(mask.data[0], disc() > 120)
    viewer.add_image(np.zeros((3, 24, 32), np.uint8), name="three slices")
    assert not options.colours.isHidden()  # offered, but it may be a volume
    assert not options.colours.isChecked()
    assert options.whole.isEnabled()
    viewer.add_image(disc())
    assert options.colours.isHidden()


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


@pytest.mark.usefixtures("viewer_with_disc")
def test_stopping_early_is_chosen_told_in_the_command_and_remembered(
    qtbot: QtBot, make_dock: Callable[..., SegmentWidget]
) -> None:
    dock = make_dock()
    dock.prompt.set_text("bright blob")
    stopping = dock.options.stopping
    assert dock.job().config.tolerance == 0
    assert not stopping.tolerance.isEnabled()
    stopping.wanted.setChecked(True)
    assert stopping.tolerance.isEnabled()
    assert dock.job().config.tolerance == ADAPTIVE_TOLERANCE
    stopping.tolerance.setValue(0.055)
    run_and_wait(qtbot, dock, "bright blob")
    again = make_dock()
    again.prompt.set_text("bright blob")
    assert again.job().config.tolerance == 0.055
    again.copy_command()
    clipboard = QApplication.clipboard()
    assert clipboard is not None
    assert "--tolerance 0.055" in clipboard.text()


@pytest.mark.parametrize(
    ("counts", "wanted", "told"),
    [
        (None, 30, "30 samples"),
        ([1.0], 1, "1 sample"),
        ([30.0, 30.0], 30, "30 samples"),
        ([9.0, 16.5], 30, "12.8 of 30 samples drawn, which were enough,"),
    ],
)
def test_the_result_says_how_many_samples_were_drawn(
    counts: list[float] | None, wanted: int, told: str
) -> None:
    empty = np.zeros((1, 2, 2), np.float32)
    provenance = {} if counts is None else {"samples_drawn": counts}
    found = Segmentation(
        prompts=("polyp",),
        labels=np.zeros((2, 2), np.uint8),
        probability=empty,
        predictive_entropy=empty,
        expected_entropy=empty,
        mutual_information=empty,
        affine=np.eye(4),
        threshold=0.5,
        min_foreground=0.0,
        slice_axis=None,
        provenance=provenance,
        units="pixel",
        doubtful_from=None,
    )
    assert drawn(find(found), wanted) == told
