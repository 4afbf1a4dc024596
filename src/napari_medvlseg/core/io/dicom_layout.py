"""What some frames make together: a picture, a film or a volume, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_frames import planar_spacing, what_differs
from napari_medvlseg.core.io.dicom_geometry import (
    are_parallel,
    plane_affine,
    plane_name,
    same_places,
    stack_planes,
    stated_orientation,
    upright_affine,
)
from napari_medvlseg.core.io.dicom_pixels import photometric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.io.dicom_frames import Frame

TELL_TILT_FROM = 0.05
"""Degrees: less comes from the rounding of positions."""
MAX_LISTED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How frames become the voxels of an image.

    Parameters
    ----------
    kind : str
        ``"picture"``, with the axes (row, column); ``"film"``, (frame, row, column);
        or ``"volume"``, (column, row, slice), the order of NIfTI.
    frames : tuple of Frame
        In order.
    affine : (4, 4)
        Voxel index to RAS+ mm, the identity where nothing is known.
    units : str
    spacing_mm : tuple of float, optional
        Of the axes, without the frames of a film; None where it is unknown.
    facts : mapping
        What was found out on the way.
    """

    kind: str
    frames: tuple[Frame, ...]
    affine: npt.NDArray[np.float64]
    units: str
    spacing_mm: tuple[float, ...] | None
    facts: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes."""
        header = self.frames[0].file.header
        rows, columns = int(header.Rows), int(header.Columns)
        if self.kind == "picture":
            return rows, columns
        count = len(self.frames)
        return (
            (columns, rows, count) if self.kind == "volume" else (count, rows, columns)
        )

    @property
    def slice_axis(self) -> int:
        """The axis that a 2D model walks along."""
        return 2 if self.kind == "volume" else 0


def flaws_told(facts: Mapping[str, Any]) -> list[str]:
    """Return in words what a user of the slices should know of them."""
    told = {
        "gantry_tilt_degrees": "the gantry was tilted by {} degrees; results and "
        "saved files follow the tilt",
        "uneven_spacing_mm": "slices lie up to {} mm off an even grid; the mean "
        "spacing is used",
    }
    return [text.format(facts[key]) for key, text in told.items() if key in facts]


def layout_of(frames: Sequence[Frame]) -> Layout:
    """Find out what frames make together.

    Parameters
    ----------
    frames : sequence of Frame
        All of one series, at least one.

    Raises
    ------
    UnsupportedFormatError
        If they are not alike, or several lie in one place.
    GeometryError
        If slices are missing, or what is told about their place contradicts itself.
    """
    _check_alike(frames)
    one_file = all(frame.file is frames[0].file for frame in frames)
    if len(frames) == 1:
        return _picture(frames[0])
    if not all(frame.is_placed for frame in frames):
        if one_file:
            return _film(frames)
        msg = (
            f"expected slices with positions, got {len(frames)} pictures without; "
            "name one file"
        )
        raise UnsupportedFormatError(msg)
    return _volume(frames, one_file=one_file)


def _picture(frame: Frame) -> Layout:
    """Lay out one frame."""
    if frame.position and frame.orientation and frame.spacing:
        affine = plane_affine(
            frame.position, frame.orientation, frame.spacing, frame.thickness or 1.0
        )
        return Layout("picture", (frame,), affine, "mm", frame.spacing, {})
    spacing, source = planar_spacing(frame.file.header)
    if spacing is None:
        return Layout("picture", (frame,), np.eye(4), "pixel", None, {})
    facts = {"spacing_from": source}
    orientation = frame.orientation or stated_orientation(frame.file.header)
    affine = upright_affine(spacing)
    if orientation is not None:  # its place is unknown, but not its sides
        affine = plane_affine((0.0, 0.0, 0.0), orientation, spacing, 1.0)
        facts |= {"orientation": plane_name(orientation), "sides_from": "header"}
    return Layout("picture", (frame,), affine, "mm", spacing, facts)


def _film(frames: Sequence[Frame]) -> Layout:
    """Lay out frames that follow each other in time: that axis has no mm."""
    header = frames[0].file.header
    spacing, source = planar_spacing(header)
    if spacing is None:
        spacing = frames[0].spacing
    facts = {} if spacing is None else {"spacing_from": source}
    return Layout("film", tuple(frames), np.eye(4), "pixel", spacing, facts)


def _volume(frames: Sequence[Frame], *, one_file: bool) -> Layout:
    """Lay out frames that all have a place."""
    orientations = np.array([frame.orientation for frame in frames])
    spacings = np.array([frame.spacing for frame in frames])
    positions = np.array([frame.position for frame in frames])
    if not are_parallel(orientations) or not np.allclose(spacings, spacings[0], 1e-3):
        msg = (
            "expected parallel slices of one pixel spacing, got several orientations "
            "or spacings in one series; name one file"
        )
        raise UnsupportedFormatError(msg)
    places = same_places(positions, orientations[0], spacings[0])
    if len(places) == 1 and one_file:
        return _film(frames)
    if len(places) < len(frames):
        raise UnsupportedFormatError(_what_repeats(frames, places, one_file=one_file))
    stack = stack_planes(positions, orientations[0], spacings[0])
    facts: dict[str, Any] = {"missing_slices": 0}
    if stack.tilt_degrees > TELL_TILT_FROM:
        facts["gantry_tilt_degrees"] = round(stack.tilt_degrees, 2)
    if stack.is_uneven:
        facts["uneven_spacing_mm"] = round(stack.uneven_mm, 3)
    edges = np.linalg.norm(stack.affine[:3, :3], axis=0)
    return Layout(
        "volume",
        tuple(frames[index] for index in stack.order),
        stack.affine,
        "mm",
        tuple(float(edge) for edge in edges),
        facts,
    )


def _check_alike(frames: Sequence[Frame]) -> None:
    """Refuse frames of several sizes or kinds."""
    kinds = {
        f"{int(header.Columns)} x {int(header.Rows)} {photometric(header)}"
        for header in {id(f.file): f.file.header for f in frames}.values()
    }
    if len(kinds) > 1:
        msg = (
            f"expected pictures of one size and kind, got {', '.join(sorted(kinds))} "
            "in one series; name one file"
        )
        raise UnsupportedFormatError(msg)


def _what_repeats(
    frames: Sequence[Frame], places: Sequence[Sequence[int]], *, one_file: bool
) -> str:
    """Say how often places occur, what tells their frames apart and how to choose."""
    fullest = max(places, key=len)
    differences = what_differs([frames[index] for index in fullest])
    listed = " and ".join(
        f"{name} ({', '.join(values[:MAX_LISTED])})"
        for name, values in differences.items()
    )
    apart = f"they differ in {listed}" if listed else "they may be copies"
    choose = (
        "convert it with dcm2niix, which writes each volume apart"
        if one_file
        else "put the files of one volume into a folder of their own"
    )
    return (
        f"expected one slice at each position, got {len(frames)} at {len(places)}: "
        f"{apart}; {choose}"
    )
