"""The box for the prompt: typing, suggestions and history; emits what to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.qt import get_current_stylesheet
from qtpy.QtCore import QPoint, QStringListModel, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence, QTextCursor
from qtpy.QtWidgets import (
    QCompleter,
    QGridLayout,
    QLabel,
    QMenu,
    QPlainTextEdit,
    QToolButton,
    QWidget,
)

from napari_medvlseg.plugin.controls import menu_button, named
from napari_medvlseg.plugin.history_view import HistoryView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_medvlseg.core.bundle import Concept
    from napari_medvlseg.plugin.settings import Settings

LINES = 3
BORDER = """
PromptEdit { border: 1px solid palette(mid); border-radius: 3px; padding: 2px; }
PromptEdit:focus { border: 1px solid palette(highlight); }
"""
MIN_TYPED = 2
ENTER_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
NEW_LINE = Qt.KeyboardModifier.ShiftModifier


class PromptEdit(QPlainTextEdit):
    """Text in which Enter runs and Shift+Enter begins a line; it completes lines."""

    run_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        self.set_example("a polyp in the upper left")
        height = self.fontMetrics().lineSpacing() * LINES + 14
        self.setFixedHeight(height)
        self.setStyleSheet(BORDER)
        self._known = QStringListModel(self)
        self._completer = QCompleter(self._known, self)
        self._completer.setWidget(self)
        self._completer.setFilterMode(Qt.MatchFlag.MatchContains)
        self._completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._completer.setMaxVisibleItems(8)
        self._completer.activated[str].connect(self.replace_line)

    @property
    def completer(self) -> QCompleter:
        """What suggests the rest of a line."""
        return self._completer

    def set_known(self, prompts: Iterable[str]) -> None:
        """Set what typing is completed to."""
        self._known.setStringList(list(dict.fromkeys(prompts)))

    def set_example(self, prompt: str) -> None:
        """Show a prompt where none is typed."""
        self.setPlaceholderText(f"For example: {prompt}")

    def replace_line(self, text: str) -> None:
        """Put a text in place of the line that the cursor is in."""
        cursor = self.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.StartOfBlock)
        cursor.movePosition(
            QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor
        )
        cursor.insertText(text)
        self.setTextCursor(cursor)

    def keyPressEvent(self, e: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Run on Enter, begin a line on Shift+Enter, complete what is typed."""
        if e is None:
            return
        popup = self._completer.popup()
        is_open = popup is not None and popup.isVisible()
        is_enter = e.key() in ENTER_KEYS
        if is_open and popup is not None and is_enter:
            if popup.currentIndex().isValid():
                e.ignore()  # the completer takes the line that is pointed at
                return
            popup.hide()
        if is_enter and not e.modifiers() & NEW_LINE:
            self.run_requested.emit()
            return
        super().keyPressEvent(e)
        if e.text().strip() or e.key() == Qt.Key.Key_Backspace:
            self._complete()

    def _complete(self) -> None:
        """Offer what contains the current line, below the cursor."""
        line = self.textCursor().block().text().strip()
        popup = self._completer.popup()
        if popup is None:
            return
        self._completer.setCompletionPrefix(line)
        if len(line) < MIN_TYPED or not self._offers(line):
            popup.hide()
            return
        if not popup.isVisible():  # a window of its own, which napari does not style
            popup.setStyleSheet(get_current_stylesheet())
        area = self.cursorRect()
        area.setLeft(0)
        area.setWidth(self.width())
        self._completer.complete(area)

    def _offers(self, line: str) -> bool:
        """Whether a completion says more than the line does."""
        count = self._completer.completionCount()
        return count > 1 or (count == 1 and self._completer.currentCompletion() != line)


