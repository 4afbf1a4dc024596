"""The model chooser: what is there, and what can be fetched."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_medvlseg.core.bundle import list_models
from napari_medvlseg.core.checkpoints import weights
from napari_medvlseg.core.checkpoints.fetch import fetch_model
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.released import HUB_REPO, RELEASED
from napari_medvlseg.plugin import model_fetch
from napari_medvlseg.plugin.import_dialog import ImportDialog
from napari_medvlseg.plugin.model_fetch import ImportChoice
from napari_medvlseg.plugin.model_view import ModelView
from tests.plugin.conftest import WAIT_MS
from tests.small_checkpoint import (
    Hub,
    isolate,
    save_checkpoint,
    save_vocabulary,
    serve_hub,
    state_of,
)

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


@pytest.fixture
def offline(qtbot: QtBot) -> ModelView:
    """A chooser that has nothing to do with the hub."""
    made = ModelView()
    qtbot.addWidget(made)
    made.set_models(list_models(), "compact")
    made.show()
    return made


def test_a_checkpoint_is_imported_and_chosen(
    qtbot: QtBot, offline: ModelView, tmp_path: Path
) -> None:
    path = save_checkpoint(
        tmp_path / "latest.pth", {**state_of("unimedclip"), "extra.w": torch.ones(2)}
    )
    heard: list[Any] = []
    offline.model_changed.connect(heard.append)
    vocabulary = save_vocabulary(tmp_path / "bert")
    offline.start_import(ImportChoice(path, "my-polyps", vocabulary))
    assert not offline.stop.isHidden()
    assert offline.bring.isHidden()
    qtbot.waitUntil(offline.stop.isHidden, timeout=WAIT_MS)
    assert offline.usable_card().model_id == "my-polyps"
    assert heard[-1].model_id == "my-polyps"
    assert "extra.w" in offline.status.text()
    assert not offline.bring.isHidden()


def test_without_a_tokenizer_it_says_what_to_copy_where(
    qtbot: QtBot, offline: ModelView, tmp_path: Path
) -> None:
    path = save_checkpoint(tmp_path / "latest.pth")
    offline.start_import(ImportChoice(path))
    qtbot.waitUntil(offline.stop.isHidden, timeout=WAIT_MS)
    assert offline.chooser.currentData() == "medclipseg-unimedclip"
    place = tmp_path / "cache" / "models" / "medclipseg-unimedclip"
    assert "Incomplete: copy vocab.txt" in offline.summary.text()
    assert str(place) in offline.summary.text()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no checkpoint at all", "expected a"),
        (b"PK\x03\x04 cut off", "expected a"),
        (None, "got other keys: conv.weight"),
    ],
)
def test_a_foreign_or_corrupt_file_is_refused_in_a_sentence(
    qtbot: QtBot,
    offline: ModelView,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    told: str,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari_medvlseg.plugin.model_view.show_error", shown.append)
    path = tmp_path / "foreign.pth"
    if content is None:
        save_checkpoint(path, {"conv.weight": torch.zeros(2)})
    else:
        path.write_bytes(content)
    offline.start_import(ImportChoice(path))
    qtbot.waitUntil(lambda: bool(shown), timeout=WAIT_MS)
    assert told in shown[0]
    assert "foreign.pth" in offline.status.text()
    assert offline.chooser.currentData() == "compact"
    assert not offline.bring.isHidden()
    models = tmp_path / "cache" / "models"
    assert not models.exists() or list(models.iterdir()) == []


def test_a_cancelled_import_leaves_nothing(
    qtbot: QtBot,
    offline: ModelView,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "PART_BYTES", 1)
    monkeypatch.setattr(model_fetch, "PAUSE_S", 0)
    path = save_checkpoint(tmp_path / "latest.pth")
    offline.start_import(ImportChoice(path))
    qtbot.waitUntil(lambda: "Importing" in offline.status.text(), timeout=WAIT_MS)
    offline.stop.click()
    assert offline.status.text().startswith("Import cancelled")
    offline.close_download()
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    assert [card.model_id for card in list_models()].count("medclipseg-unimedclip") == 0


def test_the_dialog_tells_what_was_chosen(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = ImportDialog()
    qtbot.addWidget(dialog)
    ok = dialog.buttons.button(dialog.buttons.StandardButton.Ok)
    assert ok is not None
    assert not ok.isEnabled()
    path = tmp_path / "a.pth"
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *_args, **_more: (str(path), "")
    )
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_args, **_more: str(tmp_path)
    )
    for button in dialog.findChildren(QPushButton):
        if button.text().startswith("Browse"):
            button.click()
    assert ok.isEnabled()
    assert dialog.choice == ImportChoice(path, None, tmp_path)
    dialog.tokenizer.setText("")
    dialog.name.setText(" mine ")
    dialog.replace.setChecked(True)
    assert dialog.choice == ImportChoice(path, "mine", None, replace=True)
