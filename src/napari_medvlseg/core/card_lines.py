"""What the cards of all models begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def card_opening(config: Mapping[str, Any]) -> list[str]:
    """Return the first lines of a card in Markdown, to the heading of what it is."""
    return [
        f"# {config['model_id']}",
        "",
        config["summary"],
        "",
        f"**{config['intended_use']}**",
        "",
        f"Licence of the weights: {config['licence']}.",
        "",
        "## What it is",
        "",
    ]
