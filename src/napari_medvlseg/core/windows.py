"""What becomes black and white: CT windows by name, and how a choice is written."""

from __future__ import annotations

import re
from typing import NamedTuple

SCALINGS = ("auto", "percentile", "zscore")
"""How grey values are stretched where no window is given."""


class Window(NamedTuple):
    """The grey values that are told apart; a CT window's are in Hounsfield units."""

    level: float
    """Its middle."""
    width: float
    """From black to white."""


WINDOWS = {
    "brain": Window(40, 80),
    "stroke": Window(40, 40),
    "subdural": Window(75, 215),
    "temporal-bone": Window(600, 2800),
    "soft-tissue": Window(40, 400),
    "mediastinum": Window(50, 350),
    "lung": Window(-600, 1500),
    "abdomen": Window(50, 400),
    "liver": Window(30, 150),
    "spine": Window(50, 250),
    "bone": Window(400, 1800),
    "angio": Window(300, 600),
}
"""The usual windows of CT, in Hounsfield units."""

INTENSITIES = (*SCALINGS, *WINDOWS)
"""Every choice that has a name."""

_NUMBER = r"\s*[:=]?\s*(-?\d+(?:\.\d+)?)"
_WRITTEN = (
    re.compile(rf"\s*w{{1,2}}(?P<width>{_NUMBER})[\s,/]*w?l(?P<level>{_NUMBER})\s*"),
    re.compile(rf"\s*w?l(?P<level>{_NUMBER})[\s,/]*w{{1,2}}(?P<width>{_NUMBER})\s*"),
)


def parse_intensity(text: str) -> Window | str:
    """Return the window that a choice means, or its name among `SCALINGS`.

    Parameters
    ----------
    text : str
        A name of `INTENSITIES`, or level and width as in ``L40W80`` or
        ``W1500 L-600``.

    Raises
    ------
    ValueError
        If it is neither, or the width is not above 0.

    Examples
    --------
    >>> parse_intensity("lung"), parse_intensity("w80 l40"), parse_intensity("zscore")
    (Window(level=-600, width=1500), Window(level=40.0, width=80.0), 'zscore')
    """
    name = text.strip().lower()
    if name in SCALINGS:
        return name
    if name in WINDOWS:
        return WINDOWS[name]
    found = next((match for p in _WRITTEN if (match := p.fullmatch(name))), None)
    if found is None:
        msg = (
            f"intensity must be one of {', '.join(INTENSITIES)}, or level and width as "
            f"in L40W80, got {text!r}"
        )
        raise ValueError(msg)
    level, width = (float(found[part].strip(" :=")) for part in ("level", "width"))
    if width <= 0:
        msg = f"intensity must be a window of a width above 0, got {text!r}"
        raise ValueError(msg)
    return Window(level, width)
