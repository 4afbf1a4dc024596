"""Bundles on a stick: packed, carried, installed, checked and removed."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core import bundle
from napari_medvlseg.core.checkpoints import copying
from napari_medvlseg.core.checkpoints.store import (
    check_model,
    holds_bundle,
    install_bundle,
    installed_ids,
    pack_bundle,
    remove_model,
)
from napari_medvlseg.core.errors import CheckpointError, OutputError
from tests.small_checkpoint import isolate, save_checkpoint, save_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def _install(source: Path, name: str | None = None, *, overwrite: bool = False) -> Path:
    path = list(install_bundle(source, name, overwrite=overwrite))[-1].path
    assert path is not None
    return path


def _models(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "models"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("name", ["stick/random.zip", "stick/random"])
def test_what_is_packed_is_installed_elsewhere_to_the_byte(
    random_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(copying, "CHUNK_BYTES", 100_000)
    target = tmp_path / name
    steps = list(pack_bundle(bundle.read_card(random_bundle), target))
    assert len(steps) > 5
    sizes = sum(path.stat().st_size for path in random_bundle.iterdir())
    assert steps[-1].done == steps[-1].total > 0.9 * sizes
    assert holds_bundle(target)
    folder = _install(target)
    assert folder == tmp_path / "cache" / "models" / "random"
    for path in random_bundle.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    check_model(bundle.model_card("random"))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_bundle_gets_the_name_that_is_asked_for(
    random_bundle: Path, tmp_path: Path
) -> None:
    _install(random_bundle, "mine")
    card = bundle.model_card("mine")
    assert card.model_id == "mine"
    check_model(card)
    with pytest.raises(OutputError, match="--overwrite"):
        _install(random_bundle, "mine")
    _install(random_bundle, "mine", overwrite=True)
    assert _models(tmp_path) == ["mine"]
    with pytest.raises(CheckpointError, match="name of letters"):
        _install(random_bundle, "a/b")


@pytest.mark.parametrize("damage", ["changed", "cut", "absent"])
def test_a_damaged_bundle_is_not_installed(
    random_bundle: Path, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(random_bundle, copy)
    path = copy / bundle.WEIGHTS
    data = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + (b"x" if damage == "changed" else b""))
    with pytest.raises(CheckpointError, match="copy it again"):
        _install(copy)
    assert _models(tmp_path) == []
    with pytest.raises(CheckpointError, match="copy it again"):
        list(pack_bundle(bundle.read_card(copy), tmp_path / "out.zip"))
    assert not (tmp_path / "out.zip").exists()


def test_half_a_zip_is_not_installed(random_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.zip"
    list(pack_bundle(bundle.read_card(random_bundle), target))
    data = target.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="expected a bundle's folder or zip"):
        _install(target)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    target.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        _install(target)
    assert _models(tmp_path) == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "..\\evil", "a/b/evil"])
def test_a_zip_writes_nothing_outside_its_place(
    random_bundle: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "x.zip"
    list(pack_bundle(bundle.read_card(random_bundle), target))
    sums = (random_bundle / bundle.SUMS).read_text()
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"evil")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"random/{bundle.SUMS}", sums + f"{'0' * 64}  {name}\n")
    with pytest.raises(CheckpointError, match="copy it again"):
        _install(target)
    assert list(tmp_path.rglob("*evil*")) == []


def test_a_zip_that_unpacks_to_far_more_is_refused(
    random_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.zip"
    list(pack_bundle(bundle.read_card(random_bundle), target))
    monkeypatch.setattr(copying, "SMALL_BYTES", 10)
    with pytest.raises(CheckpointError, match="small file"):
        _install(target)


def test_an_existing_target_is_replaced_only_on_demand(
    random_bundle: Path, tmp_path: Path
) -> None:
    target = tmp_path / "x.zip"
    target.write_text("mine")
    card = bundle.read_card(random_bundle)
    with pytest.raises(OutputError, match="--overwrite"):
        list(pack_bundle(card, target))
    assert target.read_text() == "mine"
    list(pack_bundle(card, target, overwrite=True))
    assert holds_bundle(target)


def test_a_vocabulary_that_was_copied_in_travels_with_its_hash(tmp_path: Path) -> None:
    from napari_medvlseg.core.checkpoints.importing import (
        ImportOptions,
        import_checkpoint,
    )

    path = save_checkpoint(tmp_path / "x.pth")
    card = list(import_checkpoint(path, ImportOptions()))[-1].card
    assert card is not None
    list(pack_bundle(card, tmp_path / "incomplete.zip"))
    assert bundle.read_card(_install(tmp_path / "incomplete.zip", "a")).missing
    save_vocabulary(card.path)
    list(pack_bundle(bundle.read_card(card.path), tmp_path / "whole.zip"))
    folder = _install(tmp_path / "whole.zip", "b")
    assert "vocab.txt" in bundle.read_sums(folder)
    assert not bundle.read_card(folder).missing
    (card.path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(CheckpointError, match="word pieces"):
        check_model(bundle.read_card(card.path))


def test_a_model_is_removed_and_only_that(random_bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _install(random_bundle, name)
    ours = ["cardiac-3d", "compact", "hippocampus-3d"]
    assert installed_ids() == ["a", "b", *ours]
    assert remove_model("a") == tmp_path / "cache" / "models" / "a"
    assert _models(tmp_path) == ["b"]
    with pytest.raises(OutputError, match="comes with the package"):
        remove_model("compact")
    for name in ("a", "..", "", "../models/b"):
        with pytest.raises(CheckpointError, match=r"installed model \(b\)"):
            remove_model(name)
    assert _models(tmp_path) == ["b"]


def test_a_pytorch_checkpoint_is_no_bundle_although_it_is_a_zip(tmp_path: Path) -> None:
    assert not holds_bundle(save_checkpoint(tmp_path / "x.pth"))
    (tmp_path / "text").write_text("hello")
    assert not holds_bundle(tmp_path / "text")


@pytest.mark.parametrize("config", ["{", "[]", "{}"])
def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(CheckpointError, match=bundle.CONFIG):
        _install(tmp_path / "x")
    (tmp_path / "x" / bundle.CONFIG).write_text(config)
    with pytest.raises(CheckpointError, match=bundle.CONFIG):
        _install(tmp_path / "x")
    (tmp_path / "x" / bundle.CONFIG).write_text(json.dumps({"model_id": "x"}))
    with pytest.raises(CheckpointError, match=bundle.SUMS):
        _install(tmp_path / "x")
