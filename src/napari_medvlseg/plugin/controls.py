"""Controls that can be found by keyboard, screen reader and mouse alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QLabel, QToolButton, QWidget

if TYPE_CHECKING:
    from qtpy.QtWidgets import QGridLayout

NUMBER_WIDTH = 96
"""Of a number's box in pixels, with the buttons that napari's style draws."""

WidgetT = TypeVar("WidgetT", bound=QWidget)


def named(widget: WidgetT, name: str, tip: str) -> WidgetT:
    """Give a control the name that a screen reader says, and a tooltip."""
    widget.setAccessibleName(name)
    widget.setAccessibleDescription(tip)
    widget.setToolTip(tip)
    return widget


def menu_button(text: str, tip: str, parent: QWidget) -> QToolButton:
    """Make a small button with a text, which the Tab key reaches."""
    button = QToolButton(parent)
    button.setText(text)
    button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return named(button, text.replace("&", ""), tip)


def add_row(layout: QGridLayout, text: str, control: QWidget) -> QLabel:
    """Put a label with a mnemonic and its control into a new row of two columns."""
    row = layout.rowCount()
    label = QLabel(text)
    label.setBuddy(control)
    layout.addWidget(label, row, 0)
    layout.addWidget(control, row, 1)
    return label


def rule() -> QFrame:
    """Return a thin line between parts."""
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
