"""A session as a folder: what is saved comes back, and nothing is lost on the way."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from napari_medvlseg.core.errors import OutputError, UnsupportedFormatError
from napari_medvlseg.core.io.workspace import (
    FILE,
    SavedImage,
    SavedResult,
    Workspace,
    image_fingerprint,
    is_same_image,
    is_workspace,
    load_workspace,
    save_workspace,
)
from napari_medvlseg.core.types import Midline, Segmentation


def _segmentation() -> Segmentation:
    random = np.random.default_rng(0)
    maps = random.random((4, 2, 3, 4, 5)).astype(np.float32)
    affine = np.array(
        [[0.1, 0, 3, -7], [0, math.pi, 0, 1 / 3], [2, 0, 0.1, 5], [0, 0, 0, 1.0]]
    )
    return Segmentation(
        prompts=("left kidney", "опухоль"),
        labels=random.integers(0, 3, (3, 4, 5)).astype(np.uint8),
        probability=maps[0],
        predictive_entropy=maps[1],
        mutual_information=maps[2],
        expected_entropy=maps[3],
        affine=affine,
        threshold=0.35,
        min_foreground=0.001,
        slice_axis=2,
        provenance={"model": "compact", "seed": 3, "versions": {"torch": "2"}},
        units="mm",
        doubtful_from=0.7,
        midline=Midline(axis=0, index=1.5, rightward=True),
    )


def _workspace(image: Path) -> Workspace:
    found = _segmentation()
    return Workspace(
        images=(
            SavedImage(
                name="scan",
                path=image,
                fingerprint=image_fingerprint(image),
                look={"scale": [1.0, 2.5], "visible": False},
            ),
            SavedImage(
                name="made here",
                path=None,
                fingerprint={},
                look={},
                voxels=np.arange(12, dtype=np.int16).reshape(3, 4),
            ),
        ),
        results=(
            SavedResult(image=1, segmentation=found, job={"model": "compact"}),
            SavedResult(
                image=0,
                segmentation=replace(found, exclusive=True),
                job={"kept": [0, 1]},
                edited=found.labels + 1,
            ),
        ),
        controls={"prompt": "a\nb", "samples": 7},
        view={"ndisplay": 3},
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that stands for an image."""
    path = tmp_path / "data" / "scan.png"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 20)
    return path


def test_what_is_saved_comes_back_bit_by_bit(tmp_path: Path, image: Path) -> None:
    before = _workspace(image)
    save_workspace(tmp_path / "session", before)
    after = load_workspace(tmp_path / "session")
    assert (after.controls, after.view) == (before.controls, before.view)
    for image_after, image_before in zip(after.images, before.images, strict=True):
        for name in ("name", "path", "look", "fingerprint"):
            assert getattr(image_after, name) == getattr(image_before, name)
    assert after.images[0].voxels is None
    kept = after.images[1].voxels
    assert kept is not None
    np.testing.assert_array_equal(kept, np.arange(12).reshape(3, 4))
    assert kept.dtype == np.int16
    for one, other in zip(after.results, before.results, strict=True):
        assert (one.image, one.job) == (other.image, other.job)
        for field in fields(Segmentation):
            a, b = (getattr(r.segmentation, field.name) for r in (one, other))
            if isinstance(b, np.ndarray):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b, field.name
    assert after.results[0].edited is None
    np.testing.assert_array_equal(after.results[1].edited, before.results[1].edited)


def test_a_session_that_moved_with_its_images_finds_them(
    tmp_path: Path, image: Path
) -> None:
    save_workspace(tmp_path / "data" / "session", _workspace(image))
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    after = load_workspace(tmp_path / "elsewhere" / "session")
    assert after.images[0].path == tmp_path / "elsewhere" / "scan.png"


def test_an_image_that_is_gone_keeps_its_old_path(tmp_path: Path, image: Path) -> None:
    save_workspace(tmp_path / "session", _workspace(image))
    image.unlink()
    after = load_workspace(tmp_path / "session")
    assert after.images[0].path == image
    assert not is_same_image(image, after.images[0])


