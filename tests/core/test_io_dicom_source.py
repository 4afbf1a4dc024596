from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.formats import Source, check_format
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, write
from napari_medvlseg.core.types import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteDicom = Callable[..., pydicom.Dataset]

UIDS = {"StudyInstanceUID": "1.9.8.7.6", "FrameOfReferenceUID": "1.9.8.7.5"}
PLACE = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.7, 0.5]}


def write_series(
    write_dicom: WriteDicom,
    folder: Path,
    heights: tuple[float, ...] = (0, 2),
    **changes: Any,
) -> Path:
    """Write slices of which nothing is told but where they are, and their identity."""
    for height in heights:
        told = {**UIDS, **PLACE, "ImagePositionPatient": [1, 2, height], **changes}
        write_dicom(folder / f"{height}.dcm", np.zeros((5, 7), np.int16), **told)
    return folder


def write_seg(
    path: Path, output: Path, prompts: tuple[str, ...] = ("liver",)
) -> pydicom.Dataset:
    """Segment by chance, write, and return the labels as pydicom reads them."""
    image = read(path)
    shape = (len(prompts), *image.spatial_shape)
    probability = np.random.default_rng(1).random(shape).astype(np.float32)
    maps: dict[str, Any] = dict.fromkeys(MAPS, probability)
    found = Segmentation(
        prompts=prompts,
        labels=(probability[0] > 0.5).astype(np.uint8),
        affine=image.affine,
        units=image.units,
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={},
        **maps,
    )
    write(found, path, output, stem="s", file_format="dicom-seg")
    return pydicom.dcmread(output / "s_labels.dcm")


def test_names_in_other_letters_survive(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    told: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 144",
        "PatientName": "Петрова^Анна",
    }
    series = write_series(write_dicom, tmp_path / "ct", **told)
    seg = write_seg(series, tmp_path / "out", ("опухоль", "εγκέφαλος"))
    assert seg.PatientName == "Петрова^Анна"
    labels = [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert labels == ["опухоль", "εγκέφαλος"]


def test_a_file_that_lost_its_patient_can_be_referred_to(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series = write_series(write_dicom, tmp_path / "ct", PatientSex="X")
    seg = write_seg(series, tmp_path / "out")
    assert (seg.PatientID, seg.PatientSex, seg.StudyDate) == ("", "", "")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == 2  # from slice to slice


def test_a_date_or_time_that_is_none_is_left_out(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    told: dict[str, Any] = {"StudyTime": "14:04:38", "StudyDate": "Doe", "StudyID": "7"}
    with pydicom.config.disable_value_validation():
        series = write_series(write_dicom, tmp_path / "ct", **told)
    seg = write_seg(series, tmp_path / "out")
    assert (seg.StudyTime, seg.StudyDate, seg.StudyID) == ("", "", "7")


def test_slices_turned_by_rounding_and_a_wrong_spacing_are_no_obstacle(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series = write_series(write_dicom, tmp_path / "ct", SpacingBetweenSlices=-7)
    turned = {"ImageOrientationPatient": [1, 1e-7, 0, 0, 1, 0]}
    write_series(write_dicom, series, (4,), **turned)
    seg = write_seg(series, tmp_path / "out")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"FrameOfReferenceUID": None},
            "with a FrameOfReferenceUID .* another format",
        ),
        ({"StudyInstanceUID": None}, "with a StudyInstanceUID for DICOM-SEG, got one"),
        ({"SOPClassUID": "1.2.3.999"}, "cannot repeat .*; choose another format"),
    ],
)
def test_a_series_that_cannot_be_referred_to_says_why_and_leaves_nothing(
    tmp_path: Path, write_dicom: WriteDicom, changes: dict[str, Any], told: str
) -> None:
    series = write_series(write_dicom, tmp_path / "ct", **changes)
    with pytest.raises(UnsupportedFormatError, match=told):
        write_seg(series, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_multi_frame_files_are_refused(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for height in (0, 2):
        group, item, plane, measures = (pydicom.Dataset() for _ in range(4))
        item.ImagePositionPatient = [1, 2, height]
        plane.ImageOrientationPatient = PLACE["ImageOrientationPatient"]
        measures.PixelSpacing = PLACE["PixelSpacing"]
        group.PlanePositionSequence = [item]
        group.PlaneOrientationSequence = [plane]
        group.PixelMeasuresSequence = [measures]
        write_dicom(
            tmp_path / f"{height}.dcm",
            np.zeros((5, 7), np.int16),
            SOPClassUID=EnhancedCTImageStorage,
            PerFrameFunctionalGroupsSequence=[group],
            **UIDS,
        )
    image = read(tmp_path)
    with pytest.raises(UnsupportedFormatError, match="got 2 multi-frame files; choose"):
        check_format(image, Source(tmp_path), "dicom-seg")


def test_what_is_no_series_in_the_patient_is_refused_before_the_work(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_dicom(tmp_path / "film.dcm", np.zeros((3, 5, 7), np.uint8))
    film = read(tmp_path / "film.dcm")
    with pytest.raises(UnsupportedFormatError, match=r"lie in the patient .*a film"):
        check_format(film, Source(tmp_path / "film.dcm"), "dicom-seg")
    with pytest.raises(UnsupportedFormatError, match=r"got nothing there; choose"):
        check_format(film, Source(tmp_path / "gone.png"), "dicom-seg")
    (tmp_path / "a.nii").write_bytes(b"no DICOM")
    with pytest.raises(UnsupportedFormatError, match=r"got another kind; choose"):
        check_format(film, Source(tmp_path / "a.nii"), "dicom-seg")
    check_format(film, Source(tmp_path / "gone.png"), "tiff")


def test_the_source_is_only_changed_in_memory(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series = write_series(write_dicom, tmp_path / "ct")
    before = {path: path.read_bytes() for path in series.iterdir()}
    seg = write_seg(series, tmp_path / "out")
    assert (
        seg.ReferencedSeriesSequence[0]
        .ReferencedInstanceSequence[0]
        .ReferencedSOPClassUID
        == CTImageStorage
    )
    assert {path: path.read_bytes() for path in series.iterdir()} == before
