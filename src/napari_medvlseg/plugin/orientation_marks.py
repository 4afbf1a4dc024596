"""Letters at the edges of the canvas: which side of the patient is where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import QEvent, QObject, QRect, Qt, QTimer
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QMainWindow, QWidget

from napari_medvlseg.core.orientation import EdgeLetters, edge_letters
from napari_medvlseg.plugin.layer_space import (
    camera_of,
    mirrored,
    screen_to_patient,
)
from napari_medvlseg.plugin.result_layers import is_result

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.components
    import napari.viewer
    from qtpy.QtGui import QPaintEvent

POINTS = 15
OUTLINE = 3.0
GAP = 6
"""Pixels between a letter and its edge."""
EDGES = ("left", "right", "top", "bottom")
MOVES = ("visible", "scale", "translate", "rotate", "shear", "affine")
"""Events of a layer after which the letters may be others."""


def letters_for(
    layers: napari.components.LayerList,
    dims: napari.components.Dims,
    camera: napari.components.Camera,
) -> EdgeLetters | None:
    """Return the letters of what napari shows now.

    There are none in 3D, where no Image layer is shown, where the topmost of them that
    is no result has an unknown place in the patient, or where two that are known
    disagree.
    """
    shown = [one for one in layers if isinstance(one, Image) and one.visible]
    opened = [layer for layer in shown if not is_result(layer)]
    if dims.ndisplay != 2 or not shown:
        return None
    if opened and screen_to_patient(opened[-1], dims) is None:
        return None
    found = {_letters(layer, dims, mirrored(camera)) for layer in shown} - {None}
    return found.pop() if len(found) == 1 else None


def _letters(
    layer: Any, dims: napari.components.Dims, flips: tuple[bool, bool]
) -> EdgeLetters | None:
    """Return the letters of one layer."""
    directions = screen_to_patient(layer, dims)
    if directions is None:
        return None
    upward, leftward = flips
    right, down = directions.T
    return edge_letters(-right if leftward else right, -down if upward else down)


class OrientationMarks(QObject):
    """Keeps four letters on the canvas up to date.

    They are widgets on napari's canvas, as its welcome page is: napari's own overlays
    are not open to plugins. They let the mouse through.

    Parameters
    ----------
    viewer : Viewer
    is_wanted : callable
        Whether the user wants to see them.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, is_wanted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._is_wanted = is_wanted
        self._canvas: QWidget | None = None
        self.labels: dict[str, EdgeLabel] = {}
        self._leave: list[Callable[[], None]] = []
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self.refresh)

    def attach(self, dock: QWidget) -> None:
        """Begin, on the canvas of the window that a dock belongs to."""
        if self._canvas is not None:
            return
        self._canvas = canvas = find_canvas(dock)
        if canvas is None:
            return
        self.labels = {edge: EdgeLabel(canvas) for edge in EDGES}
        canvas.installEventFilter(self)
        canvas.destroyed.connect(self._on_canvas_gone)
        viewer = self._viewer
        for emitter in (
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            viewer.dims.events.ndim,
            camera_of(viewer).events.orientation,
            viewer.layers.events.reordered,
        ):
            self._follow(emitter, self._refresh_soon)
        self._follow(viewer.layers.events.inserted, self._on_inserted)
        self._follow(viewer.layers.events.removed, self._on_removed)
        for layer in viewer.layers:
            self._watch(layer)
        self.refresh()

    def detach(self) -> None:
        """End: follow nothing more and take the letters away."""
        self._soon.stop()
        if self._leave:
            for layer in self._viewer.layers:
                self._unwatch(layer)
        while self._leave:
            self._leave.pop()()
        self._canvas = None
        for label in self.labels.values():
            label.deleteLater()
        self.labels = {}

    def refresh(self, _is_wanted: object = None) -> None:
        """Show the letters of what is on the screen, or none."""
        if not self.labels:
            return
        viewer = self._viewer
        letters = None
        if self._is_wanted():
            letters = letters_for(viewer.layers, viewer.dims, camera_of(viewer))
        for edge, label in self.labels.items():
            label.set_text("" if letters is None else getattr(letters, edge))
        self._place()

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Keep the letters at the edges when the canvas changes its size."""
        if a1 is not None and a1.type() == QEvent.Type.Resize:
            self._place()
        return super().eventFilter(a0, a1)

    def _on_canvas_gone(self) -> None:
        """Forget the letters, which went with the canvas."""
        self._canvas = None
        self.labels = {}

    def _place(self) -> None:
        """Put each letter at the middle of its edge."""
        if self._canvas is None:
            return
        inside = self._canvas.rect().adjusted(GAP, GAP, -GAP, -GAP)
        for edge, label in self.labels.items():
            place = QRect(label.rect())
            place.moveCenter(inside.center())
            if edge in ("left", "right"):
                move = place.moveLeft if edge == "left" else place.moveRight
                move(inside.left() if edge == "left" else inside.right())
            else:
                move = place.moveTop if edge == "top" else place.moveBottom
                move(inside.top() if edge == "top" else inside.bottom())
            label.move(place.topLeft())

    def _follow(self, emitter: Any, callback: Callable[..., None]) -> None:
        """Connect a callback until the end."""
        emitter.connect(callback)
        self._leave.append(partial(emitter.disconnect, callback))

    def _watch(self, layer: Any) -> None:
        """Follow what moves a layer."""
        for name in MOVES:
            getattr(layer.events, name).connect(self._refresh_soon)

    def _unwatch(self, layer: Any) -> None:
        """Follow a layer no more."""
        for name in MOVES:
            getattr(layer.events, name).disconnect(self._refresh_soon)

    def _on_inserted(self, event: Any) -> None:
        """Follow a new layer."""
        self._watch(event.value)
        self._refresh_soon()

    def _on_removed(self, event: Any) -> None:
        """Follow a layer no more."""
        self._unwatch(event.value)
        self._refresh_soon()

    def _refresh_soon(self, _event: object = None) -> None:
        """Refresh once after all that happens in this turn of the event loop."""
        self._soon.start()


class EdgeLabel(QWidget):
    """White letters with a dark outline, to be read on dark and on bright images."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = ""
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        font = QFont(self.font())
        font.setPointSize(POINTS)
        font.setBold(True)
        self.setFont(font)
        self.hide()

    def set_text(self, text: str) -> None:
        """Show letters; hide where there are none."""
        if text == self.text:
            return
        self.text = text
        self.setAccessibleName(text)
        metrics = QFontMetrics(self.font())
        margin = round(2 * OUTLINE)
        self.resize(metrics.horizontalAdvance(text) + margin, metrics.height() + margin)
        self.setVisible(bool(text))
        self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the outline, then the letters."""
        super().paintEvent(a0)
        path = QPainterPath()
        metrics = QFontMetrics(self.font())
        path.addText(OUTLINE, OUTLINE + metrics.ascent(), self.font(), self.text)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(QColor("black"), OUTLINE)
        pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        painter.strokePath(path, pen)
        painter.fillPath(path, QColor("white"))
        painter.end()


def find_canvas(dock: QWidget) -> QWidget | None:
    """Return the widget that napari draws in, in the window of a dock."""
    window: QWidget | None = dock
    while window is not None and not isinstance(window, QMainWindow):
        window = window.parentWidget()
    centre = window.centralWidget() if isinstance(window, QMainWindow) else None
    if centre is None:
        return None
    drawn = (one for one in centre.findChildren(QWidget) if one.inherits(OPENGL))
    return next(drawn, None)


OPENGL = "QOpenGLWidget"
"""Qt's name for what napari's canvas is."""
