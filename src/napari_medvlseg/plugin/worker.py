"""A run of the core on a thread: progress, preview, cancel, errors as values."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QThreadPool, Signal

from napari_medvlseg.plugin.findings import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.plugin.engine import StepsFunction
    from napari_medvlseg.plugin.findings import Findings
    from napari_medvlseg.plugin.layers import LayerCut

PREVIEW_PAUSE_S = 0.3
"""Least time between two previews after the first."""

CLOSE_WAIT_S = 10.0
POOL_WAIT_MS = 200


@dataclass(frozen=True, slots=True)
class Job:
    """What is run."""

    cut: LayerCut
    prompts: tuple[str, ...]
    model: str
    config: SegmentConfig


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """How far a run is; with a result where a preview is due.

    Parameters
    ----------
    job : Job
        The run.
    done, total : int
        Parts of its work; both are 0 when the model is loaded and work begins.
    elapsed_s, left_s : float
        Seconds of work, without loading; None where what is left is unknown.
    findings : Findings, optional
        The result so far, on the grid of the layer's kept axes.
    """

    job: Job
    done: int = 0
    total: int = 0
    elapsed_s: float = 0.0
    left_s: float | None = None
    findings: Findings | None = None

    @property
    def is_last(self) -> bool:
        """Whether the run is complete."""
        return 0 < self.total <= self.done


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """What ended a run."""

    job: Job
    error: Exception


def run_job(
    job: Job, steps: StepsFunction, drawn: threading.Event
) -> Iterator[Update | Failure]:
    """Yield the updates of a run; an error is the last of them.

    Parameters
    ----------
    job : Job
        What is run.
    steps : callable
        Runs the model.
    drawn : Event
        Set when the last preview is on the screen; no other is made before that.
    """
    try:
        import_module("pandas")  # napari's first layer would import it, on its thread
        running = steps(job.cut.read(), job.prompts, job.model, job.config)
        yield Update(job)
        clock = _Clock()
        for step in running:
            clock.tick(step.done, step.total)
            findings = None
            if step.done >= step.total or (drawn.is_set() and clock.preview_is_due):
                drawn.clear()
                findings = find(job.cut.paste(step.snapshot()))
                clock.previewed()
            yield Update(
                job, step.done, step.total, clock.elapsed_s, clock.left_s, findings
            )
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield Failure(job, error)


class _Clock:
    """Times a run: what is left of it, and when the next preview is due."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._previewed = -PREVIEW_PAUSE_S
        self._first: tuple[int, float] | None = None
        self.elapsed_s = 0.0
        self.left_s: float | None = None

    @property
    def preview_is_due(self) -> bool:
        """Whether the last preview is old enough; the first is due at once."""
        return self.elapsed_s - self._previewed >= PREVIEW_PAUSE_S

    def previewed(self) -> None:
        """Note that a preview was made."""
        self._previewed = time.monotonic() - self._begun

    def tick(self, done: int, total: int) -> None:
        """Note a step; the first one also prepares, so the later ones tell the pace."""
        self.elapsed_s = time.monotonic() - self._begun
        if self._first is None:
            self._first = (done, self.elapsed_s)
        first_done, first_s = self._first
        if done > first_done:
            pace = (self.elapsed_s - first_s) / (done - first_done)
            self.left_s = pace * (total - done)


class Runner(QObject):
    """Runs one job at a time on a thread of Qt's pool.

    A cancelled run says so at once; its thread ends at its next step and is not heard.
    """

    updated = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, steps: StepsFunction, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._steps = steps
        self._job: Job | None = None
        self._worker: Any = None
        self._threads: set[Any] = set()
        self._drawn = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether a job is under way."""
        return self._worker is not None

    @property
    def has_threads(self) -> bool:
        """Whether a thread is left, be it of a cancelled job."""
        return bool(self._threads)

    def start(self, job: Job) -> None:
        """Run a job; refused while another is under way."""
        if self.is_running:
            msg = "a run is under way"
            raise RuntimeError(msg)
        self._drawn = threading.Event()
        self._drawn.set()
        worker = create_worker(
            run_job, job, self._steps, self._drawn, _start_thread=False
        )
        worker.yielded.connect(self._on_yielded)
        worker.finished.connect(lambda *_: self._threads.discard(worker))
        self._job = job
        self._worker = worker
        self._threads.add(worker)
        worker.start()

    def acknowledge(self) -> None:
        """Say that the last preview is on the screen."""
        self._drawn.set()

    def cancel(self) -> None:
        """End the job under way, if there is one."""
        if self._worker is None:
            return
        self._worker.quit()
        self._worker = None
        self.cancelled.emit()

    def close(self) -> None:
        """End the job and wait for its thread, which a step may hold for a moment."""
        self._worker = None
        _end(self._threads)
        self._threads.clear()

    def _on_yielded(self, update: Update | Failure) -> None:
        """Pass on what the job under way says; a cancelled one is not heard."""
        if self._worker is None or update.job is not self._job:
            return
        if isinstance(update, Failure):
            self._worker = None
            self.failed.emit(update.error)
            return
        if update.is_last:
            self._worker = None
        self.updated.emit(update)


class LatestOnly(QObject):
    """Computes on a thread; of what is asked meanwhile only the last is computed."""

    computed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._next: Callable[[], Any] | None = None

    def ask(self, compute: Callable[[], Any]) -> None:
        """Compute now, or after what is being computed."""
        self._next = compute
        if self._worker is None:
            self._start()

    def close(self) -> None:
        """Drop what is asked, and wait for what is being computed."""
        self._next = None
        if self._worker is not None:
            _end({self._worker})

    def _start(self) -> None:
        """Compute what was asked last."""
        compute, self._next = self._next, None
        if compute is None:
            return
        self._worker = create_worker(compute, _start_thread=False)
        self._worker.returned.connect(self.computed)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def _on_finished(self) -> None:
        """Go on with what was asked meanwhile."""
        self._worker = None
        self._start()


def _end(workers: set[Any]) -> None:
    """Ask workers to quit and wait for their threads."""
    for worker in workers:
        worker.quit()
    until = time.monotonic() + CLOSE_WAIT_S
    while any(worker.is_running for worker in workers) and time.monotonic() < until:
        time.sleep(0.005)
    pool = QThreadPool.globalInstance()
    if workers and pool is not None:
        pool.waitForDone(POOL_WAIT_MS)  # the moment between its end and the pool's