class PromptView(QWidget):
    """The prompt with its label, the known concepts and the history."""

    run_requested = Signal()
    prompt_changed = Signal(str)

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._concepts: tuple[Concept, ...] = ()
        self.edit = named(
            PromptEdit(self),
            "Prompt",
            "What to look for, in words. Enter runs it; Shift+Enter begins a line, and "
            "each line becomes a label of its own.",
        )
        label = QLabel("Promp&t", self)
        label.setBuddy(self.edit)
        self.concepts_button = menu_button(
            "Co&ncepts", "What the chosen model knows, with a prompt for each", self
        )
        self.concepts_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(self.concepts_button)
        self._menu.setToolTipsVisible(True)
        self.concepts_button.setMenu(self._menu)
        self.history_button = menu_button(
            "Histor&y", "Earlier prompts, to search and to take again (Ctrl+Up)", self
        )
        self.history_button.setShortcut(QKeySequence("Ctrl+Up"))
        self.history = HistoryView(self)
        hint = QLabel("Enter runs · Shift+Enter: one more label", self)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.setColumnStretch(0, 1)
        layout.addWidget(label, 0, 0)
        layout.addWidget(self.concepts_button, 0, 1)
        layout.addWidget(self.history_button, 0, 2)
        layout.addWidget(self.edit, 1, 0, 1, 3)
        layout.addWidget(hint, 2, 0, 1, 3)
        self._connect()
        self._refresh_known()

    @property
    def text(self) -> str:
        """What is typed."""
        return self.edit.toPlainText()

    @property
    def prompts(self) -> tuple[str, ...]:
        """The lines that hold words, each once."""
        lines = (" ".join(line.split()) for line in self.text.splitlines())
        return tuple(dict.fromkeys(line for line in lines if line))

    def set_text(self, text: str) -> None:
        """Type a text in place of what is there."""
        self.edit.setPlainText(text)
        self.edit.moveCursor(QTextCursor.MoveOperation.End)

    def set_concepts(self, concepts: tuple[Concept, ...]) -> None:
        """Offer what a model knows."""
        self._concepts = concepts
        self._menu.clear()
        modality = None
        for concept in sorted(concepts, key=lambda known: known.modality):
            if concept.modality != modality:
                modality = concept.modality
                self._menu.addSection(modality)
            action = self._menu.addAction(concept.name)
            if action is not None:
                action.setToolTip(concept.example)
                action.setData(concept.example)
        self.concepts_button.setEnabled(bool(concepts))
        if concepts:
            self.edit.set_example(concepts[0].example)
        self._refresh_known()

    def remember(self) -> None:
        """Put what is typed into the history."""
        self._settings.add_to_history("\n".join(self.prompts))
        self._refresh_known()

    def open_history(self) -> None:
        """Show the earlier prompts."""
        below = self.history_button.mapToGlobal(QPoint(0, self.history_button.height()))
        left = below.x() + self.history_button.width() - self.history.width()
        self.history.open_at(QPoint(left, below.y()), self._settings.history())

    def _connect(self) -> None:
        """Wire the parts."""
        self.edit.run_requested.connect(self.run_requested)
        self.edit.textChanged.connect(lambda: self.prompt_changed.emit(self.text))
        self._menu.triggered.connect(self._on_concept_chosen)
        self.history_button.clicked.connect(self.open_history)
        self.history.prompt_chosen.connect(self._on_history_chosen)
        self.history.forget_requested.connect(self._on_forget_requested)

    def _on_concept_chosen(self, action: object) -> None:
        """Type the concept's example where the cursor is."""
        example = getattr(action, "data")()  # noqa: B009 - QAction differs by binding
        self.edit.replace_line(str(example))
        self.edit.setFocus()

    def _on_history_chosen(self, prompt: str) -> None:
        """Type an earlier prompt."""
        self.set_text(prompt)
        self.edit.setFocus()

    def _on_forget_requested(self, prompt: str | None) -> None:
        """Forget one earlier prompt, or all."""
        self._settings.forget_history(prompt)
        self._refresh_known()

    def _refresh_known(self) -> None:
        """Complete to earlier prompts, then to what the model knows."""
        known = [line for old in self._settings.history() for line in old.splitlines()]
        for concept in self._concepts:
            known += [concept.example, concept.name, *concept.synonyms]
        self.edit.set_known(known)
