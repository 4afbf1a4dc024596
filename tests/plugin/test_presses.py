"""A press answers while a model runs, whatever else the machine has to do."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer

from tests.plugin.conftest import WAIT_MS, disc, slow_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QCheckBox

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

log = logging.getLogger(__name__)

LATENCY_S = 0.1
ROUNDS = 5
ROUND_MS = 500


class PausedModel:
    """`slow_steps` that can be made to wait between two samples."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._goes_on = threading.Event()
        self._waits = threading.Event()
        self._goes_on.set()

    def __call__(self, *job: Any) -> Iterator[Any]:
        self.thread = threading.current_thread()
        for step in slow_steps(*job):
            yield step
            if not self._goes_on.is_set():
                self._waits.set()
                self._goes_on.wait(WAIT_MS / 1000)

    @contextmanager
    def pause(self, qtbot: QtBot) -> Iterator[None]:
        qtbot.waitUntil(lambda: self.thread is not None, timeout=WAIT_MS)
        assert self.thread is not threading.main_thread()  # where a pause blocks all
        self._waits.clear()
        self._goes_on.clear()
        qtbot.waitUntil(self._waits.is_set, timeout=WAIT_MS)
        try:
            yield
        finally:
            self._goes_on.set()


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep a core as busy as the model does, with a Python of its own."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def slowest_answer_s(qtbot: QtBot, box: QCheckBox) -> float:
    """Press for half a second, each time 20 ms after the last press was answered."""
    answers: list[float] = []
    due = [0.0]
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setTimerType(Qt.TimerType.PreciseTimer)

    def press_later() -> None:
        due[0] = time.perf_counter() + 0.02
        timer.start(20)

    def press() -> None:
        box.click()
        answers.append(time.perf_counter() - due[0])
        press_later()

    timer.timeout.connect(press)
    press_later()
    qtbot.wait(ROUND_MS)
    timer.stop()
    return max(answers)


def test_the_model_delays_presses_by_less_than_100_ms(
    qtbot: QtBot, viewer: Any, make_dock: Callable[..., SegmentWidget]
) -> None:
    """Asserted is the median over rounds of a round's slowest press.

    A round with the model, its previews included, is followed by one in which the same
    run pauses and another process keeps the core busy instead. Their difference is what
    the model does to the window's thread, by Python's lock or by its own work there;
    the load of the machine is in both.
    """
    model = PausedModel()
    viewer.add_image(np.tile(disc(), (20, 16)), name="cells")
    dock = make_dock(model)
    dock.prompt.set_text("bright blob")
    dock.options.samples.setValue(100)
    with qtbot.waitSignal(dock.session.progressed, timeout=WAIT_MS):
        dock.run()
    box = dock.results.boxes["mask"]
    running: list[float] = []
    paused: list[float] = []
    for _ in range(ROUNDS):
        running.append(slowest_answer_s(qtbot, box))
        with model.pause(qtbot), busy_process():
            paused.append(slowest_answer_s(qtbot, box))
    assert dock.session.is_running
    assert dock.session.current is not None  # a preview came
    dock.cancel()
    usual, floor = statistics.median(running), statistics.median(paused)
    log.info("slowest press: %.3f s, %.3f s without the model", usual, floor)
    assert usual - floor < LATENCY_S, (running, paused)
