"""The names that the authors' checkpoints give to the network's parameters.

Ours are the same, but for the two variants with OpenAI's towers: their checkpoints
hold the towers twice, as ``clip_model.*`` and as ``vision_model.*`` and
``text_model.*``, and the word embedding under ``clip_model`` alone.
"""

from __future__ import annotations

from typing import Any

WHOLE = "clip_model."
_OWN_PLACE = {"visual.": "vision_model.", "logit_scale": "logit_scale"}


def own_key(key: str) -> str:
    """Return the name that the network gives to what an authors' key names."""
    if not key.startswith(WHOLE):
        return key
    rest = key.removeprefix(WHOLE)
    for theirs, ours in _OWN_PLACE.items():
        if rest.startswith(theirs):
            return ours + rest.removeprefix(theirs)
    return "text_model." + rest


def rename_to_own(network: Any, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename the authors' keys in place, before they are loaded.

    Of a tensor that is there twice the one under our name counts.
    """
    if network.config.has_bert:
        return
    for key in [key for key in state if key.startswith(prefix + WHOLE)]:
        value = state.pop(key)
        state.setdefault(prefix + own_key(key.removeprefix(prefix)), value)
