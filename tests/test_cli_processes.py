"""`medvlseg train` in several processes: one speaks and writes, all end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.processes import free_port, start

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.loopback, pytest.mark.slow]
TINY = ["--batch-size", "2", "--sizes", "32", "--draws", "1"]


def _train(data: Path, output: Path, epochs: int) -> list[str]:
    return [
        *("train", "--preset", "compact", "--data", str(data)),
        *("--output", str(output), "--epochs", str(epochs), *TINY),
    ]


def test_torchrun_trains_and_one_process_speaks(tiny_set: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
        *("-m", "napari_medvlseg", *_train(tiny_set, tmp_path / "run", 1)),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", "."]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("DSC Kvasir") == 1
    assert done.stdout.count("bundle written to") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("checkpoint.pt", "config.json", "curves.csv", "curves.png", "compact"),
    }


@pytest.mark.parametrize("stopped", [(0, 1), (1,)], ids=["all", "one"])
def test_a_stop_ends_all_processes(
    tiny_set: Path, tmp_path: Path, stopped: tuple[int, ...]
) -> None:
    """One that was not told to stop says that it lost another."""
    run = tmp_path / "run"
    both = start(f"""
import sys
from napari_medvlseg.cli import main
sys.exit(main({_train(tiny_set, run, 500)!r}))
""")
    deadline = time.monotonic() + 200
    while not (run / "checkpoint.pt").exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in both)
        time.sleep(0.1)
    for rank in stopped:
        both[rank].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=100)[1] for process in both]
    codes = [process.returncode for process in both]
    assert [codes[rank] for rank in stopped] == [130] * len(stopped), said
    if stopped == (1,):
        assert codes[0] == 2
        assert "error: expected 2 processes to go on together, lost one" in said[0]
    assert ["interrupted" in text for text in said] == [0 in stopped, False]
    assert not any("Traceback" in text for text in said), said
    assert not list(run.glob("*.partial"))
