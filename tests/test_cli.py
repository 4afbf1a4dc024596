from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_medvlseg import cli_segment
from napari_medvlseg.cli import main

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = ["--prompt", "skin lesion in the dermatoscopy image"]
COMMANDS = ["segment", "evaluate", "models", "caption", "train", "bench"]


def save_picture(path: Path, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Pillow.fromarray(pixels).save(path)
    return path


def one_line(captured: str) -> str:
    lines = captured.strip().splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("medvlseg: error: ")
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(
            [command, "list", "--help"] if command == "models" else [command, "--help"]
        )
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  medvlseg {command}" in text
    assert "exit codes" in text
    assert "`" not in text


def test_help_answers_without_torch_and_within_a_second() -> None:
    code = """
import sys, time
started = time.process_time()
from napari_medvlseg.cli import main
try:
    main(["--help"])
except SystemExit:
    heavy = {"torch", "monai", "skimage"} & set(sys.modules)
    print(time.process_time() - started, *heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    seconds, *heavy = done.stdout.splitlines()[-1].split()
    assert heavy == []
    assert float(seconds) < 1


def test_the_flags_have_the_defaults_of_the_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--samples N Monte Carlo draws, 1 to 100. [30]" in text
    assert "One of auto, cpu, cuda, mps. [auto]" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["segment", "a.png"], "required: --prompt"),
        (["segment", "absent.png", *PROMPT], "absent.png: expected an image file"),
        (["segment", "*.absent", *PROMPT], "expected images there"),
        (["segment", "a.png", "--prompt", " "], "expected a prompt in words"),
        (["segment", "a.png", "--prompt", "x" * 10_000], "at most 2000 characters"),
        (["segment", "a.png", *PROMPT, *PROMPT], "got one twice"),
        (["segment", "a.png", *PROMPT, "--samples", "0"], "samples must be between"),
        (["segment", "a.png", *PROMPT, "--threshold", "2"], "threshold must be"),
        (["segment", "a.png", *PROMPT, "--model", "vast"], "expected a model id"),
        (["segment", "a.png", *PROMPT, "--log", "no/such/log"], "cannot write the log"),
        (["models", "show", "vast"], "expected a model id"),
        (["evaluate", "--data", "absent"], "check --data"),
        (["evaluate", "--data", "."], "Train_Folder, Val_Folder or Test_Folder"),
        (["caption"], "IMAGE MASK --class NAME, or --data"),
        (["train", "--data", "absent", "--output", "run"], "check --data"),
        (["train", "--data", ".", "--output", "run", "--sizes", "big"], "commas"),
        (["bench", "--repeats", "0"], "repeats must be at least 1"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "a.png")
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse's own way out
        code = int(stopped.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert expected in one_line(captured.err)
    assert captured.out == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"a.png", "run"}


def test_a_bug_keeps_its_traceback_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object) -> int:
        msg = "a bug of ours"
        raise RuntimeError(msg)

    monkeypatch.setattr(cli_segment, "run", wrong)
    log = tmp_path / "log.txt"
    with pytest.raises(RuntimeError, match="a bug of ours"):
        main(["segment", "a.png", *PROMPT, "--log", str(log)])
    assert "a bug of ours" in log.read_text("utf-8")


def test_our_warnings_go_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(_: object) -> int:
        logging.getLogger("napari_medvlseg.core").warning("look here")
        logging.getLogger("others").warning("not ours")
        return 0

    monkeypatch.setattr(cli_segment, "run", warn)
    before = list(logging.getLogger().handlers)
    assert main(["segment", "a.png", *PROMPT]) == 0
    assert capsys.readouterr().err == "medvlseg: WARNING: look here\n"
    assert logging.getLogger().handlers == before


def test_models_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    assert "compact" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    assert "compact" in {
        entry["model"] for entry in json.loads(capsys.readouterr().out)
    }
    assert main(["models", "show", "compact"]) == 0
    shown = capsys.readouterr().out
    assert "# compact" in shown
    assert "SHA-256" in shown
