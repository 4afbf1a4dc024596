"""DICOM-SEG, read back by highdicom and by pydicom, lies on the slices it refers to."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from napari_medvlseg.core.errors import GeometryError
from napari_medvlseg.core.io.formats import Source, check_format
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.io.write import MAPS, write
from napari_medvlseg.core.palette import label_color
from napari_medvlseg.core.types import Image, Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    WriteDicom = Callable[..., pydicom.Dataset]

Array = npt.NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:datetime:DeprecationWarning")

PROMPTS = ("left lung", "a pancreas", "breast tumor", "something odd\\here")
SECRETS = {
    "PatientName": "Doe^Jane^Quentin",
    "PatientID": "PAT-778899",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "AccessionNumber": "ACC31337",
    "StudyID": "STUDY42",
    "StudyDate": "20240501",
}
UIDS = {"StudyInstanceUID": "1.9.8.7.6", "FrameOfReferenceUID": "1.9.8.7.5"}
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
TILTED = (1, 0, 0, 0, float(np.cos(0.3)), float(-np.sin(0.3)))
LAYOUTS: dict[str, tuple[Any, Any]] = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 2.5)),
    "descending": ((1, 0, 0, 0, 1, 0), (0, 0, -2.5)),
    "feet first": ((-1, 0, 0, 0, 1, 0), (0, 0, 2.5)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (3, 0, 0)),
    "oblique": (OBLIQUE, tuple(2.5 * np.cross(OBLIQUE[:3], OBLIQUE[3:]))),
    "rounded": ((0.7071, 0.7071, 0, -0.7071, 0.7071, 0), (0, 0, 2.5)),
    "tilted gantry": (TILTED, (0, 0, 2.5)),
}


def place(orientation: Any, step: Any, k: int) -> dict[str, Any]:
    return {
        "ImageOrientationPatient": [float(x) for x in orientation],
        "ImagePositionPatient": [
            round(start + k * move, 8)
            for start, move in zip((-12.5, 30.0, 7.0), step, strict=True)
        ],
        "PixelSpacing": [0.7, 0.5],
        "SliceThickness": 2.0,
    }


def write_series(
    write_dicom: WriteDicom, folder: Path, layout: str = "axial", **elements: Any
) -> Path:
    """Write four slices of 5 rows and 7 columns, under names that mislead."""
    for name, k in zip(("IM9", "a.dcm", "z", "IM10"), (2, 0, 3, 1), strict=True):
        told = {**SECRETS, **UIDS, **place(*LAYOUTS[layout], k), "InstanceNumber": 9}
        write_dicom(folder / name, np.full((5, 7), k, np.int16), **{**told, **elements})
    return folder


def segmented(image: Image, prompts: tuple[str, ...] = PROMPTS) -> Segmentation:
    """Return overlapping masks; the second prompt is found nowhere."""
    shape = (len(prompts), *image.spatial_shape)
    probability = np.random.default_rng(1).random(shape).astype(np.float32)
    probability[1:2] *= 0.4
    maps: dict[str, Any] = dict.fromkeys(MAPS, probability)
    return Segmentation(
        prompts=prompts,
        labels=((probability.argmax(0) + 1) * (probability.max(0) > 0.5)).astype("u1"),
        affine=image.affine,
        units=image.units,
        threshold=0.5,
        min_foreground=0,
        slice_axis=None,
        provenance={"model": "compact", "weights_sha256": "ab" * 32, "seed": 3},
        **maps,
    )


def save(
    path: Path, output: Path, prompts: tuple[str, ...] = PROMPTS
) -> tuple[Image, Segmentation, Path]:
    image = read(path)
    found = segmented(image, prompts)
    write(found, path, output, stem="s", file_format="dicom-seg")
    return image, found, output


def frames_by_source(seg: Any) -> dict[tuple[int, str, int], tuple[Array, Any]]:
    """Return pixels and groups by segment, source file and its frame, with pydicom."""
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    found = {}
    groups = seg.PerFrameFunctionalGroupsSequence
    for frame, group in zip(pixels, groups, strict=True):
        named = group if "SegmentIdentificationSequence" in group else shared
        number = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        at = int(source.get("ReferencedFrameNumber", 1))
        found[number, source.ReferencedSOPInstanceUID, at] = frame, group
    return found


def corners_mm(position: Any, orientation: Any, spacing: Any) -> Array:
    """Return the centres of the four corner pixels of 5 rows and 7 columns, RAS."""
    turn = np.array(orientation, dtype=float).reshape(2, 3)
    lps = [
        np.array(position, dtype=float)
        + column * float(spacing[1]) * turn[0]
        + row * float(spacing[0]) * turn[1]
        for column, row in itertools.product((0, 6), (0, 4))
    ]
    return np.array(lps) * (-1, -1, 1)


def check_places(
    file: Path, image: Image, expected: Array, positions: Mapping[Any, Any]
) -> None:
    """Compare each source frame with the image's slice at that place in mm."""
    seg = pydicom.dcmread(file)
    found = frames_by_source(seg)
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    scale = 1 if seg.SegmentationType == "BINARY" else seg.MaximumFractionalValue
    seen = set()
    for (uid, frame), position in positions.items():
        ras = np.append(np.array(position, dtype=float) * (-1, -1, 1), 1)
        k = round(float((np.linalg.inv(image.affine) @ ras)[2]))
        seen.add(k)
        for index, values in enumerate(expected):
            key = (index + 1, uid, frame)
            if key not in found:
                assert not np.round(values[:, :, k] * scale).any()
                continue
            pixels, group = found.pop(key)
            assert np.abs(pixels / scale - values[:, :, k].T).max() <= 0.5001 / 255
            told = group.PlanePositionSequence[0].ImagePositionPatient
            ends = itertools.product((0, 6), (0, 4))
            ours = [(image.affine @ [*end, k, 1])[:3] for end in ends]
            corners = corners_mm(told, orientation, spacing)
            assert np.allclose(corners, ours, rtol=0, atol=1e-3)
    assert found == {}
    assert seen == set(range(4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_slice_gets_what_was_found_on_it(
    tmp_path: Path, write_dicom: WriteDicom, layout: str
) -> None:
    series = write_series(write_dicom, tmp_path / "ct", layout)
    image, found, output = save(series, tmp_path / "out")
    sources = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    positions = {(d.SOPInstanceUID, 1): d.ImagePositionPatient for d in sources}
    check_places(output / "s_labels.dcm", image, found.masks, positions)
    check_places(output / "s_probability.dcm", image, found.probability, positions)
    order = sorted(sources, key=lambda source: int(source.pixel_array[0, 0]))
    uids = [source.SOPInstanceUID for source in order]
    k_of = [int(image.voxels[0, 0].tolist().index(k)) for k in range(4)]
    for name, values, tolerance in (
        ("labels", found.masks, 0),
        ("probability", found.probability, 0.5001 / 255),
    ):
        seg = hd.seg.segread(output / f"s_{name}.dcm")
        read_back = seg.get_pixels_by_source_instance(
            source_sop_instance_uids=uids,
            ignore_spatial_locations=False,
            rescale_fractional=True,
            assert_missing_frames_are_empty=True,
        )  # (K, row, column, P)
        expected = values[:, :, :, k_of].transpose(3, 2, 1, 0)
        assert np.abs(read_back - expected.astype(np.float32)).max() <= tolerance


@pytest.mark.parametrize("shared", [True, False])
def test_frames_of_one_file_get_what_was_found_on_them(
    tmp_path: Path, write_dicom: WriteDicom, *, shared: bool
) -> None:
    own, positions = [], {}
    uid, common = generate_uid(), Dataset()
    for number, k in enumerate((2, 0, 3, 1), start=1):
        told = place(*LAYOUTS["oblique"], k)
        group, item = Dataset(), Dataset()
        item.ImagePositionPatient = told["ImagePositionPatient"]
        group.PlanePositionSequence = [item]
        positions[uid, number] = item.ImagePositionPatient
        turned, measured = Dataset(), Dataset()
        turned.ImageOrientationPatient = told["ImageOrientationPatient"]
        measured.PixelSpacing, measured.SliceThickness = told["PixelSpacing"], 2.0
        place_of = common if shared else group
        place_of.PlaneOrientationSequence = [turned]
        place_of.PixelMeasuresSequence = [measured]
        own.append(group)
    path = tmp_path / "enhanced.dcm"
    write_dicom(
        path,
        np.zeros((4, 5, 7), np.int16),
        **{**SECRETS, **UIDS},
        SOPClassUID=pydicom.uid.EnhancedCTImageStorage,
        SOPInstanceUID=uid,
        SharedFunctionalGroupsSequence=[common],
        PerFrameFunctionalGroupsSequence=own,
    )
    image, found, output = save(path, tmp_path / "out")
    check_places(output / "s_labels.dcm", image, found.masks, positions)
    check_places(output / "s_probability.dcm", image, found.probability, positions)


@pytest.mark.parametrize(
    ("kind", "elements"),
    [
        (pydicom.uid.CTImageStorage, {**UIDS, **place(*LAYOUTS["oblique"], 1)}),
        (pydicom.uid.ComputedRadiographyImageStorage, {"PixelSpacing": [0.7, 0.5]}),
        (pydicom.uid.XRayAngiographicImageStorage, {"NumberOfFrames": 1}),
    ],
)
def test_a_single_picture_can_be_referred_to(
    tmp_path: Path, write_dicom: WriteDicom, kind: str, elements: dict[str, Any]
) -> None:
    path = tmp_path / "one.dcm"
    told = {"StudyInstanceUID": "1.9.8", "SOPClassUID": kind, **elements}
    source = write_dicom(path, np.zeros((5, 7), np.int16), **told)
    image, found, output = save(path, tmp_path / "out")
    seg = pydicom.dcmread(output / "s_labels.dcm")
    assert seg.get("FrameOfReferenceUID") == told.get("FrameOfReferenceUID")
    frames = frames_by_source(seg)
    for index, mask in enumerate(found.masks):
        if mask.any():
            pixels, group = frames.pop((index + 1, source.SOPInstanceUID, 1))
            assert np.array_equal(pixels, mask)
            if "ImagePositionPatient" in told:
                at = group.PlanePositionSequence[0].ImagePositionPatient
                assert np.allclose(np.array(at) * (-1, -1, 1), image.affine[:3, 3])
    assert frames == {}


def test_the_two_files_say_who_made_them_and_of_what(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series = write_series(write_dicom, tmp_path / "ct")
    _, _, output = save(series, tmp_path / "out")
    labels = hd.seg.segread(output / "s_labels.dcm")
    probability = hd.seg.segread(output / "s_probability.dcm")
    assert (labels.SegmentationType, labels.SegmentsOverlap) == ("BINARY", "YES")
    assert probability.SegmentationFractionalType == "PROBABILITY"
    assert probability.MaximumFractionalValue == 255
    assert (labels.SeriesNumber, probability.SeriesNumber) == (301, 302)
    assert labels.SeriesInstanceUID != probability.SeriesInstanceUID
    for seg in (labels, probability):
        assert seg.segment_numbers == [1, 2, 3, 4]
        assert (seg.Manufacturer, seg.ManufacturerModelName) == (
            "napari-medvlseg",
            "compact",
        )
        assert seg.FrameOfReferenceUID == UIDS["FrameOfReferenceUID"]
        assert seg.PatientName == SECRETS["PatientName"]
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"
    pairs = zip(labels.SegmentSequence, probability.SegmentSequence, strict=True)
    assert all(one.TrackingUID == other.TrackingUID for one, other in pairs)


def test_a_segment_says_what_it_is_who_found_it_and_its_colour(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series = write_series(write_dicom, tmp_path / "ct")
    long = "the polyp " * 10 + "here"
    _, _, output = save(series, tmp_path / "out", (*PROMPTS, long))
    segments = pydicom.dcmread(output / "s_labels.dcm").SegmentSequence
    for number, segment in enumerate(segments, start=1):
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "compact"
        assert algorithm.AlgorithmVersion == "ab" * 32
        assert "seed=3" in algorithm.AlgorithmParameters
        family = algorithm.AlgorithmFamilyCodeSequence[0]
        assert family.CodeMeaning == "Artificial Intelligence"
        lab = hd.color.CIELabColor.from_dicom_value(
            segment.RecommendedDisplayCIELabValue
        )
        wanted = [int(label_color(number)[at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(np.subtract(lab.to_rgb(clip=True), wanted)).max() <= 2
    lung, _, tumor, odd, cut = segments
    kind = lung.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
    side = kind.SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert tumor.AnatomicRegionSequence[0].CodeValue == "76752008"
    assert odd.SegmentLabel == odd.SegmentDescription == "something odd/here"
    kind = odd.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodingSchemeDesignator == "99MEDVLSEG"
    assert len(cut.SegmentLabel) <= 64
    assert cut.SegmentDescription == long


@pytest.mark.parametrize("probability", [0.0, 0.001])  # the latter is 0 of 255
def test_nothing_found_is_a_file_of_empty_segments(
    tmp_path: Path, write_dicom: WriteDicom, probability: float
) -> None:
    series = write_series(write_dicom, tmp_path / "ct")
    found = segmented(read(series))
    nothing = np.full_like(found.probability, probability)
    empty = replace(found, probability=nothing, labels=np.zeros_like(found.labels))
    write(empty, series, tmp_path, stem="s", file_format="dicom-seg")
    for name in ("labels", "probability"):
        seg = hd.seg.segread(tmp_path / f"s_{name}.dcm")
        assert seg.number_of_segments == 4
        assert not seg.pixel_array.any()


def test_the_other_maps_and_the_json_lie_beside_and_name_no_patient(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    series = write_series(write_dicom, tmp_path / "ct")
    with caplog.at_level(logging.DEBUG):
        _, _, output = save(series, tmp_path / "out")
    assert sorted(path.name for path in output.iterdir()) == [
        "s.json",
        "s_expected_entropy.nii.gz",
        "s_labels.dcm",
        "s_mutual_information.nii.gz",
        "s_predictive_entropy.nii.gz",
        "s_probability.dcm",
    ]
    text = (output / "s.json").read_text("utf-8")
    told = json.loads(text)
    assert told["format"] == "dicom-seg"
    assert [entry["present"] for entry in told["prompts"]] == [True, False, True, True]
    assert [entry["label"] for entry in told["prompts"]] == [1, 2, 3, 4]
    assert told["prompts"][1]["color"] == label_color(2)
    for secret in (*SECRETS.values(), *UIDS.values(), "1.2.3.4"):
        if len(secret) > 1:
            assert secret not in text + caplog.text


def test_the_series_that_was_segmented_is_the_one_referred_to(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    folder = write_series(write_dicom, tmp_path / "ct")
    other = write_series(
        write_dicom, tmp_path / "x", SeriesNumber=7, SeriesInstanceUID="1.2.7"
    )
    for path in other.iterdir():
        path.rename(folder / f"7{path.name}")
    image = read(folder, series="7")
    found = segmented(image)
    write(found, Source(folder, "7"), tmp_path, stem="s", file_format="dicom-seg")
    seg = pydicom.dcmread(tmp_path / "s_labels.dcm")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.7"
    assert seg.SeriesNumber == 701
    moved = Image(image.voxels, image.affine + 0.01, units="mm")
    with pytest.raises(GeometryError, match="in another place; name its own folder"):
        check_format(moved, Source(folder, "7"), "dicom-seg")
