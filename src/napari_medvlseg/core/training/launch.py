"""How many processes a launcher such as torchrun started, without importing torch."""

from __future__ import annotations

import os

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells each process: which of how many it is, where they meet."""


def process_count() -> int:
    """Return how many processes train together; 1 if nobody told of others."""
    if not all(os.environ.get(name) for name in TOLD):
        return 1
    return int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Return whether this is the process that writes, and speaks for all."""
    return process_count() == 1 or int(os.environ["RANK"]) == 0
