"""Finished slices in a hidden folder."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core.io.kept import (
    SETTINGS,
    KeptSlices,
    forget,
    left_over,
    what_differs,
)

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_HERE = {"image": "abc", "prompts": ["polyp"], "seed": 0}


def means(seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = ((2, 5, 6), (2, 3, 3))  # of prompts by tiles and whole
    return [random.random(shape, dtype=np.float32) for shape in shapes]


def test_a_slice_comes_back_bit_for_bit(tmp_path: Path) -> None:
    KeptSlices(tmp_path / "out", "scan", SETTINGS_HERE).save(7, means(7))
    again = KeptSlices(tmp_path / "out", "scan", SETTINGS_HERE)
    assert again.count == 1
    assert again.load(6) is None
    loaded = again.load(7)
    assert loaded is not None
    for ours, theirs in zip(loaded, means(7), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_is_made_before_the_first_slice_or_left_after_the_last(
    tmp_path: Path,
) -> None:
    kept = KeptSlices(tmp_path / "out", "scan", SETTINGS_HERE)
    assert kept.count == 0
    assert not (tmp_path / "out").exists()
    kept.save(0, means(0))
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith(".scan-")
    assert {path.name for path in folder.iterdir()} == {SETTINGS, "00000.npz"}
    kept.remove()
    assert list((tmp_path / "out").iterdir()) == []


def test_runs_that_differ_never_meet(tmp_path: Path) -> None:
    first = KeptSlices(tmp_path, "scan", SETTINGS_HERE)
    first.save(0, means(0))
    KeptSlices(tmp_path, "scan-2", SETTINGS_HERE).save(0, means(0))
    other = KeptSlices(tmp_path, "scan", {**SETTINGS_HERE, "seed": 1})
    assert other.load(0) is None
    assert other.others() == [SETTINGS_HERE]
    forget(tmp_path, "scan")
    assert first.count == 0
    assert KeptSlices(tmp_path, "scan-2", SETTINGS_HERE).count == 1


def test_runs_that_nobody_goes_on_with_are_found_by_their_age(tmp_path: Path) -> None:
    KeptSlices(tmp_path, "scan", SETTINGS_HERE).save(0, means(0))
    assert left_over(tmp_path) == []
    assert [folder.name[:6] for folder in left_over(tmp_path, idle_seconds=-9)] == [
        ".scan-"
    ]


def test_a_name_with_signs_of_a_pattern_is_a_name(tmp_path: Path) -> None:
    KeptSlices(tmp_path, "a[1]*", SETTINGS_HERE).save(0, means(0))
    other = KeptSlices(tmp_path, "a[1]*", {**SETTINGS_HERE, "seed": 1})
    assert other.others() == [SETTINGS_HERE]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_slice_counts_as_not_there(tmp_path: Path, damage: str) -> None:
    kept = KeptSlices(tmp_path, "scan", SETTINGS_HERE)
    kept.save(0, means(0))
    (path,) = tmp_path.glob(".scan*/*.npz")
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    contents: dict[str, bytes] = {
        "cut": bytes(data[: len(data) // 2]),
        "flipped": bytes(data),
        "empty": b"",
    }
    path.write_bytes(contents[damage])
    assert kept.load(0) is None


def test_a_disk_that_refuses_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    kept = KeptSlices(tmp_path / "out", "scan", SETTINGS_HERE)
    with caplog.at_level(logging.WARNING):
        kept.save(0, means(0))
        kept.save(1, means(1))
    assert len(caplog.messages) == 1
    assert "will begin anew" in caplog.messages[0]
    assert kept.load(0) is None


def test_a_disk_that_is_full_keeps_no_half_slice(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of files are POSIX")
    kept = KeptSlices(tmp_path / "out", "scan", SETTINGS_HERE)
    large = [np.random.default_rng(0).random((2, 200, 200), np.float32)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept.save(0, means(0))
    there = sorted((tmp_path / "out").rglob("*"))
    other = KeptSlices(tmp_path / "other", "scan", SETTINGS_HERE)
    try:  # refuses at the last write as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        kept.save(1, large)
        other.save(1, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted((tmp_path / "out").rglob("*")) == there
    assert list((tmp_path / "other").iterdir()) == []


def test_what_differs_is_told_in_words() -> None:
    theirs = {"image": "xyz", "prompts": ["polyp"], "seed": 1}
    assert what_differs(SETTINGS_HERE, theirs) == "another image, seed 1, not 0"
