"""A run of the core on a thread: progress, preview, cancel, errors as values."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_medvlseg.plugin.findings import find
from napari_medvlseg.plugin.layers import MAPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.plugin.engine import StepsFunction
    from napari_medvlseg.plugin.findings import Findings
    from napari_medvlseg.plugin.layers import LayerCut

PREVIEW_PAUSE_S = 0.3
"""Least time between two previews after the first."""

PAUSE_PER_COST = 4
"""And so many times what a preview costs, so that previews stay a fifth of a run..."""

LONGEST_PAUSE_S = 10.0
"""... but not longer than this."""

CLOSE_WAIT_S = 10.0
PROBABILITY = "probability"
"""The map that each of several classes has of its own."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is run."""

    cut: LayerCut
    prompts: tuple[str, ...]
    model: str
    config: SegmentConfig
    colors: tuple[str, ...] = ()
    """Of the labels, where the model's classes have colours of their own."""
    exclusive: bool = False
    """Whether the prompts are classes that exclude one another and share entropies."""
    max_entropy: float = math.log(2)
    """Nats: where the colours of the entropies end."""
    hints: tuple[str, ...] = ()
    """What to tell about how the prompts were read."""

    @property
    def maps(self) -> list[tuple[str, int]]:
        """The maps of the result, each with the number of its prompt."""
        return [
            (kind, number)
            for number in range(len(self.prompts))
            for kind in MAPS
            if number == 0 or not self._is_shared(kind)
        ]

    def prompts_of(self, kind: str, number: int) -> tuple[str, ...]:
        """Return the prompts that a map tells about."""
        return self.prompts if self._is_shared(kind) else (self.prompts[number],)

    def _is_shared(self, kind: str) -> bool:
        """Whether there is one map of a kind for all prompts."""
        return self.exclusive and kind != PROBABILITY


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
    job: Job, steps: StepsFunction, screen: Screen
) -> Iterator[Update | Failure]:
    """Yield the updates of a run; an error is the last of them.

    Parameters
    ----------
    job : Job
        What is run.
    steps : callable
        Runs the model.
    screen : Screen
        Says when the next preview is due.
    """
    try:
        running = steps(job.cut.read(), job.prompts, job.model, job.config)
        yield Update(job)
        clock = _Clock()
        for step in running:
            clock.tick(step.done, step.total)
            findings = None
            if step.done >= step.total or screen.is_due:
                screen.begin()
                findings = find(job.cut.paste(step.snapshot()))
            yield Update(
                job, step.done, step.total, clock.elapsed_s, clock.left_s, findings
            )
    except Exception as error:  # noqa: BLE001 - crosses to the main thread as a value
        yield Failure(job, error)


class Screen:
    """Paces previews: one at a time, and the dearer they are the fewer."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._next = 0.0
        self._is_busy = False

    @property
    def is_due(self) -> bool:
        """Whether a preview may be made; the first is due at once."""
        return not self._is_busy and time.monotonic() >= self._next

    def begin(self) -> None:
        """Note that a preview is being made; called by the thread of the run."""
        self._is_busy = True
        self._begun = time.monotonic()

    def end(self) -> None:
        """Note that it is on the screen; called by the main thread."""
        now = time.monotonic()
        cost = now - self._begun
        pause = min(max(PAUSE_PER_COST * cost, PREVIEW_PAUSE_S), LONGEST_PAUSE_S)
        self._next = now + pause
        self._is_busy = False


class _Clock:
    """Times a run, and what is left of it."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.elapsed_s = 0.0
        self.left_s: float | None = None

    def tick(self, done: int, total: int) -> None:
        """Note a step; the first one also prepares, so the later ones tell the pace."""
        self.elapsed_s = time.monotonic() - self._begun
        if self._first is None:
            self._first = (done, self.elapsed_s)
        first_done, first_s = self._first
        if done > first_done:
            pace = (self.elapsed_s - first_s) / (done - first_done)
            self.left_s = pace * (total - done)


class Worker(QObject):
    """Iterates on a thread; what it yields is heard on the main thread.

    Not superqt's worker: that one changes Python's filters of warnings, which belong to
    the process, so that they are left wrong where the main thread does the same.
    """

    yielded = Signal(object)
    ended = Signal()

    def __init__(self, iterate: Callable[[], Iterator[Any]]) -> None:
        super().__init__()
        self._iterate = iterate
        self._is_wanted = True
        # A daemon: Python would wait for others before it tells anyone that it ends.
        self._thread = threading.Thread(
            target=self._work, name="napari-medvlseg", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def quit(self) -> None:
        """End after the part that is under way."""
        self._is_wanted = False

    def wait(self, seconds: float) -> None:
        """Wait for the end."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        """Iterate until the end, or until nobody wants more."""
        try:
            for value in self._iterate():
                if not self._is_wanted:
                    break
                self.yielded.emit(value)
        finally:  # a bug is told by Python; who waits for the end must not wait on
            self.ended.emit()


class Runner(QObject):
    """Runs one job at a time on a thread.

    A cancelled run says so at once; its thread ends at its next step and is not heard.
    """

    updated = Signal(object)
    failed = Signal(object)

    def __init__(self, steps: StepsFunction, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._steps = steps
        self._job: Job | None = None
        self._workers: list[Worker] = []
        self._screen = Screen()

    @property
    def has_threads(self) -> bool:
        """Whether a thread is left, be it of a cancelled job."""
        return any(worker.is_alive for worker in self._workers)

    def start(self, job: Job) -> None:
        """Run a job; refused while another is under way."""
        if self._job is not None:
            msg = "a run is under way"
            raise RuntimeError(msg)
        self._workers = [worker for worker in self._workers if worker.is_alive]
        self._job = job
        self._screen = Screen()
        worker = Worker(partial(run_job, job, self._steps, self._screen))
        worker.yielded.connect(self._on_yielded)
        self._workers.append(worker)
        worker.start()

    def acknowledge(self) -> None:
        """Say that the last preview is on the screen."""
        self._screen.end()

    def cancel(self) -> None:
        """End the job under way, if there is one."""
        self._job = None
        for worker in self._workers:
            worker.quit()

    def close(self) -> None:
        """End the job and wait for its thread, which a step may hold for a moment."""
        self.cancel()
        for worker in self._workers:
            worker.wait(CLOSE_WAIT_S)
        self._workers.clear()

    def _on_yielded(self, update: Update | Failure) -> None:
        """Pass on what the job under way says; a cancelled one is not heard."""
        if self._job is None or update.job is not self._job:
            return
        if isinstance(update, Failure):
            self._job = None
            self.failed.emit(update.error)
            return
        if update.is_last:
            self._job = None
        self.updated.emit(update)


class LatestOnly(QObject):
    """Computes on a thread; of what is asked meanwhile only the last is computed."""

    computed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Worker | None = None
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
            self._worker.quit()
            self._worker.wait(CLOSE_WAIT_S)
            self._worker = None

    def _start(self) -> None:
        """Compute what was asked last."""
        compute, self._next = self._next, None
        if compute is None:
            return
        self._worker = Worker(partial(_once, compute))
        self._worker.yielded.connect(self.computed)
        self._worker.ended.connect(self._on_ended)
        self._worker.start()

    def _on_ended(self) -> None:
        """Go on with what was asked meanwhile."""
        if self._worker is not None:
            self._worker.wait(CLOSE_WAIT_S)
            self._worker = None
        self._start()


def _once(compute: Callable[[], Any]) -> Iterator[Any]:
    """Yield one value."""
    yield compute()
