"""Whether sampling may stop early, and how well the mean must be known by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QWidget

from napari_medvlseg.core.config import ADAPTIVE_TOLERANCE
from napari_medvlseg.plugin.controls import NUMBER_WIDTH, named

if TYPE_CHECKING:
    from napari_medvlseg.plugin.settings import Settings

LEAST = 0.001
MOST = 0.5
WIDTH = NUMBER_WIDTH + 12
"""Of a number with three digits behind the point, in pixels."""


class StoppingView(QWidget):
    """Adaptive sampling: off, or on with a tolerance."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.wanted = named(
            QCheckBox("Sto&p once sure to ±", self),
            "Stop sampling early",
            "Draw fewer samples where more would hardly change the answer: stop once "
            "the mean probability is known this well. Quicker; the result says how "
            "many were drawn",
        )
        self.tolerance = named(
            QDoubleSpinBox(self),
            "Tolerance of stopping early",
            "Standard error of the mean probability at which to stop, on average over "
            f"the pixels that are unclear. {ADAPTIVE_TOLERANCE:g} keeps the mask all "
            "but the same (DSC 0.999 with the bundled model, on average); larger is "
            "quicker and rougher",
        )
        self.tolerance.setDecimals(3)
        self.tolerance.setSingleStep(0.005)
        self.tolerance.setRange(LEAST, MOST)
        self.tolerance.setFixedWidth(WIDTH)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.wanted, 1)
        row.addWidget(self.tolerance)
        self.wanted.toggled.connect(self.tolerance.setEnabled)
        self.recall()

    def value(self) -> float:
        """Return the tolerance as `SegmentConfig.tolerance` takes it; 0 is off."""
        return self.tolerance.value() if self.wanted.isChecked() else 0.0

    def set_value(self, tolerance: float) -> None:
        """Choose a tolerance; 0 is off."""
        self.wanted.setChecked(tolerance > 0)
        if tolerance > 0:
            self.tolerance.setValue(tolerance)

    def remember(self) -> None:
        """Keep the choice for the next session."""
        self._settings.remember("stop_early", self.wanted.isChecked())
        self._settings.remember("tolerance", self.tolerance.value())

    def recall(self) -> None:
        """Set what the last session left."""
        tolerance = self._settings.recall("tolerance", ADAPTIVE_TOLERANCE)
        self.tolerance.setValue(tolerance)
        is_wanted = self._settings.recall("stop_early", default=False)
        self.set_value(tolerance if is_wanted else 0)
        self.tolerance.setEnabled(is_wanted)
