"""The runs of one viewer and their results: job -> worker -> layers, relabelling."""

from __future__ import annotations

import atexit
import sys
from collections import deque
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qtpy.QtCore import QObject, Signal

from napari_medvlseg.plugin.findings import Findings, find, relabel
from napari_medvlseg.plugin.result_layers import MASK, Result
from napari_medvlseg.plugin.stagger import Stagger
from napari_medvlseg.plugin.worker import (
    CLOSE_WAIT_S,
    Job,
    LatestOnly,
    Runner,
    Update,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import napari.components
    import napari.layers

    from napari_medvlseg.core.types import Segmentation
    from napari_medvlseg.plugin.engine import StepsFunction


class Session(QObject):
    """Runs jobs, one at a time, and keeps what they found.

    Parameters
    ----------
    layers : LayerList
        The viewer's.
    steps : callable
        Runs a model.

    Attributes
    ----------
    at_stop, at_leave : lists of callables
        Called when the threads have ended; when the widget is gone for good.
    """

    progressed = Signal(object)
    """An `Update` of the run."""
    refined = Signal(object)
    """`Findings` that are on the screen: a preview, a result, another threshold."""
    adopted = Signal()
    """A result of an earlier session is on the screen."""
    completed = Signal(object)
    """The last `Update` of a run, when its layers are on the screen."""
    cancelled = Signal(str)
    """Why, and what is left."""
    failed = Signal(object)
    """The exception."""

    def __init__(
        self, layers: napari.components.LayerList, steps: StepsFunction
    ) -> None:
        super().__init__()
        self.threshold = 0.5
        self.shown: frozenset[str] = frozenset({MASK})
        self.replaces = False
        self.at_stop: list[Callable[[], None]] = []
        self.at_leave: list[Callable[[], None]] = []
        self._layers = layers
        self._runner = Runner(steps, self)
        self._relabeler = LatestOnly(self)
        self._stagger = Stagger(self)
        self._results: list[Result] = []
        self._dropped: list[Result] = []
        self._importer: Worker | None = None
        self._running: Result | None = None
        self._image: Any = None
        self._has_left = False
        _sessions.add(self)
        self._runner.updated.connect(self._on_updated)
        self._runner.failed.connect(self._on_failed)
        self._relabeler.computed.connect(self._on_relabelled)
        self.follow(layers.events.removed, self._on_layer_removed)

    @property
    def is_running(self) -> bool:
        """Whether a run is under way, or its last layers are being drawn."""
        return self._running is not None

    @property
    def has_threads(self) -> bool:
        """Whether a thread of a run is left."""
        return self._runner.has_threads

    @property
    def current(self) -> Result | None:
        """The result whose layer is active, or else the newest."""
        active = self._layers.selection.active
        known = list(self._results)
        if self._running is not None and self._running not in known:
            known.append(self._running)  # empty yet, but what the user looks at
        alive = [result for result in known if result.layers]
        owners = [result for result in alive if result.owns(active)]
        chosen = owners or alive
        return chosen[-1] if chosen else None

    @property
    def results(self) -> list[Result]:
        """The results on the screen but for the one that runs, oldest first."""
        return [
            result
            for result in self._results
            if result.layers and result is not self._running
        ]

    def adopt(
        self, result: Result, segmentation: Segmentation, edited: Any, *, complete: bool
    ) -> None:
        """Show a result of an earlier session, with its corrections if it has some."""
        result.segmentation = segmentation
        self._results.append(result)
        findings = result.findings = find(segmentation)

        def finish() -> None:
            if edited is not None and result.mask is not None:
                result.paint(edited)
            result.mark(complete=complete)
            self._hide_covered()
            self.refined.emit(findings)
            self.adopted.emit()

        parts = result.show(segmentation, self.shown, complete=True)
        self._stagger.add(parts, finish)

    def start(self, job: Job, result: Result, image: napari.layers.Image) -> None:
        """Run a job into a result that has no layers yet."""
        self._running = result
        self._image = result.image = image
        prepare = partial(self._prepare, job, result)
        if "pandas" in sys.modules:
            prepare()
            return
        # The first Labels layer would import it, on the window's thread.
        self._importer = Worker(partial(_import, "pandas"))
        self._importer.ended.connect(prepare)
        self._importer.start()

    def cancel(self, why: str = "Cancelled") -> None:
        """End the run; its layers so far stay."""
        result, self._running = self._running, None
        if result is None:
            return
        self._runner.cancel()
        is_empty = self._drop_if_empty(result)
        rest = "Nothing was found by then" if is_empty else "What was there stays"
        self.cancelled.emit(f"{why}. {rest}.")

    def set_threshold(self, threshold: float) -> None:
        """Label the current result anew."""
        self.threshold = threshold
        self._relabel(self.current)

    def set_shown(self, shown: frozenset[str]) -> None:
        """Show these kinds of layers of every result."""
        self.shown = shown
        for result in self._results:
            result.set_shown(() if self._is_covered(result) else shown)
        if self._running is not None:  # its layers may still be empty
            self._running.set_shown(shown)

    def under_cursor(
        self, world: tuple[float, ...]
    ) -> tuple[Segmentation | None, tuple[int, ...] | None]:
        """Return the current result and the voxel at a place in the world."""
        result = self.current
        if result is None:
            return None, None
        return result.segmentation, result.voxel_at(world)

    def stop(self) -> None:
        """End the run and wait for every thread."""
        if self._has_left:
            return
        result, self._running = self._running, None
        self._stagger.clear()
        if result is not None and result.segmentation is None:
            self._dropped.append(result)
        for empty in self._dropped:
            deque(empty.remove(), maxlen=0)
        self._dropped.clear()
        self._relabeler.close()
        self._runner.close()
        if self._importer is not None:
            self._importer.wait(CLOSE_WAIT_S)
        for call in self.at_stop:
            call()

    def follow(self, emitter: Any, callback: Callable[..., None]) -> None:
        """Connect a callback to an event of the viewer, until the widget is gone."""
        emitter.connect(callback)
        self.at_leave.append(partial(emitter.disconnect, callback))

    def leave(self) -> None:
        """Stop, and follow the viewer no more."""
        self.stop()
        self._has_left = True
        while self.at_leave:
            self.at_leave.pop()()

    def _prepare(self, job: Job, result: Result) -> None:
        """Add the layers, then begin."""
        if result is self._running:
            begin = partial(self._begin, job, result)
            self._stagger.add(result.prepare(self.shown), begin)

    def _begin(self, job: Job, result: Result) -> None:
        """Start the thread, when the layers are there."""
        if result is self._running:
            result.set_shown(self.shown)  # it may have changed meanwhile
            self._runner.start(job)

    def _drop_if_empty(self, result: Result) -> bool:
        """Remove the layers of a result that nothing has filled; say whether."""
        is_empty = result.segmentation is None
        if is_empty:
            result.is_wanted = False
            self._dropped.append(result)
            self._stagger.add(result.remove(), partial(self._dropped.remove, result))
        return is_empty

    def _on_updated(self, update: Update) -> None:
        """Tell how far the run is, and draw its preview."""
        result = self._running
        if result is None:
            return
        self.progressed.emit(update)
        if update.findings is None:
            if not update.total:
                self._spare_memory(result)
            return
        replaced: list[Result] = []
        if result not in self._results:
            replaced = self._replaced_by(result)
            self._results = [old for old in self._results if old.layers]
            self._results.append(result)
            self._hide_covered(besides=replaced)
        result.findings = update.findings
        result.segmentation = update.findings.segmentation  # no longer empty
        self._stagger.add(
            self._draw(result, update, replaced),
            partial(self._on_drawn, result, update),
        )

    def _draw(
        self, result: Result, update: Update, replaced: list[Result]
    ) -> Iterator[None]:
        """Fill the layers; only then remove those that they replace."""
        if update.findings is not None:
            segmentation = update.findings.segmentation
            yield from result.show(segmentation, self.shown, complete=update.is_last)
        for old in replaced:
            yield from old.drop()
        if replaced:
            self._results = [one for one in self._results if one not in replaced]
            result.restore_names()

    def _replaced_by(self, result: Result) -> list[Result]:
        """Return the earlier results that a result takes the place of.

        They are those of the same prompts, if the user wants that, and the unfinished
        one that it goes on from. What was corrected by hand stays.
        """
        return [
            old
            for old in self._results
            if (self.replaces and result.asks_the_same(old)) or result.goes_on_from(old)
            if not old.is_edited
        ]

    def _spare_memory(self, result: Result) -> None:
        """Forget the maps of the unfinished result that a run goes on from.

        Its mask stays on the screen until the kept slices are there again.
        """
        for old in self._results:
            if result.goes_on_from(old) and not old.is_edited:
                deque(old.drop_maps(), maxlen=0)

    def _hide_covered(self, besides: Collection[Result] = ()) -> None:
        """Hide the results that later ones lie over."""
        for old in self._results:
            if old not in besides and self._is_covered(old):
                old.set_shown(())

    def _is_covered(self, result: Result) -> bool:
        """Whether a later result of the same prompts lies over a result.

        Shown together their entropies would look like a third.
        """
        later = self._results[self._results.index(result) + 1 :]
        return any(
            new.layers
            and new.asks_the_same(result)
            and new.job.cut.overlaps(result.job.cut)
            for new in later
        )

    def _on_drawn(self, result: Result, update: Update) -> None:
        """Go on after a preview or a result is on the screen."""
        self._runner.acknowledge()
        if update.findings is None:
            return
        self.refined.emit(update.findings)
        if update.findings.segmentation.threshold != self.threshold:
            self._relabel(result)
        if update.is_last and result is self._running:
            self._running = None
            self.completed.emit(update)

    def _relabel(self, result: Result | None) -> None:
        """Ask for the labels of a result at the threshold."""
        if result is None or result.segmentation is None or result.is_edited:
            return
        if not result.segmentation.exclusive:
            self._relabeler.ask(partial(relabel, result.segmentation, self.threshold))

    def _on_relabelled(self, findings: Findings) -> None:
        """Draw new labels, unless the result has moved on meanwhile."""
        probability = findings.segmentation.probability
        for result in self._results:
            segmentation = result.segmentation
            if segmentation is None or segmentation.probability is not probability:
                continue
            if not result.is_edited:
                result.findings = findings
                result.relabel(findings.segmentation)
                self.refined.emit(findings)

    def _on_failed(self, error: Exception) -> None:
        """Pass an error on."""
        result, self._running = self._running, None
        if result is not None:
            self._drop_if_empty(result)
        self.failed.emit(error)

    def _on_layer_removed(self, event: Any) -> None:
        """Cancel the run whose image is removed."""
        if self._running is not None and event.value == self._image:
            self.cancel(f"Cancelled: the image {event.value.name!r} was removed")


_sessions: WeakSet[Session] = WeakSet()


def _leave_all() -> None:
    """Leave what is open when a script ends, while Qt's objects are still there."""
    for session in list(_sessions):
        session.leave()


atexit.register(_leave_all)


def _import(name: str) -> Iterator[None]:
    """Import a module; a worker iterates over this."""
    import_module(name)
    yield
