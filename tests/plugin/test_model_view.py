"""The model chooser: what is there, and what can be fetched."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from napari_medvlseg.core.bundle import list_models
from napari_medvlseg.core.checkpoints.fetch import fetch_model
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.released import HUB_REPO, RELEASED
from napari_medvlseg.plugin.model_view import ModelView
from tests.plugin.conftest import WAIT_MS
from tests.small_checkpoint import Hub, isolate, save_checkpoint, serve_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_medvlseg.plugin.segment_widget import SegmentWidget

ENTRY = next(each for each in RELEASED if each.model_id.endswith("kvasir-10"))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as serving:
        data = save_checkpoint(tmp_path / "x.pth").read_bytes()
        serving.files[f"{HUB_REPO}/{ENTRY.file}"] = data
        yield serving


@pytest.fixture
def view(qtbot: QtBot, hub: Hub) -> ModelView:
    made = ModelView(lambda model_id: fetch_model(model_id, hub.url))
    qtbot.addWidget(made)
    made.set_models(list_models(), "compact")
    made.show()
    return made


def _choose(view: ModelView, model_id: str) -> None:
    view.chooser.setCurrentIndex(view.chooser.findData(model_id))


def _texts(view: ModelView) -> list[str]:
    return [view.chooser.itemText(index) for index in range(view.chooser.count())]


@pytest.mark.loopback
def test_all_24_are_offered_with_what_the_download_costs(view: ModelView) -> None:
    texts = _texts(view)
    assert texts[0] == "Compact"
    assert sum("download (0.9 GB)" in text for text in texts) == 24
    assert view.download.isHidden()
    _choose(view, ENTRY.model_id)
    assert view.card is None
    assert not view.download.isHidden()
    assert "Polyp in the colonoscopy image" in view.summary.text()
    with pytest.raises(CheckpointError, match="press Download"):
        view.usable_card()
    _choose(view, "compact")
    assert view.usable_card().model_id == "compact"
    assert view.download.isHidden()


@pytest.mark.loopback
def test_a_model_is_fetched_in_the_background_and_offered(
    qtbot: QtBot, view: ModelView, hub: Hub
) -> None:
    hub.chunk_gate = threading.Event()
    _choose(view, ENTRY.model_id)
    heard: list[Any] = []
    view.model_changed.connect(heard.append)
    view.download.click()
    qtbot.waitUntil(lambda: "of 0 MB" in view.status.text(), timeout=WAIT_MS)
    assert not view.stop.isHidden()
    assert view.download.isHidden()
    _choose(view, "compact")  # which works meanwhile
    assert view.usable_card().model_id == "compact"
    _choose(view, ENTRY.model_id)
    hub.chunk_gate.set()
    qtbot.waitUntil(lambda: view.card is not None, timeout=WAIT_MS)
    assert heard[-1].model_id == ENTRY.model_id
    assert view.stop.isHidden()
    assert sum("download (0.9 GB)" in text for text in _texts(view)) == 23
    assert "Incomplete: copy vocab.txt" in view.summary.text()
    with pytest.raises(CheckpointError, match="complete model"):
        view.usable_card()


@pytest.mark.loopback
def test_a_download_is_cancelled_at_once_and_goes_on_later(
    qtbot: QtBot, view: ModelView, hub: Hub, tmp_path: Path
) -> None:
    hub.chunk_gate = threading.Event()
    _choose(view, ENTRY.model_id)
    view.download.click()
    qtbot.waitUntil(lambda: "of 0 MB" in view.status.text(), timeout=WAIT_MS)
    view.stop.click()
    assert view.status.text().startswith("Download cancelled")
    assert not view.download.isHidden()
    view.download.click()  # its thread may wait for bytes still: this one comes after
    hub.chunk_gate.set()
    qtbot.waitUntil(lambda: view.card is not None, timeout=WAIT_MS)
    assert (tmp_path / "cache" / "models" / ENTRY.model_id).is_dir()


@pytest.mark.loopback
def test_what_went_wrong_is_told_in_a_sentence(
    qtbot: QtBot, view: ModelView, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_medvlseg.plugin.model_view.show_error", told.append)
    hub.files.clear()
    _choose(view, ENTRY.model_id)
    view.download.click()
    qtbot.waitUntil(lambda: bool(told), timeout=WAIT_MS)
    assert "404" in view.status.text()
    assert "models import FILE.pth" in view.status.text()
    assert not view.download.isHidden()
    assert view.stop.isHidden()


@pytest.mark.usefixtures("viewer_with_disc")
def test_a_model_that_is_not_there_is_not_run(
    dock: SegmentWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_medvlseg.plugin.segment_widget.show_error", told.append)
    _choose(dock.options.models, ENTRY.model_id)
    dock.prompt.set_text("polyp")
    dock.run()
    assert "press Download" in told[0]
    assert not dock.session.is_running


@pytest.mark.loopback
def test_closing_the_window_ends_the_download(
    qtbot: QtBot, view: ModelView, hub: Hub
) -> None:
    hub.chunk_gate = threading.Event()
    _choose(view, ENTRY.model_id)
    view.download.click()
    qtbot.waitUntil(lambda: "of 0 MB" in view.status.text(), timeout=WAIT_MS)
    threading.Timer(0.2, hub.chunk_gate.set).start()
    view.close_download()
    names = [thread.name for thread in threading.enumerate()]
    assert "napari-medvlseg" not in names


def test_a_bug_in_a_download_keeps_its_traceback(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Any] = []
    monkeypatch.setattr(
        "napari_medvlseg.plugin.model_view.notification_manager.receive_error",
        lambda *arguments: received.append(arguments),
    )

    def broken(_model_id: str) -> Any:
        msg = "a bug"
        raise ZeroDivisionError(msg)

    view = ModelView(broken)
    qtbot.addWidget(view)
    view.set_models(list_models(), ENTRY.model_id)
    view.start_download()
    qtbot.waitUntil(lambda: bool(received), timeout=WAIT_MS)
    assert received[0][0] is ZeroDivisionError
    assert "ZeroDivisionError: a bug" in view.status.text()
