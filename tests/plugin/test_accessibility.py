"""The dock's controls: by keyboard, by name, and within napari's width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLabel,
    QScrollArea,
    QWidget,
)

if TYPE_CHECKING:
    from napari_medvlseg.plugin.segment_widget import SegmentWidget


def controls(dock: QWidget) -> list[QWidget]:
    """Return what the Tab key can reach."""
    return [
        widget
        for widget in dock.findChildren(QWidget)
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not widget.objectName().startswith("qt_")
        and not isinstance(widget.parent(), QAbstractButton)
        and type(widget).__module__.startswith(("PyQt", "napari_medvlseg"))
        and widget.focusProxy() is None
        and not _belongs_to_a_combo_box(widget)
    ]


def _belongs_to_a_combo_box(widget: QWidget) -> bool:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QComboBox):
        parent = parent.parentWidget()
    return parent is not None


def test_every_control_has_a_name_and_a_tooltip(dock: SegmentWidget) -> None:
    bare = [
        f"{type(widget).__name__} {widget.objectName()}"
        for widget in controls(dock)
        if not (widget.accessibleName() and widget.toolTip())
    ]
    assert bare == []
    assert len(controls(dock)) >= 15


def test_no_two_labels_share_a_letter(dock: SegmentWidget) -> None:
    texts = [label.text() for label in dock.findChildren(QLabel) if label.buddy()]
    texts += [button.text() for button in dock.findChildren(QAbstractButton)]
    letters = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
    assert len(letters) == len(set(letters)), sorted(letters)


def test_the_dock_fits_napari_s_width(dock: SegmentWidget) -> None:
    scroll = dock.findChild(QScrollArea)
    assert scroll is not None
    inside = scroll.widget()
    assert inside is not None
    dock.options.more.expand()
    assert inside.minimumSizeHint().width() <= 320


def test_what_is_told_is_never_greyed_out(dock: SegmentWidget) -> None:
    """Grey is for what cannot be used; as a colour of text it is too faint to read."""
    told = [label for label in dock.findChildren(QLabel) if label.text()]
    assert told
    assert all(label.isEnabled() for label in told)
