"""The classes of a 3D model in words: a table to read, edit, import and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QRect, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QStyle,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.core.class_texts import CONCEPTS, ClassSheet, ClassText
from napari_medvlseg.core.errors import MedVLSegError, PromptError
from napari_medvlseg.core.io.class_sheet import (
    class_sheet_text,
    parse_class_sheet,
    read_class_sheet,
    write_class_sheet,
)
from napari_medvlseg.plugin.controls import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medvlseg.core.volume_spec import VolumeSpec

FIELDS = ("title", *CONCEPTS)
HEADINGS = ("Class", *CONCEPTS.values())
ROWS_SHOWN = 5
CLASS_WIDTH = 210
"""Pixels, so that the next column is seen to begin in a dock of usual width."""
SCROLL_BAR = 24
"""Pixels below the rows."""
ROOM = 10
"""Pixels that a line of text leaves free above and below, or on both sides."""
FILES = "Sheets of classes (*.csv *.json)"


class ClassesView(QWidget):
    """Shows what a 3D model is told of its classes; hidden for other models."""

    told = Signal(str)
    """What came of an import or export, in a sentence."""
    failed = Signal(object)
    """The exception."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._own: ClassSheet | None = None
        self._shown: tuple[ClassText, ...] = ()
        self._colors: tuple[str, ...] = ()
        self._make()
        self._lay_out()
        self.load.clicked.connect(self._on_load_clicked)
        self.save.clicked.connect(self._on_save_clicked)
        self.reset.clicked.connect(lambda: self.set_sheet(self._own))
        self.hide()

    def set_spec(self, spec: VolumeSpec | None) -> None:
        """Show the classes of another model, as its bundle words them."""
        self._own = None if spec is None else spec.sheet
        self._colors = () if spec is None else spec.colors
        self.set_sheet(self._own)
        self.setVisible(spec is not None)

    def set_sheet(self, sheet: ClassSheet | None) -> None:
        """Fill the table."""
        classes = self._shown = () if sheet is None else sheet.classes
        self.table.setRowCount(len(classes))
        for row, each in enumerate(classes):
            for column, text in enumerate(getattr(each, field) for field in FIELDS):
                item = QTableWidgetItem(text)
                item.setToolTip(each.called if each.called and not column else text)
                if column == 0:
                    color = QColor(self._colors[row])
                    item.setData(Qt.ItemDataRole.DecorationRole, color)
                self.table.setItem(row, column, item)
        self._fit_rows()

    def sheet(self) -> ClassSheet:
        """Return what the table says.

        Raises
        ------
        PromptError
            If a class has no name, or two have the same.
        """
        rows = [
            {name: self._text(row, column) for column, name in enumerate(FIELDS)}
            for row in range(self.table.rowCount())
        ]
        for texts, shown in zip(rows, self._shown, strict=True):
            if texts["title"] == shown.title:  # another title is another name
                texts["called"] = shown.called
        try:
            return ClassSheet(tuple(ClassText(**texts) for texts in rows))
        except ValueError as error:
            raise PromptError(str(error)) from error

    @property
    def class_texts(self) -> str:
        """What `SegmentConfig` takes: nothing if the words are the model's own."""
        if self._own is None:
            return ""
        sheet = self.sheet()
        return "" if sheet == self._own else class_sheet_text(sheet)

    def restore(self, text: str) -> None:
        """Show what an earlier session had, if it fits the model."""
        if not text or self._own is None:
            return
        sheet = parse_class_sheet(text)
        if len(sheet.classes) == len(self._own.classes):
            self.set_sheet(sheet)

    def import_from(self, path: Path) -> None:
        """Take the words of a sheet.

        Raises
        ------
        MedVLSegError
            If it cannot be read, or has another number of classes.
        """
        sheet = read_class_sheet(path)
        wanted = self.table.rowCount()
        if len(sheet.classes) != wanted:
            msg = (
                f"{path}: expected the model's {wanted} classes in their order, got "
                f"{len(sheet.classes)}"
            )
            raise PromptError(msg)
        self.set_sheet(sheet)
        self.told.emit(f"The classes are worded as in {path.name}.")

    def export_to(self, path: Path) -> None:
        """Write the table to a sheet; the dialog has asked before it replaces one.

        Raises
        ------
        MedVLSegError
            If a class has no name, or the disk refuses.
        """
        write_class_sheet(path, self.sheet(), overwrite=True)
        self.told.emit(f"The classes were written to {path}.")

    def _make(self) -> None:
        """Make the parts."""
        self.table = named(
            QTableWidget(0, len(FIELDS), self),
            "Classes in words",
            "What the model reads about each class; double-click a cell to edit it. "
            "Other words make it find no other structures",
        )
        self.table.setHorizontalHeaderLabels(list(HEADINGS))
        self.table.setTabKeyNavigation(False)  # the Tab key leaves the table
        header = self.table.horizontalHeader()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.resizeSection(0, CLASS_WIDTH)
            header.sectionResized.connect(self._fit_rows)
        self.table.itemChanged.connect(self._fit_rows)
        self.load = named(
            QPushButton("Import …", self),
            "Import classes",
            "Take a .csv or .json sheet",
        )
        self.save = named(
            QPushButton("Export …", self),
            "Export classes",
            "Write a .csv or .json sheet",
        )
        self.reset = named(
            QPushButton("Reset", self), "Reset classes", "Take the model's own words"
        )

    def _lay_out(self) -> None:
        """Put the buttons below the table."""
        buttons = QHBoxLayout()
        for button in (self.load, self.save, self.reset):
            buttons.addWidget(button)
        buttons.addStretch()
        label = QLabel("Classes in words", self)
        label.setBuddy(self.table)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(label)
        layout.addWidget(self.table)
        layout.addLayout(buttons)

    def _fit_rows(self) -> None:
        """Give each row the lines that its class's name takes, and the table theirs."""
        style, metrics = self.table.style(), self.table.fontMetrics()
        icon = 0
        if style is not None:
            icon = style.pixelMetric(QStyle.PixelMetric.PM_SmallIconSize)
        width = self.table.columnWidth(0) - icon - 2 * ROOM
        heights = [metrics.lineSpacing() + ROOM]  # of the headings
        for row in range(self.table.rowCount()):
            room = QRect(0, 0, max(1, width), 1)
            wrapped = Qt.TextFlag.TextWordWrap.value
            name = metrics.boundingRect(room, wrapped, self._text(row, 0))
            heights.append(name.height() + ROOM)
            self.table.setRowHeight(row, heights[-1])
        self.table.setFixedHeight(sum(heights[: ROWS_SHOWN + 1]) + SCROLL_BAR)

    def _text(self, row: int, column: int) -> str:
        """Return a cell."""
        item = self.table.item(row, column)
        return "" if item is None else " ".join(item.text().split())

    def _on_load_clicked(self) -> None:
        """Ask for a sheet and take it."""
        name, _ = QFileDialog.getOpenFileName(self, "Import classes", "", FILES)
        if name:
            self._try(self.import_from, Path(name))

    def _on_save_clicked(self) -> None:
        """Ask for a place and write a sheet there."""
        name, _ = QFileDialog.getSaveFileName(self, "Export classes", "", FILES)
        if name:
            self._try(self.export_to, Path(name))

    def _try(self, action: Callable[[Path], None], path: Path) -> None:
        """Do something with a file, and tell what the user can mend."""
        try:
            action(path)
        except MedVLSegError as error:
            self.failed.emit(error)
