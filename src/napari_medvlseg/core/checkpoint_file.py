"""An authors' checkpoint: its tensors, without running anything that it holds."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy._core.multiarray import scalar

from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

# What NumPy's float32 and float64 are made of in a pickle, under its old and new name.
_NUMPY_FLOATS: list[Any] = [
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]
_STATES = ("model", "state_dict")
_WRAPPER = "module."


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by key, mapped from the file.

    Only tensors, numbers, texts, lists and dictionaries are read, and a NumPy float as
    the authors' ``best_dice`` is one; nothing else in a pickle is touched. The tensors
    cost memory only once they are looked at, but in a file of PyTorch before 1.6.

    Parameters
    ----------
    path : Path
        Holds a state dict, or one under ``"model"`` or ``"state_dict"``.

    Raises
    ------
    CheckpointError
        If it is no such file, is cut off, or wants code to be run.
    """
    if not path.is_file():
        msg = f"{path}: expected a checkpoint file, found none"
        raise CheckpointError(msg)
    try:
        with torch.serialization.safe_globals(_NUMPY_FLOATS):
            held = torch.load(
                path, map_location="cpu", weights_only=True, mmap=_is_zip(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        known = not isinstance(error, KeyError)  # else it is only a number
        reason = str(error).split("\n")[0].split(". ")[0] if known else "no pickle"
        msg = f"{path}: expected a whole PyTorch checkpoint, cannot read it ({reason})"
        raise CheckpointError(msg) from error
    return _state_of(held, path)


def _state_of(held: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file holds, without a parallel model's prefix."""
    state = held
    if isinstance(held, dict):
        state = next((held[name] for name in _STATES if name in held), held)
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        found = sorted(map(str, held))[:8] if isinstance(held, dict) else type(held)
        msg = (
            f"{path}: expected a checkpoint with the network's tensors under 'model', "
            f"got {found}"
        )
        raise CheckpointError(msg)
    return {str(key).removeprefix(_WRAPPER): value for key, value in state.items()}


def _is_zip(path: Path) -> bool:
    """Whether the file is of PyTorch's present format, which can be mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _refusal(path: Path, reason: str) -> str:
    """Return what is wrong with a pickle that was refused."""
    named = re.search(r"GLOBAL (\S+)|but got (<class '[^']+'>)", reason)
    if named is None:
        return f"{path}: expected a PyTorch checkpoint, got another or a damaged file"
    name = (named.group(1) or named.group(2)).rstrip(".")
    return (
        f"{path}: expected a checkpoint of tensors and numbers, got one that wants "
        f"{name} to be run; refused, ask its author for one without"
    )