def test_another_image_of_the_same_name_is_told_apart(
    tmp_path: Path, image: Path
) -> None:
    saved = _workspace(image).images[0]
    assert is_same_image(image, saved)
    copy = tmp_path / "copy.png"
    shutil.copy(image, copy)
    assert is_same_image(copy, saved)
    changed = bytearray(image.read_bytes())
    changed[-1] ^= 1
    image.write_bytes(changed)
    assert not is_same_image(image, saved)
    assert not is_same_image(tmp_path / "nowhere", saved)


def test_a_folder_of_slices_is_known_by_its_files(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(b"x" * (number + 1))
    assert image_fingerprint(tmp_path) == {"files": 3, "bytes": 6}


def test_saving_again_replaces_the_session_and_keeps_other_files(
    tmp_path: Path, image: Path
) -> None:
    folder, before = tmp_path / "session", _workspace(image)
    save_workspace(folder, before)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    save_workspace(folder, replace(before, results=before.results[:1]))
    assert len(load_workspace(folder).results) == 1
    names = {path.name for path in folder.iterdir()}
    assert names == {FILE, "image-1.npy", "result-0.npz", "notes.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {"data", "session"}


@pytest.mark.parametrize("step", ["savez_compressed", "rename"])
def test_a_full_disk_leaves_the_earlier_session_whole(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder, before = tmp_path / "session", _workspace(image)
    save_workspace(folder, before)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    if step == "rename":
        original = Path.rename
        monkeypatch.setattr(
            Path,
            "rename",
            lambda self, target: (
                refuse()
                if (self / FILE).exists()
                and target == folder
                and "old" not in self.parent.name
                else original(self, target)
            ),
        )
    else:
        monkeypatch.setattr(np, step, refuse)
    with pytest.raises(OutputError, match="No space left"):
        save_workspace(
            folder, replace(before, results=()) if step == "rename" else before
        )
    monkeypatch.undo()
    assert len(load_workspace(folder).results) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"data", "session"}


def test_a_folder_with_other_things_is_not_replaced(image: Path) -> None:
    with pytest.raises(OutputError, match=r"data: expected a new folder .* other"):
        save_workspace(image.parent, _workspace(image))
    assert image.exists()
    with pytest.raises(OutputError, match="got a file"):
        save_workspace(image, _workspace(image))
    assert not is_workspace(image.parent)


@pytest.mark.parametrize("name", [FILE, "result-1.npz", "image-1.npy"])
def test_a_damaged_session_is_told_in_a_sentence(
    tmp_path: Path, image: Path, name: str
) -> None:
    folder = tmp_path / "session"
    save_workspace(folder, _workspace(image))
    (folder / name).write_bytes((folder / name).read_bytes()[:-60] + b"\0" * 3)
    with pytest.raises(UnsupportedFormatError, match="expected a"):
        load_workspace(folder)
    (folder / name).unlink()
    with pytest.raises(UnsupportedFormatError, match="expected a"):
        load_workspace(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "of format 1, got 2; update"),
        ({"results": [{"image": 5}]}, "expected a whole session"),
        ({"images": []}, "names an image that is not there"),
        ({"controls": 3}, "expected a whole session"),
    ],
)
def test_a_foreign_or_newer_session_is_refused(
    tmp_path: Path, image: Path, change: dict[str, object], expected: str
) -> None:
    folder = tmp_path / "session"
    save_workspace(folder, _workspace(image))
    told = json.loads((folder / FILE).read_text("utf-8")) | change
    (folder / FILE).write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UnsupportedFormatError, match=expected):
        load_workspace(folder)


def test_pickles_are_not_read(tmp_path: Path, image: Path) -> None:
    folder = tmp_path / "session"
    save_workspace(folder, _workspace(image))
    evil = np.array([{"a": 1}], dtype=object)
    np.save(folder / "image-1.npy", evil, allow_pickle=True)
    with pytest.raises(UnsupportedFormatError, match="expected a whole session"):
        load_workspace(folder)
