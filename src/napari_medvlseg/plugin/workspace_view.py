"""Save and open a working session: two buttons, their dialogs and their threads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QWidget,
)

from napari_medvlseg.core.io.workspace import (
    is_same_image,
    load_workspace,
    save_workspace,
)
from napari_medvlseg.plugin.controls import named
from napari_medvlseg.plugin.settings import FOLDER
from napari_medvlseg.plugin.worker import CLOSE_WAIT_S, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medvlseg.core.io.workspace import SavedImage, Workspace
    from napari_medvlseg.plugin.settings import Settings

DEFAULT_NAME = "medvlseg-session"


class WorkspaceView(QWidget):
    """Asks where a session goes or lies; reads and writes it on a thread."""

    save_requested = Signal(object)
    """A folder was chosen to save in."""
    opened = Signal(object)
    """A `Workspace` was read, and where its images are now."""
    told = Signal(str)
    """What came of it, in a sentence."""
    failed = Signal(object)
    """The exception."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._worker: Worker | None = None
        self.save = named(
            QPushButton("Save session …", self),
            "Save session",
            "Keep images (by reference), prompts, results, corrections and settings in "
            "a folder",
        )
        self.open = named(
            QPushButton("Open session …", self),
            "Open session",
            "Go on with a session that was saved",
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.save)
        row.addWidget(self.open)
        self.save.clicked.connect(self._ask_where_to_save)
        self.open.clicked.connect(self._ask_what_to_open)

    def save_to(self, folder: Path, workspace: Workspace) -> None:
        """Write a session; says when it is there."""
        self._begin(partial(_save, folder, workspace), self._on_saved, folder)

    def open_from(self, folder: Path) -> None:
        """Read a session, and ask for the images that are not where they were."""
        self._begin(partial(_load, folder), self._on_loaded, folder)

    def close_threads(self) -> None:
        """Wait for what is being read or written."""
        if self._worker is not None:
            self._worker.wait(CLOSE_WAIT_S)
            self._worker = None

    def _begin(
        self,
        work: Callable[[], Iterator[Any]],
        then: Callable[[Path, Any], None],
        folder: Path,
    ) -> None:
        """Work on a thread; an error is heard as a value."""
        self.close_threads()
        self.setEnabled(False)
        self._worker = Worker(work)
        self._worker.yielded.connect(partial(self._on_yielded, then, folder))
        self._worker.start()

    def _on_yielded(
        self, then: Callable[[Path, Any], None], folder: Path, value: Any
    ) -> None:
        """Go on with what came of it."""
        self.setEnabled(True)
        if isinstance(value, Exception):
            self.failed.emit(value)
            return
        self._settings.remember(FOLDER, str(folder))
        then(folder, value)

    def _on_saved(self, folder: Path, _value: object) -> None:
        """Say where it is."""
        self.told.emit(f"Session saved: {folder}")

    def _on_loaded(self, _folder: Path, workspace: Workspace) -> None:
        """Ask for what is not in its place, and hand all of it out."""
        paths = [self._locate(image) for image in workspace.images]
        self.opened.emit((workspace, paths))

    def _locate(self, image: SavedImage) -> Path | None:
        """Return where an image is now; ask, if it is not where it was."""
        path = image.path
        if path is None or is_same_image(path, image):
            return path
        return self.ask_for(image)

    def ask_for(self, image: SavedImage) -> Path | None:
        """Ask where an image is; None if the user does without it."""
        path = image.path
        if path is None:
            return None
        title = f"Where is {path.name} now?"
        is_folder = "files" in image.fingerprint
        while True:
            if is_folder:
                chosen = QFileDialog.getExistingDirectory(self, title, str(path.parent))
            else:
                chosen = QFileDialog.getOpenFileName(self, title, str(path.parent))[0]
            if not chosen:
                return None
            if is_same_image(Path(chosen), image) or self._is_meant(chosen, image):
                return Path(chosen)

    def _is_meant(self, chosen: str, image: SavedImage) -> bool:
        """Ask whether a file that has changed, or is another, is to be taken."""
        answer = QMessageBox.question(
            self,
            "Another image?",
            f"{chosen} is not the file that {image.name!r} was read from, or it has "
            "changed since. Open it all the same?",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _ask_where_to_save(self) -> None:
        """Ask for the name of a folder."""
        before = self._settings.recall(FOLDER, str(Path.home() / DEFAULT_NAME))
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Save session as a folder",
            before,
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if chosen:
            self.save_requested.emit(Path(chosen))

    def _ask_what_to_open(self) -> None:
        """Ask for a session's folder."""
        before = self._settings.recall(FOLDER, str(Path.home()))
        chosen = QFileDialog.getExistingDirectory(self, "Open session", before)
        if chosen:
            self.open_from(Path(chosen))


def _save(folder: Path, workspace: Workspace) -> Iterator[Any]:
    """Write; a worker iterates over this."""
    try:
        save_workspace(folder, workspace)
        yield None
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield error


def _load(folder: Path) -> Iterator[Any]:
    """Read; a worker iterates over this."""
    try:
        yield load_workspace(folder)
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield error
