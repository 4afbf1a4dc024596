"""A JSON file that must hold an object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medvlseg.core.errors import MedVLSegError


def read_object(path: Path, what: str, refusal: type[MedVLSegError]) -> dict[str, Any]:
    """Return the object in a JSON file.

    Parameters
    ----------
    path : Path
    what : str
        What is expected there, for the message: "a saved session's file".
    refusal : type of MedVLSegError
        Raised if there is no such file, it is no JSON, or holds something else.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: expected {what}, cannot read it ({error})"
        raise refusal(msg) from error
    if not isinstance(told, dict):
        msg = f"{path}: expected a JSON object, got {type(told).__name__}"
        raise refusal(msg)
    return told
