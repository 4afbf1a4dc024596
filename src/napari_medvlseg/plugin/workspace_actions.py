"""Saving and opening a session: between its buttons, the viewer and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_medvlseg.plugin.own_layers import add_own_layers
from napari_medvlseg.plugin.workspace import (
    apply_view,
    gather,
    open_images,
    restored_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari.viewer

    from napari_medvlseg.core.io.workspace import Workspace
    from napari_medvlseg.plugin.classes_view import ClassesView
    from napari_medvlseg.plugin.options_view import OptionsView
    from napari_medvlseg.plugin.prompt_view import PromptView
    from napari_medvlseg.plugin.results_view import ResultsView
    from napari_medvlseg.plugin.session import Session
    from napari_medvlseg.plugin.settings import Settings
    from napari_medvlseg.plugin.workspace_view import WorkspaceView


@dataclass(frozen=True, slots=True)
class Controls:
    """The parts of the dock whose state belongs to a session."""

    prompt: PromptView
    options: OptionsView
    results: ResultsView
    classes: ClassesView
    settings: Settings

    def told(self) -> dict[str, Any]:
        """Return what is typed and chosen, ready for JSON."""
        self.options.remember()
        self.results.remember()
        return {
            "prompt": self.prompt.text,
            "choices": self.settings.choices(),
            "class_texts": self.classes.class_texts,
        }

    def restore(self, told: dict[str, Any]) -> None:
        """Type and choose what a session tells."""
        self.settings.restore(told["choices"])
        self.options.recall()
        self.results.recall()
        self.prompt.set_text(str(told["prompt"]))
        self.classes.restore(str(told.get("class_texts", "")))


class WorkspaceActions(QObject):
    """Does what the buttons of a `WorkspaceView` ask for."""

    told = Signal(str)
    """What came of it, in a sentence."""
    failed = Signal(object)
    """The exception."""
    restored = Signal()
    """A session is on the screen, but for its results' layers."""

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        session: Session,
        view: WorkspaceView,
        controls: Controls,
    ) -> None:
        super().__init__(view)
        self._viewer = viewer
        self._session = session
        self._view = view
        self._controls = controls
        view.save_requested.connect(self.save)
        view.opened.connect(self._on_opened)
        view.told.connect(self.told)
        view.failed.connect(self.failed)
        session.adopted.connect(self._on_adopted)
        session.at_stop.append(view.close_threads)

    def connect_to(
        self,
        say: Callable[[str], None],
        fail: Callable[[Exception], None],
        refresh: Callable[[], None],
    ) -> None:
        """Connect what tells a sentence, what tells an error, what shows layers."""
        self.told.connect(say)
        self.failed.connect(fail)
        self.restored.connect(refresh)

    def save(self, folder: Path) -> None:
        """Keep what is open; what runs is left out until it is done."""
        try:
            workspace = gather(
                self._viewer, self._session.results, self._controls.told()
            )
        except OSError as error:  # an image's file went away
            self.failed.emit(error)
            return
        self.told.emit(f"Saving the session in {folder} …")
        self._view.save_to(folder, workspace)

    def _on_opened(self, found: tuple[Workspace, list[Path | None]]) -> None:
        """Show a session beside what is open."""
        workspace, paths = found
        try:
            layers = open_images(self._viewer, workspace.images, paths)
            self._controls.restore(dict(workspace.controls))
            results = [
                restored_result(
                    self._viewer,
                    saved,
                    workspace.images[saved.image],
                    layers[saved.image],
                )
                for saved in workspace.results
            ]
            add_own_layers(self._viewer, workspace.layers)
        except Exception as error:  # noqa: BLE001 - a reader of napari's may raise any
            self.failed.emit(error)
            return
        self._session.threshold = self._controls.results.threshold.value()
        for result, saved in zip(results, workspace.results, strict=True):
            complete = bool(saved.job["complete"])
            self._session.adopt(
                result, saved.segmentation, saved.edited, complete=complete
            )
        apply_view(self._viewer, workspace.view)
        self.restored.emit()
        self.told.emit(_summary(workspace, layers))

    def _on_adopted(self) -> None:
        """Show the threshold of the result that is in front."""
        result = self._session.current
        if result is not None and result.segmentation is not None:
            self._session.threshold = result.segmentation.threshold
            self._controls.results.set_threshold(result.segmentation.threshold)


def _summary(workspace: Workspace, layers: list[Any]) -> str:
    """Say what was opened, and what is not there."""
    pairs = zip(workspace.images, layers, strict=True)
    missing = [image.name for image, layer in pairs if layer is None]
    parts = [
        _count(len(layers) - len(missing), "image"),
        _count(len(workspace.results), "result"),
    ]
    if workspace.layers:
        parts.append(_count(len(workspace.layers), "layer") + " of your own")
    text = f"Session opened: {', '.join(parts)}."
    if missing:
        text += f" Not there: {', '.join(missing)}; results are shown without it."
    return text


def _count(number: int, noun: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
