"""A combo box of the viewer's layers of one kind, which follows the layer list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.components

WIDEST_TEXT = 6


class LayerChooser(QComboBox):
    """Choose one layer of the viewer.

    Parameters
    ----------
    layers : LayerList
        The viewer's.
    accepts : callable
        Whether a layer is offered.
    nothing : str, optional
        Text of a first entry that stands for no layer; without one there is none.
    """

    layer_changed = Signal(object)

    def __init__(
        self,
        layers: napari.components.LayerList,
        accepts: Callable[[Any], bool],
        nothing: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._layers = layers
        self._accepts = accepts
        self._nothing = nothing
        self._offered: list[Any] = []
        self.setMinimumContentsLength(WIDEST_TEXT)
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layers.events.inserted.connect(self._on_inserted)
        layers.events.removed.connect(self._on_removed)
        layers.events.reordered.connect(self.refresh)
        for layer in layers:
            layer.events.name.connect(self.refresh)
        self.currentIndexChanged.connect(
            lambda _: self.layer_changed.emit(self.layer),
        )
        self.refresh()

    @property
    def layer(self) -> Any:
        """The layer that is chosen, or None."""
        number = self.currentIndex()
        return self._offered[number] if 0 <= number < len(self._offered) else None

    def choose(self, layer: object) -> None:
        """Choose a layer, if it is offered."""
        for number, offered in enumerate(self._offered):
            if offered == layer:  # napari may wrap a layer for plugins
                self.setCurrentIndex(number)

    def disconnect_layers(self) -> None:
        """Follow the layer list no more."""
        self._layers.events.inserted.disconnect(self._on_inserted)
        self._layers.events.removed.disconnect(self._on_removed)
        self._layers.events.reordered.disconnect(self.refresh)
        for layer in self._layers:
            layer.events.name.disconnect(self.refresh)

    def refresh(self, _event: object = None) -> None:
        """Offer what the layer list holds now, and keep the choice."""
        before = self.layer
        offered = [layer for layer in self._layers if self._accepts(layer)]
        blocked = self.blockSignals(True)  # noqa: FBT003 - Qt's signature
        self.clear()
        self._offered = [None, *offered] if self._nothing is not None else offered
        for layer in self._offered:
            self.addItem(self._nothing if layer is None else str(layer.name))
        self.choose(before)
        self.blockSignals(blocked)
        if self.layer != before:
            self.layer_changed.emit(self.layer)

    def _on_inserted(self, event: Any) -> None:
        """Offer a new layer, and choose it: it is what the user just opened."""
        layer = event.value
        layer.events.name.connect(self.refresh)
        self.refresh()
        if self._nothing is None:
            self.choose(layer)

    def _on_removed(self, event: Any) -> None:
        """Offer a layer no more."""
        event.value.events.name.disconnect(self.refresh)
        self.refresh()
