from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from PIL import Image as Pillow

from napari_medvlseg.cli import main
from napari_medvlseg.cli_interrupts import Interrupted, interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
INTERRUPTED = "medvlseg: interrupted; nothing half-written is left\n"


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Let child processes hear SIGINT even where the tests are a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def program(
    folder: Path, command: str, *prefix: str
) -> subprocess.CompletedProcess[str]:
    """Run the program as ``python -m`` does, with the text of another command.

    Only ``-m`` comes to where Python prefers SIGINT to the exit code.
    """
    script = """
        import atexit, os, signal, sys
        from pathlib import Path
        from napari_medvlseg import cli, cli_models
        from napari_medvlseg.core.io.write import staging_folder

        def stop(*numbers):
            for number in numbers:
                os.kill(os.getpid(), number)

        cli_models.run_list = run
        sys.argv[1:] = ["models", "list"]
        sys.exit(cli.main())
    """
    head, _, tail = dedent(script).partition("cli_models.run_list")
    text = f"{head}{dedent(command)}\ncli_models.run_list{tail}"
    (folder / "program.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [*prefix, sys.executable, "-m", "program"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def wait_for(text: str, log: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not log.is_file() or text not in log.read_text("utf-8"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{text!r} is not in the log"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("loading", signal.SIGINT),
        ("segmenting", signal.SIGINT),
        ("segmenting", signal.SIGTERM),
    ],
)
def test_an_interrupted_run_exits_130_and_leaves_nothing(
    tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    path, log = tmp_path / "a.png", tmp_path / "log.txt"
    Pillow.new("RGB", (50, 40)).save(path)
    prompt = ["--prompt", "skin lesion"]
    command = ["-m", "napari_medvlseg", "segment", str(path), *prompt]
    process = subprocess.Popen(
        [sys.executable, *command, "--samples", "100", "--log", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(stage, log, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.png", "log.txt"}


@pytest.mark.parametrize("module", ["napari_medvlseg.cli", "numpy"])
def test_a_signal_while_the_first_modules_are_imported_is_heard(module: str) -> None:
    script = f"""
        import importlib.abc, os, signal, sys

        class Stop(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "{module}":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Stop())
        sys.argv[1:] = ["models", "list"]
        from napari_medvlseg.__main__ import main
        sys.exit(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", INTERRUPTED)


@SIGNALS
def test_code_that_is_made_from_text_does_not_change_the_exit_code(
    tmp_path: Path, number: int
) -> None:
    """A signal may come while torch's import makes a dataclass: that is such code."""
    command = f"""
        def run(_):
            exec("stop({number})", globals())
    """
    done = program(tmp_path, command)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", INTERRUPTED)


def test_further_signals_do_not_cut_the_clean_up_short(tmp_path: Path) -> None:
    """Neither in a handler, nor in one within it, nor when what ran is thrown away."""
    command = f"""
        OTHERS = ({int(signal.SIGTERM)}, {int(signal.SIGINT)})

        def steps():
            try:
                yield
            finally:
                stop(*OTHERS)

        def run(_):
            with staging_folder(Path("made/output")) as staging:
                (staging / "half").write_text("half")
                try:
                    for _ in steps():
                        stop({int(signal.SIGINT)})
                finally:
                    stop(*OTHERS)
                    try:
                        raise OSError
                    except OSError:
                        stop(*OTHERS)
                    Path("cleaned").touch()
    """
    done = program(tmp_path, command)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", INTERRUPTED)
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {
        "program.py",
        "cleaned",
    }


@SIGNALS
def test_a_signal_after_the_clean_up_ends_the_process_at_once(
    tmp_path: Path, number: int
) -> None:
    command = f"""
        atexit.register(lambda: stop({number}))

        def run(_):
            stop({number})
    """
    done = program(tmp_path, command)
    assert (done.returncode, done.stderr) == (-number, INTERRUPTED)


def test_a_background_job_goes_on_when_the_shell_is_interrupted(
    tmp_path: Path,
) -> None:
    command = f"""
        def run(_):
            stop({int(signal.SIGINT)})
            return 0
    """
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    done = program(tmp_path, command, *ignoring)
    assert (done.returncode, done.stderr) == (0, "")


@SIGNALS
def test_a_signal_that_was_swallowed_is_followed_by_one_that_is_not(
    number: signal.Signals,
) -> None:
    with interrupts(process_ends=False) as ignore:
        caught = 0
        for _ in range(2):
            try:
                signal.raise_signal(number)
            except Interrupted:
                caught += 1
        assert caught == 2
        ignore()
        signal.raise_signal(number)


def test_the_callers_own_handlers_come_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    assert main(["models", "list"]) == 0
    assert [signal.getsignal(number) for number in numbers] == before
