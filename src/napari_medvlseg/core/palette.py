"""The colour of each label: the same in the viewer and in every file."""

from __future__ import annotations

PALETTE = (
    "#56b4e9",
    "#e69f00",
    "#009e73",
    "#f0e442",
    "#cc79a7",
    "#d55e00",
    "#0072b2",
    "#ffffff",
)
"""Okabe and Ito's colours, which the colour-blind can tell apart, bright ones first."""


def label_color(label: int) -> str:
    """Return the colour of a label, 1 or more, as ``#rrggbb``."""
    return PALETTE[(label - 1) % len(PALETTE)]
