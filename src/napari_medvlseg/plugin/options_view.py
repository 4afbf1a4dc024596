"""Model, samples, extent, device and the rarer choices; builds the core's config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_medvlseg.core.config import (
    DEVICES,
    MAX_SAMPLES,
    MAX_SMOOTHING,
    TILINGS,
    SegmentConfig,
)
from napari_medvlseg.plugin.controls import NUMBER_WIDTH, add_row, named
from napari_medvlseg.plugin.intensity_view import IntensityView
from napari_medvlseg.plugin.model_view import ModelView
from napari_medvlseg.plugin.stopping_view import StoppingView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.plugin.settings import Settings

DEVICE_TEXTS = {
    "auto": "Automatic",
    "cpu": "CPU",
    "cuda": "CUDA (NVIDIA)",
    "mps": "MPS (Apple)",
}
TILING_TEXTS = {
    "auto": "As the model advises",
    "whole": "Whole image, resized",
    "tile": "Overlapping tiles",
}


class OptionsView(QWidget):
    """How a run is made; remembers the choices between sessions."""

    model_changed = Signal(object)
    marks_toggled = Signal(bool)
    """Whether the letters at the edges of the canvas are wanted."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._colour_axis: int | None = None
        self._had_slice = False  # before a 3D model was chosen
        self.models = ModelView(parent=self)
        self.model, self.summary = self.models.chooser, self.models.summary
        self._make_samples()
        self._make_extent()
        self._make_rarer()
        self._lay_out()
        self.recall()
        self.models.model_changed.connect(self._fit_to_model)
        self.models.model_changed.connect(self.model_changed)
        self.marks.toggled.connect(self._on_marks_toggled)

    @property
    def card(self) -> ModelCard | None:
        """The chosen model's card; None where it is not there."""
        return self.models.card

    @property
    def takes_volumes(self) -> bool:
        """Whether the chosen model segments whole volumes, and nothing else."""
        return self.card is not None and self.card.volume is not None

    @property
    def is_whole(self) -> bool:
        """Whether the whole volume is meant, and not the slice that is shown."""
        return self.whole.isEnabled() and self.whole.isChecked()

    @property
    def colour(self) -> int | None:
        """The axis of the layer that is taken for its colours, if that is chosen."""
        return self._colour_axis if self.colours.isChecked() else None

    @property
    def keeps_old(self) -> bool:
        """Whether a run with the same prompt leaves the earlier result alone."""
        return not self.replace.isChecked()

    def config(self, threshold: float) -> SegmentConfig:
        """Return what the controls say."""
        if self.takes_volumes:  # which have no tiles, windows of grey or slices
            return SegmentConfig(
                num_samples=self.samples.value(),
                tolerance=self.stopping.value(),
                threshold=threshold,
                device=str(self.device.currentData()),
            )
        return SegmentConfig(
            num_samples=self.samples.value(),
            tolerance=self.stopping.value(),
            threshold=threshold,
            device=str(self.device.currentData()),
            tiling=str(self.tiling.currentData()),
            intensity=self.intensity.value(),
            smooth_slices=self.smoothing.value(),
        )

    def set_models(self, cards: Sequence[ModelCard]) -> None:
        """Offer models; the remembered one is chosen if it is among them."""
        self.models.set_models(cards, self._settings.recall("model", "compact"))

    def set_extents(
        self, *, has_slices: bool, colour: int | None, is_photograph: bool
    ) -> None:
        """Offer what there is to choose, and choose colour for a photograph."""
        self._colour_axis = colour
        self.whole.setEnabled(has_slices)
        self.models.set_is_volume(has_slices)
        self._fit_to_model()
        self.colours.setVisible(colour is not None)
        if is_photograph:
            self.colours.setChecked(True)
        elif self.colours.isChecked():
            self.slice.setChecked(True)

    def _fit_to_model(self, _card: object = None) -> None:
        """Offer the choices that the model heeds; a 3D one takes the whole volume."""
        has_slices, is_3d = self.whole.isEnabled(), self.takes_volumes
        self.slice.setEnabled(
            (has_slices or self._colour_axis is not None) and not (is_3d and has_slices)
        )
        if is_3d and has_slices:
            self._had_slice = self._had_slice or self.slice.isChecked()
            self.whole.setChecked(True)
        elif self._had_slice:
            self._had_slice = False
            self.slice.setChecked(True)
        self.smoothing.setEnabled(has_slices and not is_3d)
        self.tiling.setEnabled(not is_3d)

    def remember(self) -> None:
        """Keep the choices for the next session."""
        self._settings.remember("samples", self.samples.value())
        self._settings.remember("device", str(self.device.currentData()))
        self._settings.remember("tiling", str(self.tiling.currentData()))
        self._settings.remember("smoothing", self.smoothing.value())
        self.stopping.remember()
        self.intensity.remember()
        if not self.colours.isChecked() and not self.takes_volumes:
            self._settings.remember("whole", self.whole.isChecked())
        self._settings.remember("replace", self.replace.isChecked())
        if self.card is not None:
            self._settings.remember("model", self.card.model_id)

    def _make_samples(self) -> None:
        """Make the slider and the number of samples, which agree."""
        tip = (
            f"Monte Carlo draws, 1 to {MAX_SAMPLES}: more of them make the maps of "
            "uncertainty smoother and take longer"
        )
        self.samples = named(QSpinBox(self), "Number of samples", tip)
        self.samples.setRange(1, MAX_SAMPLES)
        self.samples.setFixedWidth(NUMBER_WIDTH)
        self.samples_slider = named(
            QSlider(Qt.Orientation.Horizontal, self), "Number of samples, slider", tip
        )
        self.samples_slider.setRange(1, MAX_SAMPLES)
        self.samples.valueChanged.connect(self.samples_slider.setValue)
        self.samples_slider.valueChanged.connect(self.samples.setValue)
        self.stopping = StoppingView(self._settings, self)

    def _make_extent(self) -> None:
        """Make the choice between a slice and the volume."""
        self.slice = named(
            QRadioButton("This slic&e", self),
            "This slice",
            "Segment the slice that the viewer shows; the result lies on that slice",
        )
        self.whole = named(
            QRadioButton("Whole vol&ume", self),
            "Whole volume",
            "Segment every slice of the volume or film, one after the other",
        )
        self.colours = named(
            QRadioButton("Channels as colour", self),
            "Channels as colour",
            "Take the 3 or 4 channels for red, green and blue: one picture, one result "
            "for all of them",
        )
        self.colours.hide()
        self._extent = QButtonGroup(self)
        for button in (self.slice, self.whole, self.colours):
            self._extent.addButton(button)

    def _make_rarer(self) -> None:
        """Make the choices that are folded away."""
        self.device = named(
            QComboBox(self), "Device", "Where the model computes; auto takes a GPU"
        )
        for device in DEVICES:
            self.device.addItem(DEVICE_TEXTS[device], device)
        self.tiling = named(
            QComboBox(self),
            "Tiling",
            "How a large image meets the model: resized whole, or in overlapping tiles "
            "at full detail",
        )
        for tiling in TILINGS:
            self.tiling.addItem(TILING_TEXTS[tiling], tiling)
        self.smoothing = named(
            QDoubleSpinBox(self),
            "Smoothing across slices",
            "Of a whole volume: how far the answers of neighbouring slices are "
            "averaged, as a standard deviation in mm (in slices where the image does "
            "not tell its spacing)",
        )
        self.smoothing.setRange(0, MAX_SMOOTHING)
        self.smoothing.setSingleStep(0.5)
        self.smoothing.setDecimals(1)
        self.smoothing.setSpecialValueText("off")
        self.replace = named(
            QCheckBox("Repl&ace the last result", self),
            "Replace the last result of this prompt",
            "Off: an earlier result of the same prompt stays, and the new layers get a "
            "number",
        )
        self.marks = named(
            QCheckBox("&Letters at the edges (R L A P S I)", self),
            "Orientation marks",
            "Show which side of the patient each edge of the canvas is, for images "
            "whose place in the patient is known",
        )

    def _lay_out(self) -> None:
        """Put the common choices above and fold the rarer ones below."""
        samples = QHBoxLayout()
        samples.addWidget(self.samples_slider, 1)
        samples.addWidget(self.samples)
        samples_label = QLabel("&Samples", self)
        samples_label.setBuddy(self.samples)
        extent = QHBoxLayout()
        extent.addWidget(self.slice)
        extent.addWidget(self.whole)
        extent.addStretch()
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        add_row(grid, "&Model", self.model)
        grid.addWidget(self.models, grid.rowCount(), 0, 1, 2)
        row = grid.rowCount()
        grid.addWidget(samples_label, row, 0)
        grid.addLayout(samples, row, 1)
        grid.addWidget(self.stopping, row + 1, 0, 1, 2)
        grid.addWidget(QLabel("Extent", self), row + 2, 0)
        grid.addLayout(extent, row + 2, 1)
        grid.addWidget(self.colours, row + 3, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid)
        layout.addWidget(self._fold())

    def _fold(self) -> QWidget:
        """Return the rarer choices, folded away."""
        self.more = QCollapsible("More options", self)
        self.more.setDuration(0)
        named(
            self.more.toggleButton(),
            "More options",
            "Device, tiling, grey values, smoothing and region",
        )
        inside = QWidget(self.more)
        self.more_grid = QGridLayout(inside)
        self.more_grid.setContentsMargins(0, 0, 0, 0)
        self.more_grid.setColumnStretch(1, 1)
        add_row(self.more_grid, "&Device", self.device)
        add_row(self.more_grid, "Tilin&g", self.tiling)
        self.intensity = IntensityView(self.more_grid, self._settings, inside)
        add_row(self.more_grid, "Smoot&hing", self.smoothing)
        for box in (self.replace, self.marks):
            self.more_grid.addWidget(box, self.more_grid.rowCount(), 0, 1, 2)
        self.more.addWidget(inside)
        return self.more

    def recall(self) -> None:
        """Set what the last session left."""
        recall = self._settings.recall
        default = SegmentConfig()
        self.samples.setValue(recall("samples", default.num_samples))
        self.stopping.recall()
        self.intensity.recall()
        device = self.device.findData(recall("device", default.device))
        self.device.setCurrentIndex(max(device, 0))
        tiling = self.tiling.findData(recall("tiling", default.tiling))
        self.tiling.setCurrentIndex(max(tiling, 0))
        self.smoothing.setValue(recall("smoothing", default.smooth_slices))
        whole = recall("whole", default=False)
        self.whole.setChecked(whole)
        self.slice.setChecked(not whole)
        self.replace.setChecked(recall("replace", default=False))
        model = self.model.findData(recall("model", "compact"))
        if model >= 0:
            self.model.setCurrentIndex(model)
        self.marks.setChecked(recall("orientation_marks", default=True))

    def _on_marks_toggled(self, is_wanted: bool) -> None:  # noqa: FBT001 - Qt's
        """Keep the choice at once: it belongs to the canvas, not to a run."""
        self._settings.remember("orientation_marks", is_wanted)
        self.marks_toggled.emit(is_wanted)
