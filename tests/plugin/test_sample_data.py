"""napari's menu opens real images, and downloads only what it was asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest

from napari_medvlseg.core.errors import DownloadError
from napari_medvlseg.plugin import sample_data
from napari_medvlseg.plugin.sample_data import Download, fetch

MANIFEST = Path(sample_data.__file__).parent.parent / "napari.yaml"
DOWNLOADED = {"cell_nuclei", "skin_histology", "head_volume"}


def samples() -> list[Any]:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    return list(manifest.contributions.sample_data or [])


def command_of(sample: Any) -> Any:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    commands = {one.id: one for one in manifest.contributions.commands or []}
    module, _, name = str(commands[sample.command].python_name).partition(":")
    assert module == sample_data.__name__
    return getattr(sample_data, name)


SHIPPED = [sample for sample in samples() if sample.key not in DOWNLOADED]


@pytest.mark.parametrize("sample", SHIPPED, ids=lambda sample: str(sample.key))
def test_a_shipped_sample_opens_without_the_network(sample: Any, viewer: Any) -> None:
    ((pixels, choices, kind),) = command_of(sample)()
    assert kind == "image"
    assert min(pixels.shape[:2]) >= 30
    assert np.ptp(pixels) > 0
    layer = viewer.add_image(pixels, **choices)
    assert layer.ndim == (3 if sample.key == "heart_ultrasound" else 2)


def test_the_ct_is_in_hounsfield_units_and_millimetres() -> None:
    ((pixels, choices, _),) = sample_data.spine_ct()
    assert pixels.min() < -700 < 300 < pixels.max()
    assert choices["scale"] == pytest.approx((0.661468, 0.661468))


def test_the_film_is_dark_with_grey_tissue_and_no_green_cast() -> None:
    ((film, _, _),) = sample_data.heart_ultrasound()
    tissue = film[:, 40:200, 100:220].reshape(-1, 3).astype(float)
    means = tissue.mean(axis=0)
    assert np.ptp(means) < 0.2 * means.mean()


@pytest.mark.parametrize("key", sorted(DOWNLOADED))
def test_the_menu_says_what_is_downloaded(key: str) -> None:
    (sample,) = [one for one in samples() if one.key == key]
    assert "download" in sample.display_name


def test_offline_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import requests

    def refuse(*_: object, **__: object) -> None:
        msg = "no route"
        raise requests.ConnectionError(msg)

    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(DownloadError, match="go online, or open a sample"):
        sample_data.cell_nuclei()


def test_a_file_in_the_cache_is_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path))
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "x.bin").write_bytes(b"voxels")
    digest = hashlib.sha256(b"voxels").hexdigest()
    path = fetch(Download("x.bin", "https://example.invalid/x.bin", digest))
    assert path.read_bytes() == b"voxels"


@pytest.mark.loopback
def test_a_download_with_another_hash_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    served = tmp_path / "served"
    served.mkdir()
    (served / "x.bin").write_bytes(b"something else")
    handler = functools.partial(Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path / "cache"))
    url = f"http://127.0.0.1:{server.server_port}/x.bin"
    try:
        with pytest.raises(DownloadError, match=r"x\.bin"):
            fetch(Download("x.bin", url, hashlib.sha256(b"voxels").hexdigest()))
    finally:
        server.shutdown()
        server.server_close()
    assert not list((tmp_path / "cache").rglob("x.bin"))
