from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = ["--prompt", "skin lesion in the dermatoscopy image"]
QUICK = ["--samples", "2", "--device", "cpu"]


def save_picture(path: Path, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Pillow.fromarray(pixels).save(path)
    return path


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_medvlseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def one_line(captured: str) -> str:
    lines = captured.strip().splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("medvlseg: error: ")
    return lines[0]


def test_the_program_keeps_results_and_progress_apart(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png")
    done = program("segment", path, *PROMPT, *QUICK)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("a.png: ") for line in done.stdout.splitlines())
    assert "written to" in done.stdout
    wrong = program("segment", tmp_path / "absent.png", *PROMPT)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    one_line(wrong.stderr)


@pytest.mark.skipif(os.name != "posix", reason="pipes close like this on POSIX")
def test_a_reader_that_has_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_medvlseg", "models", "show", "compact"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert errors == ""


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png")
    command = [sys.executable, "-m", "napari_medvlseg", "segment", str(path), *PROMPT]
    runs = [
        subprocess.Popen(
            [*command, *QUICK, "--output", str(tmp_path / str(number))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    first, second = (
        tifffile.imread(tmp_path / str(n) / "a_probability.tif") for n in range(2)
    )
    assert np.array_equal(first, second)
