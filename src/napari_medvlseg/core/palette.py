"""The colour of each label: the same in the viewer and in every file."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def label_color(label: int, own: Sequence[str] = ()) -> str:
    """Return the colour of a label, as ``#rrggbb``.

    Parameters
    ----------
    label : int
        1 or more.
    own : sequence of str, optional
        The colours that a model gives its classes, in the order of the labels.
    """
    colors = own or PALETTE
    return colors[(label - 1) % len(colors)]


def class_colors(count: int) -> tuple[str, ...]:
    """Return as many colours that differ: the palette, then hues that it lacks."""
    more = []
    for number in range(count - len(PALETTE)):
        hue = (0.08 + number * 0.618034) % 1  # the golden ratio spreads them evenly
        rgb = colorsys.hsv_to_rgb(hue, 0.5 + 0.3 * (number % 2), 0.95)
        more.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return (*PALETTE, *more)[:count]
