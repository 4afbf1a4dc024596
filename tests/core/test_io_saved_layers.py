"""Layers of the user's own are read as they were written, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.saved_layers import SavedLayer
from napari_medvlseg.core.io.workspace import (
    FILE,
    Workspace,
    load_workspace,
    save_workspace,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    layer = SavedLayer(
        kind="points",
        name="landmarks",
        look={"opacity": 0.5},
        arrays={"data": np.eye(2), "symbol": np.array(["x", "disc"], "U32")},
    )
    workspace = Workspace(images=(), results=(), controls={}, view={}, layers=(layer,))
    save_workspace(tmp_path / "session", workspace)
    return tmp_path / "session"


def test_layers_come_back_as_they_were(folder: Path) -> None:
    (layer,) = load_workspace(folder).layers
    assert (layer.kind, layer.name, layer.look) == (
        *("points", "landmarks"),
        {"opacity": 0.5},
    )
    np.testing.assert_array_equal(layer.arrays["data"], np.eye(2))
    assert layer.arrays["symbol"].tolist() == ["x", "disc"]


def test_layers_that_are_gone_leave_no_file_behind(folder: Path) -> None:
    save_workspace(folder, Workspace(images=(), results=(), controls={}, view={}))
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize("damage", ["cut", "gone", "kind"])
def test_damaged_layers_are_told(folder: Path, damage: str) -> None:
    path = folder / "layer-0.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    else:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        told["layers"][0]["kind"] = "image"
        (folder / FILE).write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UnsupportedFormatError, match="whole session"):
        load_workspace(folder)
