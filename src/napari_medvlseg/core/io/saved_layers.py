"""The user's own layers but images in a saved session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

KINDS = ("points", "shapes", "labels", "vectors", "tracks", "surface")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedLayer:
    """A layer of the session that is neither an image nor a result.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    name : str
    look : mapping
        How it was shown, ready for JSON.
    arrays : mapping of str to array
        Its data, numbers and text only.
    """

    kind: str
    name: str
    look: Mapping[str, Any]
    arrays: Mapping[str, Array]


def write_layers(folder: Path, layers: Sequence[SavedLayer]) -> list[dict[str, Any]]:
    """Write the arrays of layers, and return what the JSON tells of them."""
    told = []
    for number, layer in enumerate(layers):
        path = folder / f"layer-{number}.npz"
        np.savez_compressed(path, allow_pickle=False, **layer.arrays)
        told.append({"kind": layer.kind, "name": layer.name, "look": dict(layer.look)})
    return told


def read_layers(
    folder: Path, told: Sequence[Mapping[str, Any]]
) -> tuple[SavedLayer, ...]:
    """Read the layers of a session.

    Raises
    ------
    OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error
        If they are damaged.
    """
    layers = []
    for number, entry in enumerate(told):
        if entry["kind"] not in KINDS:
            msg = f"a layer of kind {entry['kind']!r}"
            raise ValueError(msg)
        path = folder / f"layer-{number}.npz"
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in arrays.files}
        layers.append(
            SavedLayer(
                kind=str(entry["kind"]),
                name=str(entry["name"]),
                look=dict(entry["look"]),
                arrays=read,
            )
        )
    return tuple(layers)
