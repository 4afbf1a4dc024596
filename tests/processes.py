"""Trainings in several processes, as a launcher such as torchrun starts them."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

BEGIN = """
import json
import math
from pathlib import Path

def tell(records):
    print(json.dumps([record["loss"] for record in records]))
"""


def distance(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Return how far weights are apart, as a share of their length.

    All together: Adam moves an entry whose gradient is next to nothing either way.
    """
    assert some.keys() == others.keys()
    names = [name for name, value in some.items() if value.is_floating_point()]
    apart = sum(float((some[n] - others[n]).square().sum()) for n in names)
    return math.sqrt(apart / sum(float(some[n].square().sum()) for n in names))


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(code: str, count: int = 2) -> list[subprocess.Popen[str]]:
    """Start processes that know of one another."""
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(["src", "."]),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN + code],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def in_processes(code: str, count: int = 2) -> list[list[float]]:
    """Return the losses that each process tells with `tell`; all have to succeed."""
    started = start(code, count)
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * count, said
    return [json.loads(out) for out, _ in said]
