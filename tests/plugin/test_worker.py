"""Work on threads: what fails is told, and nobody waits for it for ever."""

from __future__ import annotations

import threading
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
