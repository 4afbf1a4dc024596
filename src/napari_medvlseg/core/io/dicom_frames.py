"""The frames of DICOM files: where each lies, and what its numbers mean.

A classic file has one frame and tells at its top; an enhanced one has many and tells
in functional groups, of each frame or shared by all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_files import DicomFile, damage_told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_VALUES = 2**31
"""Of an image, colours included: 4 GiB at 16 bits, 8192 slices of 512 x 512."""
_CENTIMETRES = 3
_TWO_DIMENSIONAL = 1
_APART = {
    "echo time": (("MREchoSequence", "EffectiveEchoTime"), "EchoTime"),
    "echo number": ("EchoNumbers",),
    "b-value": (("MRDiffusionSequence", "DiffusionBValue"), "DiffusionBValue"),
    "time point": (
        ("FrameContentSequence", "TemporalPositionIndex"),
        "TemporalPositionIdentifier",
    ),
    "cardiac phase": (
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        "TriggerTime",
    ),
    "stack": (("FrameContentSequence", "StackID"),),
    "image type": (("MRImageFrameTypeSequence", "FrameType"), "ImageType"),
    "acquisition number": ("AcquisitionNumber",),
    "reconstruction kernel": ("ConvolutionKernel",),
    "inversion time": ("InversionTime",),
}
"""What may tell two frames of one place apart, and the elements that say so."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture within a file.

    Parameters
    ----------
    file : DicomFile
    index : int
        Of the frame within the file.
    position : 3 floats, optional
        Of the centre of the first pixel, LPS mm.
    orientation : 6 floats, optional
        Direction of growing column index, then of growing row index, LPS.
    spacing : 2 floats, optional
        Between rows, then between columns, mm.
    thickness : float, optional
        Of the slice, mm; it need not be the distance to the next.
    slope, intercept : float
        From stored values to real ones.
    """

    file: DicomFile
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float

    @property
    def is_placed(self) -> bool:
        """Whether the file says where the frame lies in the patient."""
        return None not in (self.position, self.orientation, self.spacing)


def frames_of(files: Iterable[DicomFile]) -> list[Frame]:
    """Return every frame of some files.

    Raises
    ------
    UnsupportedFormatError
        If a header is damaged, or there is more than `MAX_VALUES`.
    """
    frames: list[Frame] = []
    total = 0
    for file in files:
        with damage_told(file.path):
            header = file.header
            count = int(header.get("NumberOfFrames") or 1)
            samples = int(header.get("SamplesPerPixel") or 1)
            values = int(header.Rows) * int(header.Columns) * samples * max(count, 1)
            total += values
            if total <= MAX_VALUES:
                frames += [_frame(file, index, count) for index in range(count)]
        if total > MAX_VALUES:
            msg = (
                f"{file.path}: expected at most {MAX_VALUES:,} pixel values, got "
                f"{total:,}; export a part of the series"
            )
            raise UnsupportedFormatError(msg)
    return frames


def planar_spacing(header: Any) -> tuple[tuple[float, ...] | None, str]:
    """Return the spacing of a picture that has no place, and who tells it."""
    for keyword, source in (
        ("PixelSpacing", "pixel spacing"),
        ("ImagerPixelSpacing", "detector"),
        ("NominalScannedPixelSpacing", "film scanner"),
    ):
        spacing = _lengths(header.get(keyword))
        if spacing is not None:
            return spacing, source
    return _ultrasound_spacing(header), "ultrasound region"


def what_differs(frames: Sequence[Frame]) -> dict[str, list[str]]:
    """Return what tells frames of one place apart, and the values of each.

    Parameters
    ----------
    frames : sequence of Frame
        All of the same place.
    """
    return {
        name: sorted({value_of(frame, name) for frame in frames})
        for name in told_apart(frames)
    }


def told_apart(frames: Sequence[Frame]) -> list[str]:
    """Return what has more than one value among frames of one place."""
    return [
        name for name in _APART if len({value_of(frame, name) for frame in frames}) > 1
    ]


def value_of(frame: Frame, name: str) -> str:
    """Return, as a text, the value of one of the things that tell frames apart."""
    return _plain(_first(frame, _APART[name]))


def _frame(file: DicomFile, index: int, count: int) -> Frame:
    """Read what a file tells about one of its frames."""
    header = file.header
    enhanced = "PerFrameFunctionalGroupsSequence" in header
    groups = _groups(file, index)
    # Of several frames, a place at the top of the header would be the first one's.
    places = groups if enhanced else [header] * (count == 1)
    measures = "PixelMeasuresSequence"
    real = "PixelValueTransformationSequence"
    return Frame(
        file,
        index,
        _numbers(_look_up(places, "PlanePositionSequence", "ImagePositionPatient"), 3),
        _numbers(
            _look_up(places, "PlaneOrientationSequence", "ImageOrientationPatient"), 6
        ),
        _lengths(_look_up(places, measures, "PixelSpacing")),
        _number(_look_up([*groups, header], measures, "SliceThickness")) or None,
        _number(_look_up([*groups, header], real, "RescaleSlope")) or 1.0,
        _number(_look_up([*groups, header], real, "RescaleIntercept")) or 0.0,
    )


def window_of(frame: Frame) -> tuple[float, float] | None:
    """Return the centre and width of the first window that is told for a frame."""
    groups = [*_groups(frame.file, frame.index), frame.file.header]
    ends = [
        _look_up(groups, "FrameVOILUTSequence", keyword)
        for keyword in ("WindowCenter", "WindowWidth")
    ]
    if None in ends:
        return None
    center, width = (end[0] if hasattr(end, "__getitem__") else end for end in ends)
    return _number(center), _number(width)


def _groups(file: DicomFile, index: int) -> list[Any]:
    """Return the functional groups of a frame, its own before the shared ones."""
    own = file.header.get("PerFrameFunctionalGroupsSequence") or []
    shared = file.header.get("SharedFunctionalGroupsSequence") or []
    return [*own[index : index + 1], *shared[:1]]


def _look_up(places: Iterable[Any], sequence: str, keyword: str) -> Any:
    """Return the first value, within a sequence or right there."""
    for place in places:
        items = place.get(sequence)
        for item in [*(items[:1] if items else []), place]:
            value = item.get(keyword)
            if value not in (None, ""):
                return value
    return None


def _first(frame: Frame, elements: Iterable[str | tuple[str, str]]) -> Any:
    """Return the value of the first of some elements that a frame has."""
    groups = [*_groups(frame.file, frame.index), frame.file.header]
    for element in elements:
        sequence, keyword = ("", element) if isinstance(element, str) else element
        value = (
            _look_up(groups, sequence, keyword)
            if sequence
            else frame.file.header.get(keyword)
        )
        if value is not None:
            return value
    return None


def _plain(value: Any) -> str:
    """Return a value as a short text."""
    if value is None:
        return "none"
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value)
    return "/".join(str(part) for part in value)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return finite numbers, or None where the element is absent or empty.

    Raises
    ------
    ValueError
        If there are more or fewer, or one is not finite.
    """
    if value is None or value == "" or (hasattr(value, "__len__") and not len(value)):
        return None
    numbers = tuple(float(number) for number in value)
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        msg = f"expected {count} finite numbers"
        raise ValueError(msg)
    return numbers


def _number(value: Any) -> float:
    """Return a finite number, 0 where the element is absent or empty."""
    numbers = _numbers(None if value in (None, "") else [value], 1)
    return numbers[0] if numbers else 0.0


def _lengths(value: Any) -> tuple[float, ...] | None:
    """Return two lengths, None where they are absent or not positive."""
    lengths = _numbers(value, 2)
    return lengths if lengths and min(lengths) > 0 else None


def _ultrasound_spacing(header: Any) -> tuple[float, ...] | None:
    """Return the spacing of the only scale among the 2D regions of an ultrasound."""
    scales = set()
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        units = {
            region.get("PhysicalUnitsXDirection"),
            region.get("PhysicalUnitsYDirection"),
        }
        if region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL and units == {
            _CENTIMETRES
        }:
            deltas = (region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX"))
            scales.add(tuple(abs(_number(delta)) * 10 for delta in deltas))
    return _lengths(scales.pop()) if len(scales) == 1 else None
