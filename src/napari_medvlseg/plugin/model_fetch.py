"""A released model on its way from the hub, in the background."""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from qtpy.QtCore import QObject, Signal

from napari_medvlseg.plugin.engine import load_torch_libraries, without_triton
from napari_medvlseg.plugin.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.checkpoints.fetch import FetchStep

CLOSE_WAIT_S = 10.0
PAUSE_S = 0.1
"""Least time between two steps that are told."""


class FetchFunction(Protocol):
    """What brings a model: its id -> steps."""

    def __call__(self, model_id: str, /) -> Iterator[FetchStep]:
        """Bring the model, lazily."""
        ...


class ModelFetch(QObject):
    """Fetches one model at a time on a thread.

    A cancelled one says so at once; its thread ends at its next step, and what is there
    of the download stays, so that the next one goes on from it.
    """

    progressed = Signal(object)
    """A `FetchStep`."""
    ended = Signal(object)
    """The error that ended it, or None where the model is installed."""

    def __init__(
        self, fetch: FetchFunction | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._fetch = fetch or _from_hub
        self._worker: Worker | None = None
        self._next: str | None = None
        self._stop = threading.Event()
        self.model_id: str | None = None
        """What is fetched now."""

    def start(self, model_id: str) -> None:
        """Fetch a model, after the thread of a cancelled one has ended."""
        self.model_id = model_id
        if self._worker is not None:
            self._next = model_id
            return
        self._stop = threading.Event()
        self._worker = Worker(partial(_values, self._fetch, model_id, self._stop))
        self._worker.yielded.connect(self._on_yielded)
        self._worker.ended.connect(self._on_thread_ended)
        self._worker.start()

    def cancel(self) -> None:
        """End it."""
        self.model_id = self._next = None
        self._stop.set()

    def close(self) -> None:
        """End it, and wait a moment for its thread."""
        self.cancel()
        if self._worker is not None:
            self._worker.wait(CLOSE_WAIT_S)

    def _on_yielded(self, value: tuple[str, FetchStep | Exception | None]) -> None:
        """Pass on what is wanted still."""
        model_id, told = value
        if model_id != self.model_id or self._next is not None:
            return
        if told is None or isinstance(told, Exception):
            self.model_id = None
            self.ended.emit(told)
        else:
            self.progressed.emit(told)

    def _on_thread_ended(self) -> None:
        """Begin what was asked for meanwhile."""
        self._worker = None
        if self._next is not None:
            following, self._next = self._next, None
            self.start(following)


def _from_hub(model_id: str) -> Iterator[FetchStep]:
    """Fetch a model from the hub."""
    from napari_medvlseg.core.checkpoints.fetch import fetch_model

    load_torch_libraries()
    with without_triton():
        import_module("napari_medvlseg.core.checkpoints.importing")  # brings torch
    return fetch_model(model_id)


def _values(
    fetch: FetchFunction, model_id: str, stop: threading.Event
) -> Iterator[tuple[str, FetchStep | Exception | None]]:
    """Yield some steps of a fetch, then what ended it; nothing once it is cancelled."""
    told = -math.inf
    try:
        for step in fetch(model_id):
            if stop.is_set():
                return
            if step.card is not None or time.monotonic() - told >= PAUSE_S:
                told = time.monotonic()
                yield model_id, step
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield model_id, error
    else:
        yield model_id, None
