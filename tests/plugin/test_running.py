"""While a model runs: previews refine, cancel is quick, and no thread is left."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_medvlseg.core.errors import PromptError
from napari_medvlseg.plugin.engine import TorchThreads, without_triton
from napari_medvlseg.plugin.result_layers import KEY
from tests.plugin.conftest import (
    WAIT_MS,
    blob_steps,
    disc,
    run_and_wait,
    slow_steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

log = logging.getLogger(__name__)

CANCEL_S = 1.0
BUSY = 5
"""How many times longer things may take where other programs need the processor."""


@pytest.fixture
def slow_dock(viewer: Any, make_dock: Callable[..., SegmentWidget]) -> SegmentWidget:
    """Return a dock whose model keeps a core busy for 0.2 s a sample."""
    viewer.add_image(np.tile(disc(), (20, 16)), name="cells")
    dock = make_dock(slow_steps)
    dock.prompt.set_text("bright blob")
    return dock


def masks(viewer: Any) -> list[Any]:
    return [
        layer
        for layer in viewer.layers
        if layer.metadata.get(KEY, {}).get("kind") == "mask"
    ]


@pytest.mark.parametrize("end", ["cancel", "failure"])
def test_layers_that_nothing_filled_are_removed(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget], end: str
) -> None:
    """They are added, empty, when Run is pressed, so that the run never waits."""
    begun = threading.Event()
    go_on = threading.Event()

    def steps(*_: object) -> Iterator[Any]:
        begun.set()
        go_on.wait(WAIT_MS / 1000)
        msg = "expected another prompt"
        raise PromptError(msg)

    viewer.add_image(disc(), name="cells")
    dock = make_dock(steps)
    dock.prompt.set_text("bright blob")
    dock.run()
    qtbot.waitUntil(begun.is_set, timeout=WAIT_MS)
    assert len(masks(viewer)) == 1
    assert not masks(viewer)[0].data.any()
    with qtbot.waitSignal(dock.run_ended, timeout=WAIT_MS):
        if end == "cancel":
            dock.cancel()
            go_on.set()
        else:
            go_on.set()
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=WAIT_MS)
    said = dock.progress.status.text()
    assert "Nothing was found by then" in said or "Expected another prompt" in said


def test_an_empty_mask_cannot_be_painted_on_and_a_filled_one_can(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(3)
    slow_dock.run()
    qtbot.waitUntil(lambda: bool(masks(viewer)), timeout=WAIT_MS)
    assert not masks(viewer)[0].editable
    with qtbot.waitSignal(slow_dock.run_ended, timeout=2 * WAIT_MS):
        pass
    assert masks(viewer)[0].editable


def test_another_runs_threshold_is_kept_while_layers_are_added(
    qtbot: QtBot, viewer_with_disc: Any, dock: SegmentWidget
) -> None:
    """Adding a layer selects it, but the older result must not take over."""
    assert run_and_wait(qtbot, dock, "bright blob")
    assert dock.session.current is not None
    dock.session.current.is_edited = True  # stays at its threshold
    dock.results.threshold.setValue(0.3)
    assert run_and_wait(qtbot, dock, "another blob")
    assert dock.results.threshold.value() == pytest.approx(0.3)
    newest = masks(viewer_with_disc)[-1]
    assert newest.metadata[KEY]["threshold"] == pytest.approx(0.3)


def test_the_preview_comes_before_the_end_and_is_refined(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    seen: list[int] = []

    def steps(*job: Any) -> Iterator[Any]:
        for step in blob_steps(*job):
            yield step
            if len(seen) < 2:  # the busier the machine, the rarer the previews
                time.sleep(0.1)

    viewer.add_image(disc(), name="cells")
    dock = make_dock(steps)
    dock.prompt.set_text("bright blob")
    dock.options.samples.setValue(100)
    dock.session.refined.connect(
        lambda found: seen.append(found.segmentation.provenance["num_samples"])
    )
    with qtbot.waitSignal(dock.run_ended, timeout=WAIT_MS):
        dock.run()
    assert seen[0] == 1
    assert seen[-1] == 100
    assert len(seen) > 2
    assert masks(viewer)[0].metadata[KEY]["complete"]


def test_progress_tells_the_time_left(qtbot: QtBot, slow_dock: SegmentWidget) -> None:
    slow_dock.options.samples.setValue(8)
    texts: list[str] = []
    slow_dock.session.progressed.connect(
        lambda _: texts.append(slow_dock.progress.status.text())
    )
    with qtbot.waitSignal(slow_dock.run_ended, timeout=2 * WAIT_MS):
        slow_dock.run()
    assert any("of 8" in text and "s left" in text for text in texts), texts


def test_cancel_ends_the_run_with_the_sample_under_way(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    """The sample is all that its thread waits for."""
    done: list[int] = []

    def steps(*job: Any) -> Iterator[Any]:
        for step in slow_steps(*job):
            done.append(step.done)
            yield step

    viewer.add_image(disc(), name="cells")
    dock = make_dock(steps)
    dock.prompt.set_text("bright blob")
    dock.options.samples.setValue(100)
    dock.run()
    qtbot.waitUntil(
        lambda: any(mask.data.any() for mask in masks(viewer)), timeout=WAIT_MS
    )
    before, begun = len(done), time.monotonic()
    dock.cancel()
    assert dock.progress.run.isEnabled()
    qtbot.waitUntil(lambda: not dock.session.has_threads, timeout=WAIT_MS)
    took = time.monotonic() - begun
    log.info("the thread of a cancelled run ends after %.3f s", took)
    assert len(done) <= before + 1
    assert took < BUSY * CANCEL_S
    assert "Cancelled" in dock.progress.status.text()
    assert len(masks(viewer)) == 1
    assert not masks(viewer)[0].metadata[KEY]["complete"]


def test_cancel_before_the_first_preview_leaves_no_layer(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.run()
    slow_dock.cancel()
    qtbot.waitUntil(lambda: not slow_dock.session.has_threads, timeout=WAIT_MS)
    qtbot.wait(100)
    assert len(viewer.layers) == 1


def test_after_a_cancel_the_next_run_is_not_disturbed(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(3)
    slow_dock.run()
    slow_dock.cancel()
    slow_dock.prompt.set_text("dark rest")
    with qtbot.waitSignal(slow_dock.run_ended, timeout=WAIT_MS) as ended:
        slow_dock.run()
    assert ended.args == [True]
    assert [mask.name for mask in masks(viewer)] == ["mask · dark rest · cells"]


def test_a_second_run_is_refused_while_one_is_under_way(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(4)
    with qtbot.waitSignal(slow_dock.run_ended, timeout=WAIT_MS):
        slow_dock.run()
        assert not slow_dock.progress.run.isEnabled()
        slow_dock.run()
        assert "under way" in slow_dock.progress.status.text()
    assert len(masks(viewer)) == 1


def test_two_docks_run_at_once(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    viewer.add_image(disc(), name="cells")
    docks = [make_dock(slow_steps), make_dock(slow_steps)]
    ended: list[bool] = []
    for number, dock in enumerate(docks):
        dock.options.samples.setValue(3)
        dock.run_ended.connect(ended.append)
        dock.prompt.set_text(f"blob {number}")
        dock.run()
    qtbot.waitUntil(lambda: ended == [True, True], timeout=2 * WAIT_MS)
    assert len(masks(viewer)) == 2


def test_an_image_that_is_removed_ends_its_run(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(50)
    slow_dock.run()
    qtbot.waitUntil(lambda: bool(masks(viewer)), timeout=WAIT_MS)
    viewer.layers.remove(slow_dock.image.layer)
    assert "'cells' was removed" in slow_dock.progress.status.text()
    qtbot.waitUntil(lambda: not slow_dock.session.has_threads, timeout=WAIT_MS)


def test_result_layers_removed_in_a_run_stay_removed(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(6)
    with qtbot.waitSignal(slow_dock.run_ended, timeout=2 * WAIT_MS):
        slow_dock.run()
        qtbot.waitUntil(lambda: bool(masks(viewer)), timeout=WAIT_MS)
        viewer.layers.remove(masks(viewer)[0])
    assert masks(viewer) == []


def test_closing_the_viewer_in_a_run_leaves_no_thread(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    before = threading.active_count()
    slow_dock.options.samples.setValue(100)
    slow_dock.run()
    session = slow_dock.session
    qtbot.waitUntil(lambda: bool(masks(viewer)), timeout=WAIT_MS)
    viewer.close()
    _destroy_what_is_closed()
    assert not session.has_threads
    assert threading.active_count() <= before


def test_closing_the_dock_in_a_run_leaves_no_thread(
    qtbot: QtBot, viewer: Any, slow_dock: SegmentWidget
) -> None:
    slow_dock.options.samples.setValue(100)
    slow_dock.run()
    session = slow_dock.session
    qtbot.waitUntil(lambda: bool(masks(viewer)), timeout=WAIT_MS)
    viewer.window.remove_dock_widget(slow_dock)
    slow_dock.deleteLater()
    _destroy_what_is_closed()
    assert not session.has_threads
    viewer.cursor.position = (1, 1)
    viewer.add_image(disc(), name="another")  # nobody listens any more


def _destroy_what_is_closed() -> None:
    """Let Qt carry out deleteLater."""
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()


def test_threads_touch_nothing_of_napari(
    qtbot: QtBot, slow_dock: SegmentWidget
) -> None:
    """The viewer is a proxy that raises where another thread sets something."""
    notification_manager.records.clear()
    slow_dock.options.samples.setValue(2)
    with qtbot.waitSignal(slow_dock.run_ended, timeout=WAIT_MS) as ended:
        slow_dock.run()
    assert ended.args == [True]
    assert [record.message for record in notification_manager.records] == []


def test_the_loading_of_a_model_can_be_cancelled(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    begun, ready, loaded = threading.Event(), threading.Event(), threading.Event()

    def loads(*job: Any) -> Iterator[Any]:
        begun.set()
        ready.wait(WAIT_MS / 1000)
        loaded.set()
        return blob_steps(*job)

    viewer.add_image(disc())
    dock = make_dock(loads)
    dock.prompt.set_text("bright blob")
    dock.run()
    qtbot.waitUntil(begun.is_set, timeout=WAIT_MS)
    dock.cancel()
    assert dock.progress.run.isEnabled()
    assert not loaded.is_set()  # nobody waited for it
    ready.set()
    qtbot.waitUntil(lambda: not dock.session.has_threads, timeout=WAIT_MS)
    assert len(viewer.layers) == 1


def test_torch_uses_a_thread_less_while_a_viewer_needs_it() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    first, second = TorchThreads(), TorchThreads()
    first.spare_one()
    second.spare_one()
    second.spare_one()
    assert torch.get_num_threads() == max(1, before - 1)
    first.restore()
    assert torch.get_num_threads() == max(1, before - 1)
    second.restore()
    second.restore()
    assert torch.get_num_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_torchs_libraries_are_loaded_before_it_is_imported() -> None:
    """While Python's lock is free: its import alone froze the window for 0.6 s."""
    script = (
        "import sys; from napari_medvlseg.plugin import engine; "
        "engine.load_torch_libraries(); "
        "print('libtorch_cpu' in open('/proc/self/maps').read(), "
        "'torch' in sys.modules); import torch; print(torch.ones(2).sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False", "2.0"]


def test_triton_cannot_be_imported_where_it_would_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    with without_triton(), pytest.raises(ImportError):
        __import__("triton")
    assert "triton" not in sys.modules
