"""Which sides of the patient the edges of a picture are: R, L, A, P, S, I."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Where each axis of RAS+ points, and where it comes from."""
TELL_OBLIQUE_FROM = math.sin(math.radians(10))
"""A second letter is for what is tilted by at least so much: smaller is not seen."""


@dataclass(frozen=True, slots=True)
class EdgeLetters:
    """One or two letters for each edge of a picture."""

    left: str
    right: str
    top: str
    bottom: str


def edge_letters(
    rightward: npt.ArrayLike, downward: npt.ArrayLike
) -> EdgeLetters | None:
    """Return what is written at the edges of a picture on a screen.

    Parameters
    ----------
    rightward, downward : (3,)
        Where one goes in the patient, RAS+ of any length, by going right and down on
        the screen.

    Returns
    -------
    EdgeLetters or None
        An oblique edge has two letters, the nearer one first; None where a direction
        is no direction.

    Examples
    --------
    >>> edge_letters((-1, 0, 0), (0, -1, 0))  # an axial slice, as radiologists see it
    EdgeLetters(left='R', right='L', top='A', bottom='P')
    """
    ends = [np.asarray(way, dtype=np.float64) for way in (rightward, downward)]
    if any(not np.isfinite(end).all() or not end.any() for end in ends):
        return None
    right, bottom = (_letters(end) for end in ends)
    left, top = (_letters(-end) for end in ends)
    return EdgeLetters(left=left, right=right, top=top, bottom=bottom)


def _letters(direction: npt.NDArray[np.float64]) -> str:
    """Name a direction by the one or two sides of the patient nearest to it."""
    unit = direction / np.linalg.norm(direction)
    first, second = (int(axis) for axis in np.argsort(-np.abs(unit), kind="stable")[:2])
    axes = [first]
    if abs(unit[second]) >= TELL_OBLIQUE_FROM:
        axes.append(second)
    return "".join(LETTERS[axis][int(unit[axis] < 0)] for axis in axes)
