"""A model on its way, from the hub or from a file, in the background."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qtpy.QtCore import QObject, Signal

from napari_medvlseg.plugin.engine import load_torch_libraries, without_triton
from napari_medvlseg.plugin.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.checkpoints.fetch import FetchStep
    from napari_medvlseg.core.checkpoints.importing import Advance

CLOSE_WAIT_S = 10.0
PAUSE_S = 0.1
"""Least time between two steps that are told."""


class FetchFunction(Protocol):
    """What brings a model from the hub: its id -> steps."""

    def __call__(self, model_id: str, /) -> Iterator[FetchStep]:
        """Bring the model, lazily."""
        ...


class ImportChoice(NamedTuple):
    """A file to import, and how."""

    file: Path
    """A checkpoint, or a bundle's zip."""
    name: str | None = None
    """The model's id; None is what the file tells."""
    tokenizer: Path | None = None
    """Folder of the word pieces that no checkpoint holds; None is the hub's cache."""
    replace: bool = False
    """Whether an installed model of that name is replaced."""


class StepLike(Protocol):
    """How far a model is, in bytes; with its card once it is there."""

    @property
    def done(self) -> int:
        """Bytes that are there."""
        ...

    @property
    def total(self) -> int:
        """Bytes altogether."""
        ...

    @property
    def card(self) -> ModelCard | None:
        """The model's card, at the end."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One model to bring.

    Parameters
    ----------
    title : str
        What to call it meanwhile.
    bring : callable
        Brings it, lazily.
    is_import : bool
        Whether it comes from a file.
    """

    title: str
    bring: Callable[[], Iterator[StepLike]]
    is_import: bool = False


class ModelFetch(QObject):
    """Brings one model at a time on a thread.

    A cancelled one says so at once; its thread ends at its next step. What is there of
    a download stays, so that the next one goes on from it; of an import nothing does.
    """

    progressed = Signal(object)
    """A `StepLike`."""
    ended = Signal(object, object)
    """The task, and the error that ended it or None where the model is installed."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Worker | None = None
        self._next: Task | None = None
        self._stop = threading.Event()
        self.task: Task | None = None
        """What is brought now."""

    def start(self, task: Task) -> None:
        """Bring a model, after the thread of a cancelled one has ended."""
        self.task = task
        if self._worker is not None:
            self._next = task
            return
        self._stop = threading.Event()
        self._worker = Worker(partial(_values, task, self._stop))
        self._worker.yielded.connect(self._on_yielded)
        self._worker.ended.connect(self._on_thread_ended)
        self._worker.start()

    def cancel(self) -> None:
        """End it."""
        self.task = self._next = None
        self._stop.set()

    def close(self) -> None:
        """End it, and wait a moment for its thread."""
        self.cancel()
        if self._worker is not None:
            self._worker.wait(CLOSE_WAIT_S)

    def _on_yielded(self, value: tuple[Task, StepLike | Exception | None]) -> None:
        """Pass on what is wanted still."""
        task, told = value
        if task is not self.task or self._next is not None:
            return
        if told is None or isinstance(told, Exception):
            self.task = None
            self.ended.emit(task, told)
        else:
            self.progressed.emit(told)

    def _on_thread_ended(self) -> None:
        """Begin what was asked for meanwhile."""
        self._worker = None
        if self._next is not None:
            following, self._next = self._next, None
            self.start(following)


def from_hub(model_id: str) -> Iterator[FetchStep]:
    """Bring a released model from the hub."""
    from napari_medvlseg.core.checkpoints.fetch import fetch_model

    _importing()
    yield from fetch_model(model_id)


def from_file(choice: ImportChoice) -> Iterator[Advance]:
    """Bring a model from a file."""
    importing = _importing()
    how = importing.ImportOptions(
        name=choice.name, tokenizer=choice.tokenizer, overwrite=choice.replace
    )
    yield from importing.import_model(choice.file, how)


def _importing() -> Any:
    """Return the module that imports checkpoints; it brings torch."""
    load_torch_libraries()
    with without_triton():
        return import_module("napari_medvlseg.core.checkpoints.importing")


def _values(
    task: Task, stop: threading.Event
) -> Iterator[tuple[Task, StepLike | Exception | None]]:
    """Yield some steps, then what ended it; nothing once it is cancelled."""
    told = -math.inf
    try:
        for step in task.bring():
            if stop.is_set():
                return
            if step.card is not None or time.monotonic() - told >= PAUSE_S:
                told = time.monotonic()
                yield task, step
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield task, error
    else:
        yield task, None
