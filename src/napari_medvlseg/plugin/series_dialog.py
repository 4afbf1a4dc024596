"""A dialog that asks which DICOM series of a folder to open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QMainWindow,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.io.dicom_series import Series

COLUMNS = ("Series", "Modality", "Description", "Size", "Spacing (mm)", "Files")
_DESCRIPTION = COLUMNS.index("Description")
TIMES = " \N{MULTIPLICATION SIGN} "
_MOST_ROWS = 14
_WIDEST_SHARE = 0.9


class SeriesDialog(QDialog):
    """A table of series, of which one or more are chosen; nothing is remembered.

    Parameters
    ----------
    series : sequence of Series
        At least one. The largest is chosen to begin with.
    """

    def __init__(self, series: Sequence[Series], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._series = series
        self.setWindowTitle("Open DICOM series")
        self.table = self._make_table()
        standard = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(standard.Open | standard.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        label = QLabel(
            f"There are {len(series)} series here. Choose those to open, a layer each:"
        )
        label.setWordWrap(True)
        layout.addWidget(label)
        layout.addWidget(self.table)
        layout.addWidget(self.buttons)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.table.itemDoubleClicked.connect(self.accept)
        self.table.selectRow(largest(series))
        self._fit()

    @property
    def chosen(self) -> list[Series]:
        """The series that are selected, in the table's order."""
        chosen = {index.row() for index in self.table.selectedIndexes()}
        return [self._series[row] for row in sorted(chosen)]

    def _make_table(self) -> QTableWidget:
        """Fill a table, a row for each series."""
        table = QTableWidget(len(self._series), len(COLUMNS), self)
        table.setHorizontalHeaderLabels(COLUMNS)
        table.setAccessibleName("DICOM series")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setTabKeyNavigation(False)
        table.setShowGrid(False)
        rows = table.verticalHeader()
        if rows is not None:
            rows.hide()
        for row, one in enumerate(self._series):
            for column, text in enumerate(cells(one)):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                if column != _DESCRIPTION:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                table.setItem(row, column, item)
        return table

    def _fit(self) -> None:
        """Give the table the room that its texts need, as far as the screen has it."""
        header = self.table.horizontalHeader()
        if header is None:
            return
        self.table.resizeColumnsToContents()
        frame = 2 * self.table.frameWidth()
        bar = self.table.verticalScrollBar()
        extra = frame + (bar.sizeHint().width() if bar is not None else 0)
        screen = self.screen()
        most = screen.availableGeometry().width() if screen is not None else 1000
        wanted = header.length() + extra
        self.table.setMinimumWidth(min(wanted, int(most * _WIDEST_SHARE)))
        header.setSectionResizeMode(_DESCRIPTION, QHeaderView.ResizeMode.Stretch)
        shown = min(len(self._series), _MOST_ROWS)
        heights = sum(self.table.rowHeight(row) for row in range(shown))
        self.table.setMinimumHeight(heights + header.sizeHint().height() + frame)

    def _on_selected(self) -> None:
        """Let only a choice be opened."""
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        if button is not None:
            button.setEnabled(bool(self.chosen))


def choose_series(series: Sequence[Series]) -> list[Series]:
    """Ask which series to open; none if the user cancels."""
    dialog = SeriesDialog(series, _window())
    accepted = dialog.exec() == QDialog.DialogCode.Accepted
    # Where napari was closed meanwhile, the dialog went with it.
    if not isalive(dialog):  # type: ignore[no-untyped-call]  # qtpy has no hints
        return []
    chosen = dialog.chosen if accepted else []
    dialog.deleteLater()
    return chosen


def _window() -> QWidget | None:
    """Return the window to be above, and to look like.

    None is active while files are dropped from another program.
    """
    windows = (
        one
        for one in QApplication.topLevelWidgets()
        if isinstance(one, QMainWindow) and one.isVisible()
    )
    return QApplication.activeWindow() or next(windows, None)


def largest(series: Sequence[Series]) -> int:
    """Return the place of the image with the most voxels."""

    def size(place: int) -> tuple[bool, int]:
        return series[place].makes_image, math.prod(series[place].shape)

    return max(range(len(series)), key=size)


def cells(series: Series) -> tuple[str, ...]:
    """Return what the table says of a series."""
    spacing = series.spacing_mm
    told = "unknown" if series.makes_image else "not one image"
    return (
        "" if series.number is None else str(series.number),
        series.modality,
        series.description,
        TIMES.join(str(size) for size in series.shape),
        told if spacing is None else TIMES.join(f"{edge:.3g}" for edge in spacing),
        str(series.count),
    )
