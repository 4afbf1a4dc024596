"""Run, Cancel, how far it is and what came of it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.plugin.controls import named

HEIGHT_OF_BAR = 8


class RunView(QWidget):
    """Emits what the user wants done, shows what is being done."""

    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run = named(
            QPushButton("&Run", self), "Run", "Segment the image (Enter in the prompt)"
        )
        self.cancel = named(
            QPushButton("&Cancel", self),
            "Cancel",
            "Stop the run; what is there so far stays (Esc)",
        )
        self.bar = named(QProgressBar(self), "Progress", "How much of the run is done")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(HEIGHT_OF_BAR)
        self.status = QLabel(self)
        self.status.setAccessibleName("Status")
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        row = QHBoxLayout()
        row.addWidget(self.run, 2)
        row.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self.run.clicked.connect(self.run_requested)
        self.cancel.clicked.connect(self.cancel_requested)
        self.set_idle("Type what to look for, then Run.")

    def add_escape(self, owner: QWidget) -> None:
        """Let Esc cancel from anywhere in a widget."""
        escape = QShortcut(QKeySequence(Qt.Key.Key_Escape), owner)
        escape.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        escape.activated.connect(self.cancel_requested)

    def set_busy(self, text: str) -> None:
        """Show that a run has begun, with no measure of it yet."""
        self.run.setEnabled(False)
        self.cancel.setEnabled(True)
        self.bar.setRange(0, 0)
        self.say(text)

    def set_progress(self, done: int, total: int, left_s: float | None) -> None:
        """Show how far the run is."""
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        left = "" if left_s is None else f" · {time_left(left_s)} left"
        self.say(f"Step {done} of {total}{left}")

    def set_idle(self, text: str) -> None:
        """Show that nothing runs, and what came of the last run."""
        self.run.setEnabled(True)
        self.cancel.setEnabled(False)
        self.bar.setRange(0, 1)
        self.bar.setValue(0)
        self.say(text)

    def say(self, text: str) -> None:
        """Show one sentence."""
        self.status.setText(text)
        self.status.setAccessibleDescription(text)


def time_left(seconds: float) -> str:
    """Return a time as a person says it.

    >>> time_left(3.2), time_left(100), time_left(7300)
    ('4 s', '1 min 40 s', '2 h 1 min')
    """
    whole = int(-(-seconds // 1))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
