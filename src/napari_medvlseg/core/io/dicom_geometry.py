"""Where the planes of a series lie: from DICOM's LPS to an affine in RAS+ mm.

Symbols: K planes; c, r, the index of column and row; u, v, the unit vectors along
which they grow; n = u x v, the normal. Nothing here knows a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Points = npt.NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN_TOLERANCE = 0.1
"""Largest distance of a plane from its place on an even grid, in slice spacings.

Scanners round positions, which moves a plane by some hundredths of a spacing. A plane
that is missing anywhere but at an end moves at least one other by half a spacing,
whatever their number, so a tenth tells the two apart.
"""
TELL_UNEVEN_FROM = 0.02
"""In slice spacings: less is rounding and not worth a word."""
SAME_PLACE = 0.01
"""In pixels: planes closer than this lie in one place."""
_SIDES = {
    letter: tuple(sign * float(number) for number in row)
    for row, letters in zip(np.eye(3), ("LR", "PA", "HF"), strict=True)
    for letter, sign in zip(letters, (1, -1), strict=True)
}
"""DICOM's letters of the patient's sides, LPS."""
_DIRECTION_TOLERANCE = 1e-2
_PARALLEL_TOLERANCE = 1e-3
_MAX_LISTED = 6


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes in order, and where they lie.

    Parameters
    ----------
    order : (K,) int
        Of the planes along the normal, lowest first.
    affine : (4, 4)
        Index (column, row, plane) to RAS+ mm.
    tilt_degrees : float
        Between the way from plane to plane and the normal: of the gantry in CT.
    uneven_mm : float
        Largest distance of a plane from its place.
    """

    order: npt.NDArray[np.intp]
    affine: Points
    tilt_degrees: float
    uneven_mm: float

    @property
    def is_uneven(self) -> bool:
        """Whether planes are off their places by more than rounding."""
        step = float(np.linalg.norm(self.affine[:3, 2]))
        return self.uneven_mm > TELL_UNEVEN_FROM * step


def stack_planes(
    positions: Points, orientation: Sequence[float], spacing: Sequence[float]
) -> Stack:
    """Order parallel planes and fit the affine of an even grid to them.

    Parameters
    ----------
    positions : (K, 3)
        Of the first pixel of each, LPS mm, no two alike; K at least 2.
    orientation : 6 floats
        u, then v.
    spacing : 2 floats
        Between rows, then between columns, mm.

    Raises
    ------
    GeometryError
        If planes are missing or unevenly spaced, or the orientation is no rotation.
    """
    along_row, along_column, normal = directions(orientation)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    planes = positions[order]
    step = (planes[-1] - planes[0]) / (len(planes) - 1)
    even = planes[0] + np.arange(len(planes))[:, None] * step
    uneven = float(np.linalg.norm(planes - even, axis=1).max())
    if uneven > UNEVEN_TOLERANCE * (step @ normal) or step @ normal <= 0:
        raise GeometryError(_what_is_uneven(heights[order]))
    cosine = float(step @ normal / np.linalg.norm(step))
    return Stack(
        order,
        _affine((along_row * spacing[1], along_column * spacing[0], step), planes[0]),
        float(np.degrees(np.arccos(min(cosine, 1.0)))),
        uneven,
    )


def plane_affine(
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: Sequence[float],
    thickness: float,
) -> Points:
    """Return the affine of one picture: index (row, column, plane) to RAS+ mm.

    Raises
    ------
    GeometryError
        If the orientation is no rotation.
    """
    along_row, along_column, normal = directions(orientation)
    columns = (along_column * spacing[0], along_row * spacing[1], normal * thickness)
    return _affine(columns, np.asarray(position, dtype=np.float64))


def upright_affine(spacing: Sequence[float]) -> Points:
    """Return the affine of a picture of unknown place: as one looks at a patient.

    Rows go down, columns to the patient's left, the first pixel lies at the origin:
    so lengths are right, and the picture is upright.
    """
    affine = np.zeros((4, 4))
    affine[2, 0] = -spacing[0]
    affine[0, 1] = -spacing[1]
    affine[1, 2] = affine[3, 3] = 1.0
    return affine


