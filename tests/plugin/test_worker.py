"""Work on threads: what fails is told, and nobody waits for it for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from napari_medvlseg.plugin.worker import LatestOnly
from tests.plugin.conftest import WAIT_MS

if TYPE_CHECKING:
    import pytest
    from pytestqt.qtbot import QtBot


def test_after_a_failure_the_next_is_computed(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    latest = LatestOnly()

    def fail() -> None:
        msg = "no memory is left"
        raise MemoryError(msg)

    latest.ask(fail)
    qtbot.waitUntil(lambda: bool(told), timeout=WAIT_MS)
    assert told[0].exc_type is MemoryError
    with qtbot.waitSignal(latest.computed, timeout=WAIT_MS) as computed:
        latest.ask(lambda: 7)
    assert computed.args == [7]
    latest.close()


def test_a_script_may_end_without_closing_the_viewer(tmp_path: Path) -> None:
    script = f"""
        import napari, numpy as np
        from qtpy.QtCore import QSettings
        from qtpy.QtWidgets import QApplication
        from napari_medvlseg.plugin.segment_widget import SegmentWidget
        from napari_medvlseg.plugin.settings import Settings
        from tests.plugin.conftest import slow_steps

        store = QSettings({str(tmp_path / "own.ini")!r}, QSettings.Format.IniFormat)
        viewer = napari.Viewer()
        viewer.add_image(np.eye(9))
        dock = SegmentWidget(viewer, steps=slow_steps, settings=Settings(store))
        viewer.window.add_dock_widget(dock, name="Segment")
        dock.prompt.set_text("one blob")
        dock.options.samples.setValue(500)
        dock.run()
        while not dock.session.has_threads:
            QApplication.processEvents()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,  # the run alone would take longer
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
