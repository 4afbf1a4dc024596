"""The names that a bundle can read: what its model was taught, and what it was not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

NAMES = "names.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class NameBook:
    """Names and their vectors.

    Parameters
    ----------
    classes : N texts
        For each of the first N names, the class that it is a name of.
    vague : set of str
        Words that a prompt may hold without naming a class: "lesion".
    vectors : (N + M, D) float16
        Of unit length, of the N names and of M names of other things.
    """

    classes: tuple[str, ...]
    vague: frozenset[str]
    vectors: npt.NDArray[np.float16]

    def to_bytes(self) -> bytes:
        """Return the book in the safetensors format."""
        told = {
            "classes": json.dumps(self.classes),
            "vague": json.dumps(sorted(self.vague)),
        }
        return save({"vectors": self.vectors}, metadata=told)


def load_names(folder: Path) -> NameBook | None:
    """Return the names of a bundle; None if it has none.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = folder / NAMES
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told, vectors = file.metadata(), file.get_tensor("vectors")
        classes = tuple(json.loads(told["classes"]))
        vague = frozenset(json.loads(told["vague"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: expected the names of a bundle, cannot read them ({error})"
        raise CheckpointError(msg) from error
    if vectors.ndim != 2 or not 0 < len(classes) <= len(vectors):
        msg = (
            f"{path}: expected a vector a name, got {vectors.shape} for {len(classes)}"
        )
        raise CheckpointError(msg)
    return NameBook(classes, vague, vectors)
