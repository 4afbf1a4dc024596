"""Checkpoints with the authors' keys and small shapes, and a hub that serves them."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_medvlseg.core.backbones.vocabulary import SPECIAL, WORD_PIECES
from napari_medvlseg.core.models import medclipseg_layout
from napari_medvlseg.core.models.medclipseg_layout import Layout, aliases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from torch import Tensor

SMALL = {"DIM": 8, "TEXT_DIM": 6, "EMBED_DIM": 4, "BERT_WORDS": 50, "CLIP_WORDS": 40}
WORDS = (*SPECIAL, *(f"word{number}" for number in range(WORD_PIECES - len(SPECIAL))))


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make networks small, and look for models and vocabularies in a test's folder."""
    for name, size in SMALL.items():
        monkeypatch.setattr(medclipseg_layout, name, size)
    monkeypatch.setenv("MEDVLSEG_CACHE", str(folder / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))


def state_of(variant: str = "unimedclip", **sizes: int) -> dict[str, Tensor]:
    """Return random tensors under a variant's keys; repeated keys share theirs."""
    generator = torch.Generator().manual_seed(0)
    repeated = aliases(variant)
    shapes = Layout(variant=variant, adapter_dim=sizes.get("adapter_dim", 4)).shapes()
    state = {
        key: torch.randn(shape, generator=generator)
        for key, shape in shapes.items()
        if key not in repeated
    }
    return {key: state[repeated.get(key, key)] for key in shapes}


def save_checkpoint(
    path: Path, state: dict[str, Tensor] | None = None, **more: Any
) -> Path:
    """Write what the authors' training writes."""
    held = {
        "model": state_of() if state is None else state,
        "epoch": 99,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        "scheduler": {"T_max": 100, "_last_lr": [1e-4]},
        "best_dice": np.float64(0.87),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**held, **more}, path)
    return path


def save_vocabulary(folder: Path) -> Path:
    """Write a vocabulary of BiomedBERT's size and special words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


class Hub:
    """What the server holds, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """By ``REPO/FILE``; those called ``.pth`` are large ones."""
        self.cut_after: list[int] = []
        """Bytes after which the next answers break off, one for each."""
        self.corrupt = False
        self.ranges = True
        self.etags = True
        self.chunk_gate: threading.Event | None = None
        """If there is one, half of a large file is sent before it is waited for."""
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: a redirect for large files, small ones themselves."""

    server: Any
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer until the client has gone."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_arguments: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub: Hub = self.server.hub
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if self.path.startswith("/storage/"):
            self._send(hub, hub.files[self.path.removeprefix("/storage/")], body=body)
            return
        name = self.path.lstrip("/").replace("/resolve/main/", "/")
        data = hub.files.get(name)
        if data is None:
            self._head(404, {"Content-Length": "0"})
        elif name.endswith(".pth"):
            self._head(
                302,
                {
                    "Location": f"{hub.url}/storage/{name}",
                    "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                    "X-Linked-Size": str(len(data)),
                    "X-Repo-Commit": "0" * 40,
                    "Content-Length": "0",
                },
            )
        else:
            self._send(hub, data, body=body)

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, hub: Hub, data: bytes, *, body: bool) -> None:
        blob = b"blob %d\0" % len(data) + data
        git_hash = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        headers = {"ETag": f'"{git_hash}"'} if hub.etags else {}
        start = 0
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and hub.ranges:
            start = int(asked.group(1))
            last = len(data) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        self._head(206 if start else 200, headers)
        if not body:
            return
        sent = data[start:]
        if hub.corrupt:
            sent = sent[:-1] + bytes([sent[-1] ^ 1])
        if hub.chunk_gate is not None:
            self.wfile.write(sent[: len(sent) // 2])
            hub.chunk_gate.wait(30)
            sent = sent[len(sent) // 2 :]
        if hub.cut_after:
            sent = sent[: hub.cut_after.pop(0)]
            self.close_connection = True
        self.wfile.write(sent)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub on this machine's own address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = hub  # type: ignore[attr-defined]
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        if hub.chunk_gate is not None:
            hub.chunk_gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
