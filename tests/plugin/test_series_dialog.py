"""Of several DICOM series the user chooses; nothing is cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox

from napari_medvlseg.core.io.dicom_series import Series
from napari_medvlseg.plugin.series_dialog import (
    COLUMNS,
    TIMES,
    SeriesDialog,
    cells,
    largest,
)

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def series(number: int | None, shape: tuple[int, ...], description: str) -> Series:
    return Series(
        uid=f"1.2.{number}",
        number=number,
        modality="MR",
        description=description,
        shape=shape,
        spacing_mm=(0.9375, 0.9375, 5) if len(shape) == 3 else None,
        paths=tuple(Path(f"{k}.dcm") for k in range(shape[-1] if shape[2:] else 1)),
        is_stacked=len(shape) == 3,
    )


SERIES = [
    series(1, (512, 512), "localizer"),
    series(2, (256, 256, 30), "T2 tra"),
    series(301, (320, 320, 176), "T1 MPRAGE sagittal isotropic after contrast"),
    series(None, (256, 256, 40), ""),
]


def test_the_largest_is_chosen_to_begin_with(qtbot: QtBot) -> None:
    dialog = SeriesDialog(SERIES)
    qtbot.addWidget(dialog)
    assert largest(SERIES) == 2
    assert dialog.chosen == [SERIES[2]]


def test_several_may_be_chosen_but_not_none(qtbot: QtBot) -> None:
    dialog = SeriesDialog(SERIES)
    qtbot.addWidget(dialog)
    button = dialog.buttons.button(QDialogButtonBox.StandardButton.Open)
    assert button is not None
    assert button.isEnabled()
    dialog.table.selectAll()
    assert dialog.chosen == SERIES
    dialog.table.clearSelection()
    assert dialog.chosen == []
    assert not button.isEnabled()


def test_return_opens_and_escape_does_not(qtbot: QtBot) -> None:
    for key, accepted in ((Qt.Key.Key_Return, 1), (Qt.Key.Key_Escape, 0)):
        dialog = SeriesDialog(SERIES)
        qtbot.addWidget(dialog)
        dialog.show()
        qtbot.keyClick(dialog, key)
        assert dialog.result() == accepted


def test_no_text_is_cut_off(qtbot: QtBot) -> None:
    dialog = SeriesDialog(SERIES)
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    for column in range(len(COLUMNS)):
        needed = dialog.table.sizeHintForColumn(column)
        assert dialog.table.columnWidth(column) >= needed
    bar = dialog.table.horizontalScrollBar()
    assert bar is not None
    assert not bar.isVisible()


def test_a_row_says_what_there_is() -> None:
    size, spacing = (
        TIMES.join(("256", "256", "30")),
        TIMES.join(("0.938",) * 2 + ("5",)),
    )
    assert cells(SERIES[1]) == ("2", "MR", "T2 tra", size, spacing, "30")
    assert cells(SERIES[0])[4] == "unknown"
    assert cells(SERIES[3])[:3] == ("", "MR", "")


def test_scouts_that_make_no_image_are_not_chosen_to_begin_with() -> None:
    scout = replace(SERIES[2], makes_image=False, spacing_mm=None)
    assert cells(scout)[4] == "not one image"
    assert largest([scout, *SERIES[:2]]) == 2
