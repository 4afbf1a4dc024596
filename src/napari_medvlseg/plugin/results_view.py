"""Threshold, shown maps, legend and the values under the cursor."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.plugin.controls import NUMBER_WIDTH, named
from napari_medvlseg.plugin.result_layers import KINDS, MASK
from napari_medvlseg.plugin.result_style import STYLES, style_of

if TYPE_CHECKING:
    from napari_medvlseg.core.types import Segmentation
    from napari_medvlseg.plugin.findings import Finding, Findings
    from napari_medvlseg.plugin.settings import Settings

PERCENT = 100
THRESHOLD = 0.5
SHOWN = [MASK, "predictive_entropy"]
"""What is shown before anything was chosen."""
MAX_PROMPTS_UNDER_CURSOR = 4
BAR = (32, 8)
TELL_NEAREST_FROM = 0.1
"""Largest probability of what was not found: below that there is nothing to tell."""
NOTHING_UNDER_CURSOR = "Point at a result to read its values."

TIPS = {
    MASK: "What was found, one label a prompt",
    "probability": "Mean over the samples, 0 to 1",
    "predictive_entropy": "All uncertainty: the sum of the two below, in nats",
    "mutual_information": (
        "The model's own uncertainty: how much the samples disagree, in nats"
    ),
    "expected_entropy": (
        "The image's uncertainty: how undecided each sample is, in nats"
    ),
}


class ResultsView(QWidget):
    """Emits a new threshold or choice of maps; shows findings and values."""

    threshold_changed = Signal(float)
    shown_changed = Signal()

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._make_threshold()
        self.boxes = {kind: self._make_box(kind) for kind in KINDS}
        self.legend = QLabel(self)
        self.legend.setAccessibleName("Findings")
        self.legend.setWordWrap(True)
        self.legend.hide()
        self.read_out = QLabel(NOTHING_UNDER_CURSOR, self)
        self.read_out.setAccessibleName("Values under the cursor")
        self.read_out.setWordWrap(True)
        self.read_out.setAlignment(Qt.AlignmentFlag.AlignTop)
        line = self.read_out.fontMetrics().lineSpacing()
        self.read_out.setMinimumHeight(3 * line + 4)
        self._lay_out()
        self.slider.valueChanged.connect(self._on_slider_moved)
        self.threshold.valueChanged.connect(self._on_threshold_typed)

    @property
    def shown(self) -> set[str]:
        """The kinds of layers that the user wants to see."""
        return {kind for kind, box in self.boxes.items() if box.isChecked()}

    def set_threshold(self, threshold: float) -> None:
        """Show a result's threshold, without asking for it."""
        for control in (self.slider, self.threshold):
            control.blockSignals(True)  # noqa: FBT003 - Qt's signature
        self.slider.setValue(round(threshold * PERCENT))
        self.threshold.setValue(threshold)
        for control in (self.slider, self.threshold):
            control.blockSignals(False)  # noqa: FBT003 - Qt's signature

    def set_findings(self, findings: Findings | None) -> None:
        """Show each prompt's colour, name and size, or that it was not found."""
        lines = [_legend_line(one) for one in (findings.each if findings else ())]
        self.legend.setText("<br>".join(lines))
        self.legend.setVisible(bool(lines))
        # Classes that exclude one another go to the most probable one.
        has_threshold = findings is None or not findings.segmentation.exclusive
        for control in (self.slider, self.threshold):
            control.setEnabled(has_threshold)
        self._tell_limits(findings)

    def set_values(
        self, segmentation: Segmentation | None, voxel: tuple[int, ...] | None
    ) -> None:
        """Show label, probability and uncertainties of one voxel."""
        if segmentation is None or voxel is None:
            self.read_out.setText(NOTHING_UNDER_CURSOR)
            return
        self.read_out.setText(_values_text(segmentation, voxel))

    def remember(self) -> None:
        """Keep the choices for the next session."""
        self._settings.remember("threshold", self.threshold.value())
        self._settings.remember("shown", sorted(self.shown))

    def recall(self) -> None:
        """Set what the last session left."""
        self.set_threshold(self._settings.recall("threshold", THRESHOLD))
        shown = self._settings.recall("shown", SHOWN)
        for kind, box in self.boxes.items():
            box.setChecked(kind in shown)

    def _make_threshold(self) -> None:
        """Make the slider and the number, which agree."""
        tip = "Probability above which a pixel is labelled; changes the mask at once"
        self.slider = named(
            QSlider(Qt.Orientation.Horizontal, self), "Threshold, slider", tip
        )
        self.slider.setRange(0, PERCENT)
        self.threshold = named(QDoubleSpinBox(self), "Threshold", tip)
        self.threshold.setRange(0, 1)
        self.threshold.setFixedWidth(NUMBER_WIDTH)
        self.threshold.setSingleStep(0.05)
        self.set_threshold(self._settings.recall("threshold", THRESHOLD))

    def _make_box(self, kind: str) -> QCheckBox:
        """Make the check box of one kind of layer."""
        title = STYLES[kind].title if kind in STYLES else kind
        box = named(QCheckBox(title.capitalize(), self), f"Show {title}", TIPS[kind])
        box.setChecked(kind in self._settings.recall("shown", SHOWN))
        box.toggled.connect(self.shown_changed)
        return box

    def _lay_out(self) -> None:
        """Put the threshold above, then the maps with their colours, then text."""
        threshold_label = QLabel("Thresh&old", self)
        threshold_label.setBuddy(self.threshold)
        row = QHBoxLayout()
        row.addWidget(threshold_label)
        row.addWidget(self.slider, 1)
        row.addWidget(self.threshold)
        self._limits: dict[str, QLabel] = {}
        grid = QGridLayout()
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 1)
        for number, (kind, box) in enumerate(self.boxes.items()):
            grid.addWidget(box, number, 0)
            if kind in STYLES:
                grid.addWidget(self._color_bar(kind), number, 1)
                self._limits[kind] = QLabel(self)
                grid.addWidget(self._limits[kind], number, 2)
        self._tell_limits(None)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(grid)
        layout.addWidget(self.legend)
        layout.addWidget(self.read_out)

    def _tell_limits(self, findings: Findings | None) -> None:
        """Say where the colours of each map end in this result."""
        found = None if findings is None else findings.segmentation
        most = math.log(2) if found is None else found.max_entropy
        doubt = "a yes/no question: ln 2"
        if found is not None and found.exclusive:
            doubt = f"the classes and the background: ln {round(math.exp(most))}"
        for kind, label in self._limits.items():
            style = style_of(kind, most)
            label.setText(f"to {style.limit:.2g}{style.unit}")
            label.setToolTip(f"Complete doubt about {doubt}" if style.unit else "")

    def _color_bar(self, kind: str) -> QLabel:
        """Make a picture of a map's colours, from 0 to its limit."""
        width, height = BAR
        colors = ensure_colormap(STYLES[kind].colormap).map(np.linspace(0, 1, width))
        pixels = np.ascontiguousarray(
            np.tile((colors * 255).astype(np.uint8), (height, 1, 1))
        )
        image = QImage(
            pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888
        )
        bar = QLabel(self)
        bar.setPixmap(QPixmap.fromImage(image.copy()))
        bar.setAccessibleName(f"Colours of {STYLES[kind].title}")
        return bar

    def _on_slider_moved(self, percent: int) -> None:
        """Follow the slider."""
        self._set_and_tell(percent / PERCENT)

    def _on_threshold_typed(self, threshold: float) -> None:
        """Follow the number."""
        self._set_and_tell(threshold)

    def _set_and_tell(self, threshold: float) -> None:
        """Make both controls agree, and ask for the threshold."""
        self.set_threshold(threshold)
        self.threshold_changed.emit(threshold)


