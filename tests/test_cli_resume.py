"""`medvlseg segment` of volumes: interrupted and gone on with; windows; smoothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_medvlseg.cli import main
from napari_medvlseg.core.io.kept import KeptSlices
from napari_medvlseg.core.io.write import MAPS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("loaded_once")

PROMPT = ["--prompt", "skin lesion in the dermatoscopy image"]
QUICK = ["--samples", "2", "--device", "cpu"]
FILES = ("labels", *MAPS)


def save_volume(path: Path) -> Path:
    shape = (24, 20, 4)
    voxels = np.random.default_rng(0).integers(-1000, 1000, shape, dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 4, 1])), path)
    return path


def results(folder: Path, stem: str = "ct") -> list[np.ndarray]:
    paths = [folder / f"{stem}_{name}.nii.gz" for name in FILES]
    return [np.asarray(nib.nifti1.load(path).dataobj) for path in paths]


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".*.unfinished"))


@pytest.fixture
def interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Interrupt a run when it has kept two slices; return its command."""
    command = ["segment", str(save_volume(tmp_path / "ct.nii.gz")), *PROMPT, *QUICK]
    save = KeptSlices.save

    def save_two(self: KeptSlices, index: int, arrays: Any) -> None:
        save(self, index, arrays)
        if self.count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeptSlices, "save", save_two)
        assert main(command) == 130
    told = capsys.readouterr()
    assert told.out == ""
    folder = tmp_path / "medvlseg-output"
    assert list(folder.iterdir()) == unfinished(folder) != []
    (kept,) = unfinished(folder)
    assert f"2 slices are kept in {kept}; the same command goes on from" in told.err
    return command


def test_the_same_command_goes_on_and_gives_the_same(
    interrupted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*interrupted, "--resume"]) == 0
    assert "ct: goes on after 2 finished slices" in capsys.readouterr().err
    folder = tmp_path / "medvlseg-output"
    assert unfinished(folder) == []
    report = json.loads((folder / "ct.json").read_text("utf-8"))
    assert report["provenance"]["resumed_slices"] == 2
    assert main([*interrupted, "--output", str(tmp_path / "whole")]) == 0
    for ours, theirs in zip(results(folder), results(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_settings_begin_anew_or_are_refused(
    interrupted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [*interrupted, "--seed", "5"]
    assert main([*other, "--resume"]) == 2
    told = capsys.readouterr().err
    assert "unfinished run of the same command, found one with seed 0, not 5" in told
    assert unfinished(tmp_path / "medvlseg-output")
    assert main(other) == 0
    told = capsys.readouterr().err
    assert "begins anew; the unfinished run there had seed 0, not 5" in told
    assert unfinished(tmp_path / "medvlseg-output") == []


def test_an_unfinished_run_is_kept_until_another_has_written_the_same_files(
    interrupted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "medvlseg-output"
    with monkeypatch.context() as patch:
        patch.setattr(KeptSlices, "save", interrupt)
        assert main([*interrupted, "--seed", "5"]) == 130
    assert len(list(folder.glob(".*.unfinished/*.npz"))) == 2
    assert main([*interrupted, "--slice", "1"]) == 0
    assert unfinished(folder) == []
    assert (folder / "ct.json").exists()


@pytest.mark.usefixtures("interrupted")
def test_an_unfinished_run_that_nobody_goes_on_with_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept,) = unfinished(tmp_path / "medvlseg-output")
    other = str(save_volume(tmp_path / "mr.nii.gz"))
    command = ["segment", other, *PROMPT, *QUICK, "--slice", "1"]
    assert main(command) == 0
    assert str(kept) not in capsys.readouterr().err  # it may be at work
    two_hours_ago = time.time() - 7200
    os.utime(kept, (two_hours_ago, two_hours_ago))
    assert main([*command, "--overwrite"]) == 0
    told = capsys.readouterr().err
    assert f"{kept}: the slices of an unfinished run; its command goes on" in told
    assert kept.exists()


def test_a_run_can_be_told_to_begin_anew_and_keep_nothing(
    interrupted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(KeptSlices, "save", refuse)
    assert main([*interrupted, "--no-resume"]) == 0
    folder = tmp_path / "medvlseg-output"
    assert unfinished(folder) == []
    report = json.loads((folder / "ct.json").read_text("utf-8"))
    assert report["provenance"]["resumed_slices"] == 0


def test_there_must_be_something_to_go_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_volume(tmp_path / "ct.nii.gz")
    assert main(["segment", str(path), *PROMPT, *QUICK, "--resume"]) == 2
    assert "unfinished run of the same command, found none" in capsys.readouterr().err
    assert not (tmp_path / "medvlseg-output").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_run_that_is_killed_goes_on_too(tmp_path: Path) -> None:
    """It dies in the middle of writing its third slice."""
    path = save_volume(tmp_path / "ct.nii.gz")
    command = ["segment", str(path), *PROMPT, *QUICK]
    script = """
import os, signal, sys
import numpy as np
from napari_medvlseg.cli import main

whole, written = np.savez, []

def savez(file, *arrays):
    if len(written) == 2:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file, *arrays)
    written.append(file)

np.savez = savez
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "medvlseg-output"
    (left,) = unfinished(folder)
    assert len(list(left.glob("*.npz"))) == 2
    assert main([*command, "--resume"]) == 0
    assert unfinished(folder) == []
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    for ours, theirs in zip(results(folder), results(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_ct_gets_a_hint_until_a_window_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_volume(tmp_path / "ct.nii.gz")
    command = ["segment", str(path), *PROMPT, *QUICK, "--slice", "1"]
    assert main(command) == 0
    assert "ct.nii.gz: this looks like CT" in capsys.readouterr().err
    windowed = [*command, "--overwrite", "--intensity", "L-600W1500"]
    assert main(windowed) == 0
    assert "CT" not in capsys.readouterr().err
    folder = tmp_path / "medvlseg-output"
    told = json.loads((folder / "ct.json").read_text("utf-8"))["provenance"]
    assert told["intensity"]["black"] == -1350
    assert main([*command, "--intensity", "lungs"]) == 2
    assert "intensity must be one of" in capsys.readouterr().err


def test_slices_are_smoothed_on_request(tmp_path: Path) -> None:
    path = save_volume(tmp_path / "ct.nii.gz")
    command = ["segment", str(path), *PROMPT, *QUICK, "--output", str(tmp_path / "a")]
    assert main([*command, "--smooth-slices", "4"]) == 0
    told = json.loads((tmp_path / "a" / "ct.json").read_text("utf-8"))["provenance"]
    assert told["smoothing"] == {"sigma": 4.0, "unit": "mm"}
