"""Tensors from a checkpoint to safetensors, a part at a time.

The whole model is never in memory: a part of the mapped file is looked at, written and
let go before the next.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from napari_medvlseg.core.checkpoint_file import read_state
from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

PART_BYTES = 64_000_000
"""Looked at before the file is let go and mapped anew."""
DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
}
"""Names of safetensors."""


class Written(NamedTuple):
    """How far the weights are written."""

    done: int
    """Bytes."""
    total: int
    sha256: str | None = None
    """Of the file, at the end."""


def write_weights(path: Path, target: Path, keys: Sequence[str]) -> Iterator[Written]:
    """Write some tensors of a checkpoint as safetensors, and yield how far it is.

    Parameters
    ----------
    path : Path
        The checkpoint.
    target : Path
        The file to write; the caller removes it where an error comes.
    keys : sequence of str
        What is written, in this order.

    Raises
    ------
    CheckpointError
        If a tensor is not of floating-point numbers, or the file changes meanwhile.
    """
    state = read_state(path)
    header = _header({key: state[key] for key in keys}, path)
    sizes = {key: state[key].nbytes for key in keys}
    del state
    total = len(header) + sum(sizes.values())
    digest = hashlib.sha256(header)
    done = len(header)
    with target.open("wb") as file:
        file.write(header)
        for part in _parts(sizes):
            state = read_state(path)
            for key in part:
                data = _bytes(state[key])
                if data.nbytes != sizes[key]:
                    msg = f"{path}: expected the file to stay as it is, it was changed"
                    raise CheckpointError(msg)
                file.write(data)
                digest.update(data)
                done += data.nbytes
                del data
            del state
            yield Written(done, total)
    yield Written(done, total, digest.hexdigest())


def _header(state: Mapping[str, Tensor], path: Path) -> bytes:
    """Return what precedes the numbers in a safetensors file."""
    told: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for key, tensor in state.items():
        if tensor.dtype not in DTYPES:
            msg = f"{path}: expected floating-point tensors, got {tensor.dtype} in "
            raise CheckpointError(msg + key)
        end = begin + tensor.nbytes
        told[key] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(told).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _parts(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield the keys in groups of about `PART_BYTES`."""
    part: list[str] = []
    held = 0
    for key, size in sizes.items():
        if part and held + size > PART_BYTES:
            yield part
            part, held = [], 0
        part.append(key)
        held += size
    if part:
        yield part


def _bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's numbers: little-endian, as the machines that torch runs on."""
    numbers: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)