def _legend_line(finding: Finding) -> str:
    """Return one finding as rich text."""
    name = html.escape(finding.prompt)
    if not finding.is_present:
        nearest = ""
        if finding.max_probability >= TELL_NEAREST_FROM:
            nearest = f" (probability {finding.max_probability:.2f} at most)"
        return f"not found: <b>{name}</b>{nearest}"
    square = f'<span style="color: {finding.color}">■</span>'
    caution = " — <b>doubtful</b>, look closely" if finding.is_doubtful else ""
    if finding.side_warning:
        caution += f"<br>⚠ <b>Which side?</b> {html.escape(finding.side_warning)}"
    return f"{square} {name}: {finding.size}{caution}"


def _values_text(segmentation: Segmentation, voxel: tuple[int, ...]) -> str:
    """Return one voxel's values as rich text, the labelled prompt first."""
    label = int(segmentation.labels[voxel])
    order = sorted(
        range(len(segmentation.prompts)),
        key=lambda number: (
            number + 1 != label,
            -float(segmentation.probability[(number, *voxel)]),
        ),
    )
    lines = [f"<b>Label {label}</b>" if label else "<b>Background</b>"]
    for number in order[:MAX_PROMPTS_UNDER_CURSOR]:
        at = (number, *voxel)
        total, model, image = (
            # Rounding leaves zeros below zero.
            max(float(segmentation.map_of(name, number)[voxel]), 0.0)
            for name in ("predictive_entropy", "mutual_information", "expected_entropy")
        )
        lines.append(
            f"{html.escape(segmentation.prompts[number])}: "
            f"probability {segmentation.probability[at]:.2f}<br>"
            f"entropy {total:.2f} = mutual information {model:.2f} "
            f"+ expected {image:.2f} nats"
        )
    return "<br>".join(lines)
