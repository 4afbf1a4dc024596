"""Released checkpoints, fetched from a hub on this machine."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Generator
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.checkpoints import hub as hub_module
from napari_medvlseg.core.checkpoints.fetch import FetchStep, fetch_model
from napari_medvlseg.core.checkpoints.hub import HubFile, download
from napari_medvlseg.core.checkpoints.store import check_model, remove_model
from napari_medvlseg.core.errors import CheckpointError, DownloadError, OutputError
from napari_medvlseg.core.released import HUB_REPO, RELEASED, released
from tests.small_checkpoint import (
    Hub,
    isolate,
    save_checkpoint,
    save_vocabulary,
    serve_hub,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.loopback
MODEL = "medclipseg-unimedclip-kvasir-10"
FILE = "Kvasir_10/trained_models/seed666/MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"
STORED = f"/storage/{HUB_REPO}/{FILE}"
BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract/vocab.txt"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.setattr(hub_module, "CHUNK_BYTES", 50_000)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as serving:
        path = save_checkpoint(tmp_path / "source" / "latest.pth")
        words = save_vocabulary(tmp_path / "source") / "vocab.txt"
        serving.files[f"{HUB_REPO}/{FILE}"] = path.read_bytes()
        serving.files[BERT] = words.read_bytes()
        yield serving


def _size(hub: Hub) -> int:
    return len(hub.files[f"{HUB_REPO}/{FILE}"])


def _ranges(hub: Hub) -> list[str | None]:
    return [asked for verb, path, asked in hub.asked if (verb, path) == ("GET", STORED)]


def _parts(tmp_path: Path) -> list[int]:
    folder = tmp_path / "cache" / "downloads"
    return [path.stat().st_size for path in folder.glob("*.part")]


def test_there_are_24_released_checkpoints_with_ids_of_their_own() -> None:
    assert len({each.model_id for each in RELEASED}) == 24
    entry = released(MODEL)
    assert entry is not None
    assert entry.file == FILE
    assert entry.url == f"https://huggingface.co/{HUB_REPO}/resolve/main/{FILE}"


def test_a_model_is_fetched_installed_and_whole(hub: Hub, tmp_path: Path) -> None:
    steps = list(fetch_model(MODEL, hub.url))
    got = [step.done for step in steps if step.what == "downloading"]
    assert got == sorted(got)
    assert (got[0], got[-1]) == (0, _size(hub))
    assert len(got) > 5
    card = steps[-1].card
    assert card is not None
    assert not card.missing
    check_model(card)
    assert model_card(MODEL).concepts[0].name == "polyp"
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    with pytest.raises(OutputError, match="installed already"):
        next(fetch_model(MODEL, hub.url))


def test_a_cancelled_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    steps = fetch_model(MODEL, hub.url)
    while next(steps).done < 150_000:
        pass
    assert isinstance(steps, Generator)
    steps.close()  # who cancels stops asking
    have = _parts(tmp_path)[0]
    assert 150_000 <= have < _size(hub)
    assert not (tmp_path / "cache" / "models").exists()
    again = list(fetch_model(MODEL, hub.url))
    assert again[0] == FetchStep("downloading", have, _size(hub))
    assert again[-1].card is not None
    assert _ranges(hub) == [None, f"bytes={have}-"]


def test_what_is_left_of_a_download_is_removed_on_demand(
    hub: Hub, tmp_path: Path
) -> None:
    steps = fetch_model(MODEL, hub.url)
    while next(steps).done < 100_000:
        pass
    assert isinstance(steps, Generator)
    steps.close()
    assert _parts(tmp_path)
    remove_model(MODEL)
    assert _parts(tmp_path) == []


def test_a_broken_connection_is_taken_up_again(hub: Hub) -> None:
    hub.cut_after = [120_000, 60_000]
    assert list(fetch_model(MODEL, hub.url))[-1].card is not None
    assert len(_ranges(hub)) == 3
    assert _ranges(hub)[0] is None
    assert all(str(asked).startswith("bytes=") for asked in _ranges(hub)[1:])


def test_half_a_file_is_kept_and_told(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [_size(hub) // 2, 0]
    with pytest.raises(DownloadError, match="models import FILE"):
        list(fetch_model(MODEL, hub.url))
    assert 0 < _parts(tmp_path)[0] < _size(hub)
    assert list(fetch_model(MODEL, hub.url))[-1].card is not None


def test_a_server_without_ranges_sends_all_again(hub: Hub) -> None:
    hub.ranges = False
    hub.cut_after = [100_000]
    assert list(fetch_model(MODEL, hub.url))[-1].card is not None


def test_a_wrong_hash_is_refused_and_nothing_of_it_stays(
    hub: Hub, tmp_path: Path
) -> None:
    hub.corrupt = True
    with pytest.raises(DownloadError, match="expected the hash"):
        list(fetch_model(MODEL, hub.url))
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    assert not (tmp_path / "cache" / "models").exists()


def test_a_small_file_has_the_hash_that_git_gives_it(hub: Hub, tmp_path: Path) -> None:
    repo, _, name = BERT.rpartition("/")
    list(download(HubFile(repo, name, hub.url), tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == hub.files[BERT]
    hub.corrupt = True
    with pytest.raises(DownloadError, match="expected the hash"):
        list(download(HubFile(repo, name, hub.url), tmp_path / "bad"))
    assert not (tmp_path / "bad").exists()


def test_a_new_version_on_the_hub_is_not_appended_to_the_old(
    hub: Hub, tmp_path: Path
) -> None:
    steps = fetch_model(MODEL, hub.url)
    while next(steps).done < 100_000:
        pass
    assert isinstance(steps, Generator)
    steps.close()  # who cancels stops asking
    newer = save_checkpoint(tmp_path / "newer.pth", epoch=100).read_bytes()
    hub.files[f"{HUB_REPO}/{FILE}"] = newer
    assert list(fetch_model(MODEL, hub.url))[-1].card is not None
    assert _ranges(hub) == [None, None]


@pytest.mark.parametrize(
    "code", ["refused", "absent", "offline"], ids=["refused", "404", "HF_HUB_OFFLINE"]
)
def test_without_the_hub_it_says_what_to_copy_where(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    url = hub.url
    if code == "refused":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    elif code == "absent":
        hub.files.clear()
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError) as caught:
        list(fetch_model(MODEL, url))
    text = str(caught.value)
    assert f"https://huggingface.co/{HUB_REPO}/resolve/main/{FILE}" in text
    assert f"models import FILE.pth --name {MODEL} --tokenizer DIR" in text
    assert str(tmp_path / "cache" / "models") in text
    assert "\n" not in text


def test_without_the_vocabulary_the_model_is_installed_incomplete(hub: Hub) -> None:
    del hub.files[BERT]
    card = list(fetch_model(MODEL, hub.url))[-1].card
    assert card is not None
    assert card.missing == ("vocab.txt",)


def test_what_the_hub_sends_must_be_a_checkpoint(hub: Hub, tmp_path: Path) -> None:
    hub.files[f"{HUB_REPO}/{FILE}"] = b"<html>sign in</html>"
    with pytest.raises(CheckpointError, match="checkpoint"):
        list(fetch_model(MODEL, hub.url))
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_a_hub_that_tells_no_hash_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.etags = False
    repo, _, name = BERT.rpartition("/")
    with pytest.raises(DownloadError, match="size and hash"):
        list(download(HubFile(repo, name, hub.url), tmp_path / "got"))


def test_a_full_disk_is_told_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=9))
    with pytest.raises(OutputError, match="free space"):
        list(fetch_model(MODEL, hub.url))
    assert _ranges(hub) == []


def test_an_id_that_was_not_released_is_refused() -> None:
    with pytest.raises(CheckpointError, match="medclipseg-unimedclip-busi"):
        next(fetch_model("medclipseg-unimedclip-liver"))