def stated_orientation(header: Any) -> tuple[float, ...] | None:
    """Return how a projection is turned, as an image orientation, LPS.

    X-rays have no position in the patient, but may name the sides to which their rows
    and columns run. Of an oblique one the nearest axes are taken. None where it is not
    told, or of an animal, whose sides have other names.
    """
    told = header.get("PatientOrientation") or ()
    if isinstance(told, str) or len(told) != 2 or not all(told):
        return None
    if header.get("AnatomicalOrientationType", "BIPED") != "BIPED":
        return None
    row, column = (_SIDES.get(str(letters)[:1].upper()) for letters in told)
    if row is None or column is None or np.dot(row, column) != 0:
        return None
    return (*row, *column)


def directions(orientation: Sequence[float]) -> tuple[Points, Points, Points]:
    """Return u, v and n as unit vectors, LPS.

    Raises
    ------
    GeometryError
        If u and v are not of length one or not perpendicular.
    """
    pair = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    if np.abs(pair @ pair.T - np.eye(2)).max() > _DIRECTION_TOLERANCE:
        given = ", ".join(f"{number:g}" for number in orientation)
        msg = (
            "expected an image orientation of two perpendicular unit vectors, got "
            f"{given}; export the series again"
        )
        raise GeometryError(msg)
    along_row, along_column = pair / np.linalg.norm(pair, axis=1, keepdims=True)
    normal = np.cross(along_row, along_column)
    return along_row, along_column, normal / np.linalg.norm(normal)


def are_parallel(orientations: Points) -> bool:
    """Whether planes, (K, 6), are turned alike: to 0.3 mm at the edge of 256 mm."""
    return bool(np.abs(orientations - orientations[0]).max() <= _PARALLEL_TOLERANCE)


def same_places(
    positions: Points, orientation: Sequence[float], spacing: Sequence[float]
) -> list[list[int]]:
    """Return the indices of planes by place, each place once.

    Parameters
    ----------
    positions : (K, 3)
    orientation : 6 floats
    spacing : 2 floats
        Of the pixels, mm.
    """
    cell = SAME_PLACE * min(spacing)
    places: list[list[int]] = []
    for index in np.argsort(positions @ directions(orientation)[2], kind="stable"):
        if places and _near(positions[index], positions[places[-1][0]], cell):
            places[-1].append(int(index))
        else:
            places.append([int(index)])
    return places


def plane_name(orientation: Sequence[float] | None) -> str:
    """Return the name of the anatomical plane nearest to a picture's."""
    if orientation is None:
        return "unknown"
    normal = np.abs(directions(orientation)[2])
    name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    return name if normal.max() > np.cos(np.radians(1)) else f"oblique {name}"


def _affine(columns: Sequence[Points], origin: Points) -> Points:
    """Return voxel index to RAS+ mm from vectors in LPS."""
    affine = np.eye(4)
    affine[:3] = np.column_stack([*columns, origin])
    return np.asarray(LPS_TO_RAS @ affine)


def _near(one: Points, other: Points, distance: float) -> bool:
    """Whether two points are closer than a distance."""
    return bool(np.linalg.norm(one - other) < distance)


def _what_is_uneven(heights: Points) -> str:
    """Say which planes are missing, or how uneven they are.

    Parameters
    ----------
    heights : (K,) float, ascending
        Along the normal, mm.
    """
    gaps = np.diff(heights)
    step = float(gaps.min())
    if step > 0:
        steps = gaps / step
        whole = np.round(steps)
        if np.abs(steps - whole).max() <= UNEVEN_TOLERANCE and whole.max() > 1:
            missing = [
                float(height + part * gap / count)
                for height, gap, count in zip(heights[:-1], gaps, whole, strict=True)
                for part in range(1, int(min(count, _MAX_LISTED + 1)))
            ]
            total = int(whole.sum()) - len(gaps)
            listed = ", ".join(f"{height:.2f}" for height in missing[:_MAX_LISTED])
            more = ", ..." if total > _MAX_LISTED else ""
            return (
                f"expected slices every {step:.3f} mm, got {total} missing among "
                f"{len(heights)}, at {listed}{more} mm along the normal; export the "
                "series again with all its slices"
            )
    return (
        f"expected evenly spaced slices, got them {gaps.min():.3f} to {gaps.max():.3f} "
        "mm apart; resample the series, or name one file of it"
    )
