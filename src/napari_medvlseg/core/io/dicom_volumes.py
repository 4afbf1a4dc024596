"""A DICOM series of several volumes: which frame belongs to which.

Symbols: P places of slices, T frames in each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.io.dicom_frames import told_apart, value_of
from napari_medvlseg.core.io.dicom_geometry import are_parallel, same_places
from napari_medvlseg.core.io.opened import SeriesAxis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.io.dicom_frames import Frame

_IN_TIME = ("time point", "cardiac phase", "acquisition number")
"""May differ between slices of one volume: their order counts."""
_MILLISECONDS = "cardiac phase"


def split_volumes(
    frames: Sequence[Frame],
) -> tuple[list[list[Frame]], SeriesAxis] | None:
    """Sort frames by volume, where one element of their headers tells them apart.

    Parameters
    ----------
    frames : sequence of Frame
        Of one series.

    Returns
    -------
    volumes : T lists of P frames
        In the order of the element's values.
    axis : SeriesAxis
        What differs.

    None where there is one volume, or nothing tells several apart.
    """
    stacks = _stacks(frames)
    candidates = _candidates(stacks) if stacks else []
    if not candidates:
        return None
    name, values = candidates[0]
    order = [np.argsort(of_place, kind="stable") for of_place in values]
    volumes = [
        [stack[ranks[t]] for stack, ranks in zip(stacks, order, strict=True)]
        for t in range(len(stacks[0]))
    ]
    return volumes, _axis(name, values)


def _stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames of each place, none where not all have T of them, T > 1."""
    if not all(frame.is_placed for frame in frames):
        return []
    orientations = np.array([frame.orientation for frame in frames])
    if not are_parallel(orientations):
        return []
    spacing = np.array([frame.spacing for frame in frames])[0]
    positions = np.array([frame.position for frame in frames])
    places = same_places(positions, orientations[0], spacing)
    counts = {len(place) for place in places}
    if len(places) == 1 or len(counts) > 1 or counts == {1}:
        return []
    return [[frames[index] for index in place] for place in places]


def _candidates(
    stacks: Sequence[Sequence[Frame]],
) -> list[tuple[str, list[list[float]]]]:
    """Return the elements that tell the frames of each place apart, and their values.

    Numbers only; of those that are no time each place must have the same ones.
    """
    found = []
    for name in told_apart(stacks[0]):
        values = [_values(stack, name) for stack in stacks]
        distinct = all(len(set(v)) == len(v) and None not in v for v in values)
        if not distinct:
            continue
        if name in _IN_TIME or all(set(v) == set(values[0]) for v in values):
            found.append((name, [[float(x or 0) for x in v] for v in values]))
    return sorted(found, key=lambda one: one[0] not in _IN_TIME)


def _values(stack: Sequence[Frame], name: str) -> list[float | None]:
    """Return the numbers that an element has, None where it has none."""
    return [_number(frame, name) for frame in stack]


def _number(frame: Frame, name: str) -> float | None:
    """Return the value of one of the elements that tell frames apart."""
    try:
        return float(value_of(frame, name))
    except ValueError:
        return None


def _axis(name: str, values: Sequence[Sequence[float]]) -> SeriesAxis:
    """Return the axis of volumes that an element tells apart."""
    if name not in _IN_TIME:
        return SeriesAxis(name)
    if name != _MILLISECONDS:
        return SeriesAxis("time")
    ordered = np.sort(np.array(values), axis=1)
    step = float(np.diff(ordered, axis=1).mean())
    return SeriesAxis("time", round(step, 6), "ms")
