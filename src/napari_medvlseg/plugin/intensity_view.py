"""Which grey values become black and white: by name, or a window of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QWidget,
)

from napari_medvlseg.core.windows import SCALINGS, WINDOWS
from napari_medvlseg.plugin.controls import NUMBER_WIDTH, add_row, named

if TYPE_CHECKING:
    from napari_medvlseg.plugin.settings import Settings

SCALING_TEXTS = {
    "auto": "As the model advises",
    "percentile": "By percentiles",
    "zscore": "By z-score (MR)",
}
OWN = "own"
"""The choice of a window by level and width."""
FARTHEST = 100_000.0


class IntensityView:
    """The controls of the grey values, in rows of a grid that they share with others.

    Parameters
    ----------
    grid : QGridLayout
        Gets the rows.
    settings : Settings
        Remembers the choice.
    parent : QWidget
    """

    def __init__(self, grid: QGridLayout, settings: Settings, parent: QWidget) -> None:
        self._settings = settings
        self.choice = named(
            QComboBox(parent),
            "Grey values",
            "Which grey values the model sees as black and white; for CT choose the "
            "window of the tissue",
        )
        for scaling in SCALINGS:
            self.choice.addItem(SCALING_TEXTS[scaling], scaling)
        for name in WINDOWS:
            self.choice.addItem(f"CT {name.replace('-', ' ')}", name)
        self.choice.addItem("Own level and width", OWN)
        self.level = self._number(
            parent, "Level of the window", "The grey value (HU in CT) in the middle"
        )
        self.level.setMinimum(-FARTHEST)
        self.width = self._number(
            parent, "Width of the window", "From black to white, in grey values (HU)"
        )
        self.width.setMinimum(0.01)
        add_row(grid, "Grey &values", self.choice)
        self._add_window(grid, parent)
        self.recall()
        self.choice.currentIndexChanged.connect(self._on_chosen)
        self._on_chosen()

    def value(self) -> str:
        """Return the choice as `SegmentConfig.intensity` takes it."""
        name = str(self.choice.currentData())
        if name != OWN:
            return name
        return f"L{self.level.value():g}W{self.width.value():g}"

    def remember(self) -> None:
        """Keep the choice for the next session."""
        self._settings.remember("intensity", str(self.choice.currentData()))
        self._settings.remember("window_level", self.level.value())
        self._settings.remember("window_width", self.width.value())

    def _number(self, parent: QWidget, name: str, tip: str) -> QDoubleSpinBox:
        """Make a box for a grey value."""
        box = named(QDoubleSpinBox(parent), name, tip)
        box.setMaximum(FARTHEST)
        box.setSingleStep(10)
        box.setFixedWidth(NUMBER_WIDTH)
        return box

    def _add_window(self, grid: QGridLayout, parent: QWidget) -> None:
        """Add the row that is only there for a window of one's own."""
        self._numbers = QWidget(parent)
        row = QHBoxLayout(self._numbers)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.level)
        row.addWidget(self.width)
        row.addStretch()
        self._label: QLabel = add_row(grid, "Level, &width", self._numbers)
        self._label.setBuddy(self.level)

    def recall(self) -> None:
        """Set what the last session left."""
        chosen = self.choice.findData(self._settings.recall("intensity", "auto"))
        self.choice.setCurrentIndex(max(chosen, 0))
        window = WINDOWS["soft-tissue"]
        level, width = float(window.level), float(window.width)
        self.level.setValue(self._settings.recall("window_level", level))
        self.width.setValue(self._settings.recall("window_width", width))

    def _on_chosen(self, _index: int = 0) -> None:
        """Show level and width where they count."""
        is_own = self.choice.currentData() == OWN
        self._numbers.setVisible(is_own)
        self._label.setVisible(is_own)
