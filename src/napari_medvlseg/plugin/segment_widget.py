"""The dock widget *Segment*: views -> job -> session -> layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes
from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_medvlseg.core.bundle import list_models
from napari_medvlseg.core.errors import ImageError, MedVLSegError, PromptError
from napari_medvlseg.core.types import Prompt
from napari_medvlseg.plugin.classes_view import ClassesView
from napari_medvlseg.plugin.command import shell_command
from napari_medvlseg.plugin.controls import add_row, named, rule
from napari_medvlseg.plugin.engine import Engine
from napari_medvlseg.plugin.findings import drawn, hints
from napari_medvlseg.plugin.frame import LayerFrame
from napari_medvlseg.plugin.layer_chooser import LayerChooser
from napari_medvlseg.plugin.layer_file import command_path
from napari_medvlseg.plugin.layer_space import camera_of, extents, mirrored
from napari_medvlseg.plugin.layers import cut_layer
from napari_medvlseg.plugin.options_view import OptionsView
from napari_medvlseg.plugin.orientation_marks import OrientationMarks
from napari_medvlseg.plugin.prompt_view import PromptView
from napari_medvlseg.plugin.region import region_layer
from napari_medvlseg.plugin.result_layers import KEY, Result, is_result
from napari_medvlseg.plugin.results_view import ResultsView
from napari_medvlseg.plugin.run_view import RunView, time_left
from napari_medvlseg.plugin.session import Session
from napari_medvlseg.plugin.settings import Settings
from napari_medvlseg.plugin.volume_ask import job_of
from napari_medvlseg.plugin.workspace_actions import Controls, WorkspaceActions
from napari_medvlseg.plugin.workspace_view import WorkspaceView

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari.viewer
    from qtpy.QtGui import QShowEvent

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.plugin.engine import StepsFunction
    from napari_medvlseg.plugin.findings import Findings
    from napari_medvlseg.plugin.worker import Job, Update

MARGIN = 6


class SegmentWidget(QWidget):
    """Type what to look for; get a mask and how sure it is, as layers.

    Parameters
    ----------
    napari_viewer : Viewer
        Where images come from and results go.
    steps : callable, optional
        Runs a model; by default the core, which is imported at the first run.
    models : sequence of ModelCard, optional
        What can be chosen; by default the models that are installed.
    settings : Settings, optional
        What is remembered; by default in the user's own settings file.
    """

    run_ended = Signal(bool)
    """Whether the run is complete."""

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        *,
        steps: StepsFunction | None = None,
        models: Sequence[ModelCard] | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._engine = Engine()
        self.session = Session(napari_viewer.layers, steps or self._engine)
        self._make_views(settings or Settings())
        self._lay_out()
        self._connect()
        self._set_models(models)
        self._on_image_changed()
        self._on_shown_changed()
        self.session.threshold = self.results.threshold.value()

    def run(self) -> None:
        """Segment what the controls say; what is wrong is told, not raised."""
        if self.session.is_running:
            self.progress.say("A run is under way: wait for it, or cancel it first.")
            return
        try:
            job = self.job()
        except MedVLSegError as error:
            self._tell_error(error)
            return
        image = self.image.layer
        result = Result(self._viewer.layers, job, LayerFrame.of(image))
        self.prompt.remember()
        self.options.remember()
        self.results.remember()
        self.session.replaces = not self.options.keeps_old
        self.progress.set_busy(f"Loading {self.options.model.currentText()} …")
        self.session.start(job, result, image)

    def cancel(self) -> None:
        """End the run; its layers so far stay."""
        self.session.cancel()

    def job(self) -> Job:
        """Return what the controls say.

        Raises
        ------
        ImageError
            If no image is chosen, or the region misses it.
        PromptError
            If no prompt is typed, or one cannot be used.
        CheckpointError
            If the chosen model is not installed.
        """
        if self.image.layer is None:
            msg = "expected an image, none is open; open one, for instance with "
            raise ImageError(msg + "File > Open Sample")
        if not self.prompt.prompts:
            msg = "expected a prompt in words, got an empty one; type what to look for"
            raise PromptError(msg)
        card = self.options.models.usable_card()
        cut = cut_layer(
            self.image.layer,
            self._viewer.dims,
            whole=self.options.is_whole,
            region=self.region.layer,
            colour=self.options.colour,
            mirrored=mirrored(camera_of(self._viewer)),
        )
        prompts = [Prompt(text).text for text in self.prompt.prompts]
        config = self.options.config(self.results.threshold.value())
        texts = self.classes.class_texts
        return job_of(cut, card, prompts, replace(config, class_texts=texts))

    def copy_command(self) -> None:
        """Put the shell command of what the controls say on the clipboard."""
        try:
            job, layer = self.job(), self.image.layer
            command = shell_command(job, command_path(layer), layer.metadata.get(KEY))
        except MedVLSegError as error:
            self._tell_error(error)
            return
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(command)
        self.progress.say(f"Copied: {command}")

    def draw_region(self) -> None:
        """Add a Shapes layer to draw a rectangle in, and choose it."""
        layer = region_layer(self.image.layer)
        self._viewer.add_layer(layer)
        layer.mode = "add_rectangle"
        self.region.choose(layer)
        self.progress.say("Draw a rectangle on the image, then Run.")

    def showEvent(self, a0: QShowEvent | None) -> None:  # Qt's name
        """Watch the window that the dock is in, to end the run when it is closed."""
        super().showEvent(a0)
        self._keep_wide_enough()
        self.marks.attach(self)
        window = self.window()
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # Qt's name
        """End the run when the window is closed, which hides it."""
        if (
            a1 is not None
            and a1.type() == QEvent.Type.Hide
            and not a1.spontaneous()
            and a0 is self.window()
        ):
            self.session.stop()
        return super().eventFilter(a0, a1)

    def _make_views(self, settings: Settings) -> None:
        """Make the parts."""
        layers = self._viewer.layers
        self.image = named(
            LayerChooser(
                layers,
                lambda layer: isinstance(layer, Image) and not is_result(layer),
            ),
            "Image",
            "The Image layer that is segmented",
        )
        self.region = named(
            LayerChooser(
                layers, lambda layer: isinstance(layer, Shapes), "Whole image"
            ),
            "Region of interest",
            "A Shapes layer whose selected shapes (all if none is selected) bound the "
            "run; nothing is found outside",
        )
        self.draw = named(
            QPushButton("Draw"),
            "Draw a region of interest",
            "Add a Shapes layer and draw a rectangle that bounds the run",
        )
        self.prompt = PromptView(settings, self)
        self.options = OptionsView(settings, self)
        self.progress = RunView(self)
        self.results = ResultsView(settings, self)
        self.marks = OrientationMarks(self._viewer, self.options.marks.isChecked)
        self.copy = named(
            QPushButton("Copy as command"),
            "Copy as command",
            "Copy the shell command that does the same",
        )
        self.workspace = WorkspaceView(settings, self)
        self.classes = ClassesView(self)
        self.classes.told.connect(self.progress.say)
        self.classes.failed.connect(self._tell_error)
        controls = Controls(
            self.prompt, self.options, self.results, self.classes, settings
        )
        self._actions = WorkspaceActions(
            self._viewer, self.session, self.workspace, controls
        )

    def _lay_out(self) -> None:
        """Stack the parts in the order of work, in a frame that scrolls."""
        region = QHBoxLayout()
        region.addWidget(self.region, 1)
        region.addWidget(self.draw)
        holder = QWidget()
        region.setContentsMargins(0, 0, 0, 0)
        holder.setLayout(region)
        label = add_row(self.options.more_grid, "Region", holder)
        label.setBuddy(self.region)
        top = QGridLayout()
        top.setColumnStretch(1, 1)
        add_row(top, "&Image", self.image)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        column.addLayout(top)
        parts = (self.prompt, self.options, self.classes, self.progress)
        for part in (*parts, rule(), self.results):
            column.addWidget(part)
        column.addWidget(self.copy)
        column.addWidget(self.workspace)
        column.addStretch()
        self._scroll = scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(inside)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)

    def _keep_wide_enough(self) -> None:
        """Let nothing be cut off on the right; napari's style has widths of its own."""
        inside, bar = self._scroll.widget(), self._scroll.verticalScrollBar()
        if inside is not None and bar is not None:
            width = inside.minimumSizeHint().width() + bar.sizeHint().width()
            self._scroll.setMinimumWidth(width)

    def _connect(self) -> None:
        """Wire the parts, the session and the viewer."""
        session = self.session
        self.image.layer_changed.connect(self._on_image_changed)
        self.draw.clicked.connect(self.draw_region)
        self.prompt.run_requested.connect(self.run)
        self.options.model_changed.connect(self._on_model_changed)
        self.options.marks_toggled.connect(self.marks.refresh)
        self.progress.run_requested.connect(self.run)
        self.progress.cancel_requested.connect(self.cancel)
        self.progress.add_escape(self)
        self.copy.clicked.connect(self.copy_command)
        self._actions.connect_to(
            self.progress.say, self._on_failed, self._on_shown_changed
        )
        self.results.threshold_changed.connect(session.set_threshold)
        self.results.shown_changed.connect(self._on_shown_changed)
        session.progressed.connect(self._on_progressed)
        session.refined.connect(self._on_refined)
        session.completed.connect(self._on_completed)
        session.cancelled.connect(self._on_cancelled)
        session.failed.connect(self._on_failed)
        viewer = self._viewer
        session.follow(viewer.cursor.events.position, self._on_cursor_moved)
        session.follow(viewer.dims.events.current_step, self._on_cursor_moved)
        session.follow(viewer.layers.selection.events.active, self._on_active_changed)
        session.follow(viewer.layers.events.removed, self._on_active_changed)
        session.at_stop += [self._engine.close, self.options.models.close_download]
        session.at_leave += [
            self.image.disconnect_layers,
            self.region.disconnect_layers,
            self.marks.detach,
        ]
        self.destroyed.connect(session.leave)
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(session.stop)

    def _set_models(self, models: Sequence[ModelCard] | None) -> None:
        """Offer the models that are there."""
        try:
            self.options.set_models(list_models() if models is None else models)
        except MedVLSegError as error:
            self._tell_error(error)

    def _on_image_changed(self, _layer: object = None) -> None:
        """Offer slice or volume only where there is a choice."""
        self.options.set_extents(**extents(self.image.layer))

    def _on_model_changed(self, card: ModelCard | None) -> None:
        """Offer what the model knows."""
        self.prompt.set_concepts(card.concepts if card else ())
        self.classes.set_spec(card.volume if card else None)

    def _on_shown_changed(self) -> None:
        """Show and hide layers."""
        self.session.set_shown(frozenset(self.results.shown))
        self.results.remember()

    def _on_progressed(self, update: Update) -> None:
        """Show how far the run is."""
        if update.total:
            self.progress.set_progress(update.done, update.total, update.left_s)
        else:
            self.progress.set_busy("Running …")

    def _on_refined(self, findings: Findings) -> None:
        """Show what is on the screen now."""
        self.results.set_findings(findings)
        self._on_cursor_moved()

    def _on_completed(self, update: Update) -> None:
        """Say what was found, and clearly what was not."""
        absent = update.findings.absent if update.findings else ()
        samples = drawn(update.findings, update.job.config.num_samples)
        text = f"Done: {samples} in {time_left(update.elapsed_s)}."
        if absent:
            missing = "Not found: " + ", ".join(absent) + "."
            text = f"{missing} {text}"
            show_info(missing)
        told = hints(update.findings, update.job.hints)
        self.progress.set_idle(" ".join([text, *told]))
        self.run_ended.emit(True)  # noqa: FBT003 - a Qt signal has no keywords

    def _on_cancelled(self, why: str) -> None:
        """Say that the run is over, and what is left of it."""
        if self._engine.can_go_on:
            why = f"{why} Run goes on from the finished slices."
        self.progress.set_idle(why)
        self.run_ended.emit(False)  # noqa: FBT003 - a Qt signal has no keywords

    def _on_failed(self, error: Exception) -> None:
        """Tell what the user can mend in a sentence; give a bug its traceback."""
        if isinstance(error, MedVLSegError):
            self._tell_error(error)
        else:
            kind = type(error).__name__
            self.progress.set_idle(f"The run failed: {kind}: {error}")
            notification_manager.receive_error(type(error), error, error.__traceback__)
        self.run_ended.emit(False)  # noqa: FBT003 - a Qt signal has no keywords

    def _tell_error(self, error: MedVLSegError) -> None:
        """Say in one sentence what to do, in the dock and as a notification."""
        sentence = str(error)
        self.progress.set_idle(sentence[:1].upper() + sentence[1:] + ".")
        show_error(sentence)

    def _on_cursor_moved(self, _event: Any = None) -> None:
        """Read the result under the cursor."""
        position = tuple(float(place) for place in self._viewer.cursor.position)
        self.results.set_values(*self.session.under_cursor(position))

    def _on_active_changed(self, _event: Any = None) -> None:
        """Show findings and threshold of the result whose layer is chosen."""
        result = self.session.current
        self.results.set_findings(None if result is None else result.findings)
        if result is not None and result.segmentation is not None:
            self.session.threshold = result.segmentation.threshold
            self.results.set_threshold(result.segmentation.threshold)
