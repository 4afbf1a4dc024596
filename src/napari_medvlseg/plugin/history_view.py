"""A pop-up list of the prompts that were run, with a line to search in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QPoint, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.plugin.controls import named

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 300
HEIGHT = 260


class HistoryView(QFrame):
    """Search, choose and forget earlier prompts; emits what was chosen."""

    prompt_chosen = Signal(str)
    forget_requested = Signal(object)
    """One prompt, or None for all of them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.resize(WIDTH, HEIGHT)
        self._search = named(
            QLineEdit(self),
            "Search in the prompt history",
            "Words that the earlier prompt contains; the arrow keys walk the list",
        )
        self._search.setPlaceholderText("Search earlier prompts")
        self._search.setClearButtonEnabled(True)
        self._list = named(
            QListWidget(self),
            "Earlier prompts",
            "Enter or a click takes one; Delete forgets it",
        )
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._clear = named(
            QPushButton("Forget all", self),
            "Forget all earlier prompts",
            "Empty the history for good",
        )
        self._clear.setAutoDefault(False)
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        """Put the search above the list."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self._search)
        layout.addWidget(self._list)
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(self._clear)
        layout.addLayout(row)

    def _connect(self) -> None:
        """Wire the parts."""
        self._search.textChanged.connect(self._filter)
        self._search.returnPressed.connect(self._choose_current)
        self._search.installEventFilter(self)
        self._list.installEventFilter(self)
        self._list.itemClicked.connect(self._choose_current)
        self._clear.clicked.connect(self._forget_all)

    def open_at(self, position: QPoint, prompts: Sequence[str]) -> None:
        """Show the prompts, newest first, with the search line ready for typing."""
        self._list.clear()
        for prompt in prompts:
            self._list.addItem(prompt.replace("\n", "  /  "))
            item = self._list.item(self._list.count() - 1)
            if item is not None:
                item.setData(Qt.ItemDataRole.UserRole, prompt)
                item.setToolTip(prompt)
        self._search.clear()
        self._filter("")
        self._clear.setEnabled(bool(prompts))
        self.move(position)
        self.show()
        self._search.setFocus()

    def visible_prompts(self) -> list[str]:
        """Return what the search leaves."""
        items = [self._list.item(row) for row in range(self._list.count())]
        return [
            str(item.data(Qt.ItemDataRole.UserRole))
            for item in items
            if item is not None and not item.isHidden()
        ]

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Let the arrow keys walk the list from the search line; Delete forgets."""
        if isinstance(a1, QKeyEvent) and a1.type() == QEvent.Type.KeyPress:
            key = a1.key()
            arrows = (Qt.Key.Key_Down, Qt.Key.Key_Up)
            if a0 is self._search and key in arrows:
                self._step(1 if key == Qt.Key.Key_Down else -1)
                return True
            if a0 is self._list and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._choose_current()
                return True
            if a0 is self._list and key == Qt.Key.Key_Delete:
                self._forget_current()
                return True
        return super().eventFilter(a0, a1)

    def _filter(self, text: str) -> None:
        """Hide what lacks a searched word, and point at the first that is left."""
        words = text.casefold().split()
        first = -1
        for row in range(self._list.count()):
            item = self._list.item(row)
            if item is None:
                continue
            prompt = item.text().casefold()
            item.setHidden(not all(word in prompt for word in words))
            if first < 0 and not item.isHidden():
                first = row
        self._list.setCurrentRow(first)

    def _step(self, by: int) -> None:
        """Point at the next prompt that the search leaves."""
        row = self._list.currentRow() + by
        while 0 <= row < self._list.count():
            item = self._list.item(row)
            if item is not None and not item.isHidden():
                self._list.setCurrentRow(row)
                return
            row += by

    def _choose_current(self) -> None:
        """Hand out the prompt that is pointed at, and close."""
        item = self._list.currentItem()
        if item is not None and not item.isHidden():
            self.hide()
            self.prompt_chosen.emit(str(item.data(Qt.ItemDataRole.UserRole)))

    def _forget_current(self) -> None:
        """Take the prompt that is pointed at out of the history."""
        item = self._list.takeItem(self._list.currentRow())
        if item is not None:
            self.forget_requested.emit(str(item.data(Qt.ItemDataRole.UserRole)))

    def _forget_all(self) -> None:
        """Empty the history."""
        self._list.clear()
        self.hide()
        self.forget_requested.emit(None)
