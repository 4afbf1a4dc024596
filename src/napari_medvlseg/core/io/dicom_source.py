"""The series that a DICOM segmentation refers to: found again, checked, completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.dicom_files import damage_told, is_dicom
from napari_medvlseg.core.io.dicom_frames import frames_of
from napari_medvlseg.core.io.dicom_layout import layout_of
from napari_medvlseg.core.io.dicom_series import series_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.io.dicom_frames import Frame
    from napari_medvlseg.core.io.dicom_layout import Layout

SAME_PLACE_MM = 1e-3
_IDENTIFIERS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
)
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
"""What de-identified files leave out, and a segmentation repeats even if empty."""
_SEXES = ("M", "F", "O", "")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The files that a segmentation refers to.

    Parameters
    ----------
    path : Path
        The file or folder.
    headers : tuple of pydicom.Dataset
        One for each slice in the order of the image, or one of a file with many.
    layout : Layout
        How its frames made the image.
    """

    path: Path
    headers: tuple[Any, ...]
    layout: Layout

    def planes(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Lay out values of the image as the files have their frames.

        Parameters
        ----------
        values : (P, *spatial)
            With the axes of the image.

        Returns
        -------
        (K, H, W, P)
            Frame, row, column: in the order of `headers`, or of the file's frames.
        """
        if self.layout.kind == "picture":
            return values.transpose(1, 2, 0)[None]
        planes = values.transpose(3, 2, 1, 0)
        if len(self.headers) > 1:
            return planes
        order = np.argsort([frame.index for frame in self.layout.frames])
        return planes[order] if (np.diff(order) != 1).any() else planes


def reference_of(
    path: Path,
    series: str | None,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
) -> Reference:
    """Find the files that an image was read from, ready to be referred to.

    Parameters
    ----------
    path : Path
        The file or folder that was read.
    series : str, optional
        Which series of a folder: its number or its UID.
    shape, affine
        Of the image: both must still be those of the files.

    Raises
    ------
    UnsupportedFormatError
        If it is no DICOM, a film, or lacks what a segmentation refers to.
    GeometryError
        If the files make another image than the one that was segmented.
    """
    if not path.is_dir() and not is_dicom(path):
        what = "another kind" if path.exists() else "nothing there"
        msg = (
            f"{path}: expected DICOM for DICOM-SEG to refer to, got {what}; choose "
            "another format"
        )
        raise UnsupportedFormatError(msg)
    with damage_told(path):
        frames = frames_of(series_files(path, series))
        layout = layout_of(frames)
        if layout.kind == "film":
            _refuse(path, "slices that lie in the patient", "a film")
        _check_same(path, layout, shape, affine)
        headers = _headers(path, layout)
        _check_identified(path, headers, layout)
        _complete(headers, frames[0], layout)
    return Reference(path, headers, layout)


def _check_same(
    path: Path,
    layout: Layout,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
) -> None:
    """Refuse files that make another image than the one that was segmented."""
    if layout.shape == shape and np.allclose(
        layout.affine, affine, rtol=0, atol=SAME_PLACE_MM
    ):
        return
    msg = (
        f"{path}: expected the series that was segmented, of shape {shape}, got one of "
        f"shape {layout.shape} or in another place; name its own folder or series"
    )
    raise GeometryError(msg)


def _headers(path: Path, layout: Layout) -> tuple[Any, ...]:
    """Return the headers of the files, each once, in order."""
    headers = {id(frame.file): frame.file.header for frame in layout.frames}
    is_enhanced = any("PerFrameFunctionalGroupsSequence" in h for h in headers.values())
    if len(headers) > 1 and is_enhanced:
        _refuse(
            path,
            "one multi-frame file or files of one slice each",
            f"{len(headers)} multi-frame files",
        )
    return tuple(headers.values())


def _check_identified(path: Path, headers: Sequence[Any], layout: Layout) -> None:
    """Refuse files without the identifiers that a segmentation refers to."""
    placed = layout.frames[0].is_placed
    wanted = (*_IDENTIFIERS, *(["FrameOfReferenceUID"] if placed else []))
    for header in headers:
        for keyword in wanted:
            if not header.get(keyword):
                _refuse(path, f"files with a {keyword}", "one without")


def _refuse(path: Path, expected: str, came: str) -> None:
    """Say what DICOM-SEG cannot refer to."""
    msg = (
        f"{path}: expected {expected} for DICOM-SEG, got {came}; choose another format"
    )
    raise UnsupportedFormatError(msg)


def _complete(headers: Sequence[Any], first: Frame, layout: Layout) -> None:
    """Fill in, in memory, what highdicom asks for and files may lack or tell twice."""
    thickness = first.thickness
    if thickness is None and layout.kind == "volume":
        thickness = float(np.linalg.norm(layout.affine[:3, 2]))
    for header in headers:
        _repeatable(header)
        if "SpacingBetweenSlices" in header:
            del header.SpacingBetweenSlices  # the positions tell it, and better
        if first.is_placed and "PerFrameFunctionalGroupsSequence" not in header:
            # Slices may differ by rounding, which highdicom does not forgive.
            _told(
                header,
                ImageOrientationPatient=list(first.orientation or ()),
                PixelSpacing=list(first.spacing or ()),
                SliceThickness=thickness or "",
            )
    if len(headers) == 1:
        _give_groups(headers[0], layout.frames, thickness)


def _repeatable(header: Any) -> None:
    """Make what a segmentation repeats about the patient such that it can."""
    from pydicom.valuerep import DA, TM

    header.decode()  # texts in the file's own letters: a segmentation is UTF-8
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    kinds = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
    for keyword, kind in kinds.items():
        try:
            kind(str(header[keyword].value or ""))
        except ValueError:  # 14:04:38, of an older standard
            setattr(header, keyword, "")


def _give_groups(header: Any, frames: Sequence[Frame], thickness: float | None) -> None:
    """Tell in functional groups what a file with several frames may tell elsewhere.

    highdicom looks for orientation and spacing among what frames share, and for
    positions among what they have of their own. It looks there for a single frame too
    where that kind of file may hold more.
    """
    from pydicom import Dataset

    first = frames[0]
    shared = [*(header.get("SharedFunctionalGroupsSequence") or ()), Dataset()][0]
    own = header.get("PerFrameFunctionalGroupsSequence") or [Dataset() for _ in frames]
    if first.orientation and "PlaneOrientationSequence" not in shared:
        plane = _told(Dataset(), ImageOrientationPatient=list(first.orientation))
        _told(shared, PlaneOrientationSequence=[plane])
    if "PixelMeasuresSequence" not in shared:
        measures = Dataset()
        if first.spacing:
            edges = {"PixelSpacing": list(first.spacing)}
            _told(measures, **edges, SliceThickness=thickness or "")
        _told(shared, PixelMeasuresSequence=[measures])
    for frame in frames:
        group = own[frame.index]
        if frame.position and "PlanePositionSequence" not in group:
            place = _told(Dataset(), ImagePositionPatient=list(frame.position))
            _told(group, PlanePositionSequence=[place])
    _told(
        header,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=list(own),
    )


def _told(dataset: Any, **elements: Any) -> Any:
    """Return a data set with more elements."""
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
