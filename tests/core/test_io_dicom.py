from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813 - as everyone calls it
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.inputs import expand
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.slices import choose_slices

if TYPE_CHECKING:
    from collections.abc import Callable

    import pydicom

    from napari_medvlseg.core.types import Image

    WriteDicom = Callable[..., pydicom.Dataset]

Array = npt.NDArray[Any]

SHAPE = (5, 7, 4)  # rows, columns, slices
VOLUME = np.random.default_rng(0).integers(-900, 900, (4, 5, 7)).astype(np.int16)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "rounded": (0.7071, 0.7071, 0, -0.7071, 0.7071, 0),
    "oblique": OBLIQUE,
}
SECRETS = {
    "PatientName": "Doe^Jane^Quentin",
    "PatientID": "PAT-778899",
    "PatientBirthDate": "19610203",
    "PatientAddress": "Elm Street",
    "OtherPatientIDs": "OTHER-5544",
    "PatientComments": "allergic",
    "InstitutionName": "Mercy Hospital",
    "InstitutionAddress": "Springfield",
    "ReferringPhysicianName": "House^Gregory",
    "PerformingPhysicianName": "Wilson^James",
    "OperatorsName": "Chase",
    "StationName": "SCANNER7",
    "DeviceSerialNumber": "SN4711",
    "AccessionNumber": "ACC31337",
    "StudyID": "STUDY42",
    "StudyDate": "20240501",
    "SeriesDate": "20240502",
    "AcquisitionTime": "101112",
    "StudyInstanceUID": "1.9.8.7.6",
    "FrameOfReferenceUID": "1.9.8.7.5",
    "SeriesDescription": "Liver Doe Jane 19610203 venous",
    "StudyDescription": "Follow-up: Jane",
    "ProtocolName": "Doe protocol",
    "ImageComments": "Doe again",
}


def sample(name: str) -> Path:
    """Return the path of a file that pydicom ships."""
    return Path(str(get_testdata_file(name, download=False)))


def normal_of(orientation: tuple[float, ...]) -> Array:
    return np.cross(orientation[:3], orientation[3:])


def slices(
    write: WriteDicom,
    folder: Path,
    orientation: Any = OBLIQUE,
    step: Any = None,
    **elements: Any,
) -> None:
    """Write VOLUME in a shuffled order, under names and numbers that mislead."""
    step = 2.5 * normal_of(orientation) if step is None else np.asarray(step)
    for name, k in zip(("IM9", "a.dcm", "z", "IM10"), (2, 0, 3, 1), strict=True):
        place = {
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [float(x) for x in (-12.5, 30, 7) + k * step],
            "PixelSpacing": [0.7, 0.5],
            "InstanceNumber": ord(name[0]),
        }
        write(folder / name, VOLUME[k], **{**place, **elements})


def itk_series(folder: Path) -> sitk.Image:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return sitk.ReadImage(names)


def assert_same_as_itk(image: Image, other: sitk.Image) -> None:
    values = sitk.GetArrayFromImage(other)
    assert np.array_equal(image.voxels, values.transpose(2, 1, 0))
    ends = [(0, size - 1) for size in image.spatial_shape]
    for corner in np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3):
        point = other.TransformIndexToPhysicalPoint([int(i) for i in corner])
        expected = np.array(point) * (-1, -1, 1)
        assert np.allclose(
            (image.affine @ [*corner, 1])[:3], expected, rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_series_lies_where_simpleitk_puts_it(
    tmp_path: Path, write_dicom: WriteDicom, name: str
) -> None:
    slices(write_dicom, tmp_path, ORIENTATIONS[name], RescaleIntercept=-24)
    image = read(tmp_path)
    assert_same_as_itk(image, itk_series(tmp_path))
    assert image.voxels.dtype == np.int16
    assert image.spatial_shape == (7, 5, 4)
    assert (image.units, image.slice_axis, image.rgb) == ("mm", 2, False)
    assert image.spacing_mm == pytest.approx((0.5, 0.7, 2.5), abs=1e-4)
    assert image.facts["missing_slices"] == 0
    assert "gantry_tilt_degrees" not in image.facts


def test_a_tilted_gantry_keeps_every_voxel_where_the_header_says(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    orientation = (1, 0, 0, 0, np.cos(0.3), -np.sin(0.3))
    slices(write_dicom, tmp_path, orientation, (0, 0, 2.5))
    image = read(tmp_path)
    assert image.facts["gantry_tilt_degrees"] == pytest.approx(
        np.degrees(0.3), abs=0.01
    )
    for k in range(4):
        lps = np.array([-12.5, 30, 7 + 2.5 * k])
        lps = lps + 6 * 0.5 * np.array(orientation[:3])  # the last column
        lps = lps + 4 * 0.7 * np.array(orientation[3:])  # of the last row
        assert np.allclose((image.affine @ [6, 4, k, 1])[:3], lps * (-1, -1, 1))
        assert np.array_equal(image.voxels[:, :, k], VOLUME[k].T)


def test_a_slice_that_is_missing_is_named(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    slices(write_dicom, tmp_path, ORIENTATIONS["axial"])
    (tmp_path / "IM9").unlink()
    with pytest.raises(GeometryError, match=r"1 missing among 3, at 9.50 mm|12.00 mm"):
        read(tmp_path)


def test_uneven_slices_are_read_with_a_warning_while_the_mean_is_near(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    for k, height in enumerate((0, 1.04, 2, 3)):
        write_dicom(
            tmp_path / str(k),
            VOLUME[k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, height],
            PixelSpacing=[1, 1],
        )
    with caplog.at_level(logging.WARNING):
        image = read(tmp_path)
    assert image.facts["uneven_spacing_mm"] == pytest.approx(0.04)
    assert "off an even grid" in caplog.text
    assert image.spacing_mm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("keyword", "values", "told"),
    [
        ("EchoTime", (4.6, 9.2), r"echo time \(4.6, 9.2\)"),
        ("TemporalPositionIdentifier", (1, 2), r"time point \(1, 2\)"),
        ("DiffusionBValue", (0.0, 800.0), r"b-value \(0.0, 800.0\)"),
        ("InstanceNumber", (1, 2), "may be copies"),
    ],
)
def test_several_slices_in_one_place_say_what_differs_and_what_to_do(
    tmp_path: Path,
    write_dicom: WriteDicom,
    keyword: str,
    values: tuple[float, float],
    told: str,
) -> None:
    for value in values:
        slices(write_dicom, tmp_path / "x", **{keyword: value})
        for path in (tmp_path / "x").iterdir():
            path.rename(tmp_path / f"{value}{path.name}")
    with pytest.raises(UnsupportedFormatError, match=told) as caught:
        read(tmp_path)
    assert "got 8 at 4" in str(caught.value)
    assert "a folder of their own" in str(caught.value)


@pytest.mark.parametrize(
    "elements",
    [
        {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        {"PixelSpacing": [0.9, 0.9]},
        {"Rows": 4, "PixelData": bytes(2 * 4 * 7)},
    ],
)
def test_slices_that_do_not_fit_together_are_refused(
    tmp_path: Path, write_dicom: WriteDicom, elements: dict[str, Any]
) -> None:
    slices(write_dicom, tmp_path, ORIENTATIONS["axial"])
    place = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-12.5, 30, 17],
        "PixelSpacing": [0.7, 0.5],
    }
    write_dicom(tmp_path / "odd", VOLUME[0], **{**place, **elements})
    with pytest.raises(UnsupportedFormatError, match=r"got .*; name one file"):
        read(tmp_path)


def enhanced(write: WriteDicom, path: Path, order: list[int], **frame: Any) -> None:
    """Write VOLUME as one file with functional groups, its frames in some order."""

    def group(**elements: Any) -> list[Dataset]:
        item = Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        return [item]

    frames = []
    for place in order:
        k = place % 4
        origin = np.array([-12.5, 30, 7]) + k * 2.5 * normal_of(OBLIQUE)
        one = Dataset()
        one.PlanePositionSequence = group(ImagePositionPatient=origin.round(9).tolist())
        one.PixelValueTransformationSequence = group(
            RescaleSlope=1 + k, RescaleIntercept=-10, RescaleType="US"
        )
        one.FrameContentSequence = group(TemporalPositionIndex=1 + place // 4, **frame)
        frames.append(one)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=list(OBLIQUE))
    shared.PixelMeasuresSequence = group(PixelSpacing=[0.7, 0.5], SliceThickness=2)
    shared.FrameVOILUTSequence = group(WindowCenter=40, WindowWidth=400)
    write(
        path,
        VOLUME[[place % 4 for place in order]],
        Modality="MR",
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[shared],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
    )


def test_an_enhanced_file_is_a_volume_with_each_frame_in_its_place_and_scale(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    enhanced(write_dicom, tmp_path / "e", [2, 0, 3, 1])
    slices(write_dicom, tmp_path / "classic", OBLIQUE)
    image, classic = read(tmp_path / "e"), read(tmp_path / "classic")
    assert np.allclose(image.affine, classic.affine, atol=1e-6)
    for k in range(4):
        expected = VOLUME[k].T.astype(int) * (1 + k) - 10
        assert np.array_equal(image.voxels[:, :, k], expected)
    assert image.voxels.dtype == np.int16
    assert (image.name, image.slice_axis, image.units) == ("MR series 3", 2, "mm")
    assert (image.facts["window_center"], image.facts["slices"]) == (40, 4)
    assert image.facts["slice_thickness_mm"] == 2


def test_an_enhanced_file_of_several_time_points_says_so(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    enhanced(write_dicom, tmp_path / "e", [0, 4, 1, 5, 2, 6, 3, 7])
    with pytest.raises(
        UnsupportedFormatError, match=r"time point \(1, 2\); .*dcm2niix"
    ):
        read(tmp_path / "e")


def test_an_enhanced_file_of_one_place_is_a_film(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    enhanced(write_dicom, tmp_path / "e", [1, 5, 9])
    image = read(tmp_path / "e")
    assert (image.spatial_shape, image.units, image.slice_axis) == (
        (3, 5, 7),
        "pixel",
        0,
    )
    assert image.facts["spacing_mm"] == [0.7, 0.5]


def test_one_slice_is_a_picture_in_the_place_that_it_has_in_its_volume(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    slices(write_dicom, tmp_path, SliceThickness=2)
    volume, picture = read(tmp_path), read(tmp_path / "a.dcm")
    assert np.array_equal(picture.voxels, VOLUME[0])
    assert picture.spacing_mm == pytest.approx((0.7, 0.5))
    for row, column in ((0, 0), (4, 0), (4, 6)):
        assert np.allclose(
            picture.affine @ [row, column, 0, 1], volume.affine @ [column, row, 0, 1]
        )
    assert np.linalg.norm(picture.affine[:3, 2]) == pytest.approx(2)


def test_an_axial_volume_is_shown_to_a_model_as_its_slices_are_stored(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    slices(write_dicom, tmp_path, ORIENTATIONS["axial"])
    image = read(tmp_path)
    chosen = choose_slices(image, None, None)
    assert chosen.indices == range(4)
    assert np.array_equal(chosen.picture(image.voxels, 2), VOLUME[2])


def test_nothing_tells_who_the_patient_is(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    request = Dataset()
    request.RequestedProcedureID = "RP-2211"
    secrets = {**SECRETS, "RequestAttributesSequence": [request]}
    model = {"Manufacturer": "ACME", "ManufacturerModelName": "Scan Doe PAT-778899"}
    slices(write_dicom, tmp_path / "Doe_Jane", **secrets, **model)
    image = read(tmp_path / "Doe_Jane")
    told = json.dumps([image.name, image.facts]).casefold()
    words = " ".join(SECRETS.values()).replace("^", " ").casefold().split()
    assert [word for word in {*words, "rp-2211"} if word in told] == []
    assert not re.search(r"\d\.\d+\.\d", told)  # a UID
    assert (image.name, image.facts["model"]) == ("CT series 3", "Scan")


def test_the_facts_are_ready_for_json(tmp_path: Path, write_dicom: WriteDicom) -> None:
    elements = {"WindowCenter": [40, 400], "WindowWidth": [80, 1500]}
    slices(write_dicom, tmp_path, SliceThickness=3, Manufacturer="ACME", **elements)
    facts = dict(read(tmp_path).facts)
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "modality": "CT",
        "manufacturer": "ACME",
        "rows": 5,
        "columns": 7,
        "slice_thickness_mm": 3.0,
        "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax": "Explicit VR Little Endian",
        "orientation": "oblique coronal",
        "window_center": 40.0,
        "window_width": 80.0,
        "missing_slices": 0,
        "slices": 4,
        "spacing_mm": [0.5, 0.7, 2.5],
    }


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"]
)
def test_a_real_file_is_what_simpleitk_reads(name: str) -> None:
    path = sample(name)
    image, other = read(path), sitk.ReadImage(path)
    assert np.array_equal(image.voxels, sitk.GetArrayFromImage(other)[0])
    for row, column in ((0, 0), (image.spatial_shape[0] - 1, 5)):
        point = other.TransformIndexToPhysicalPoint((column, row, 0))
        expected = np.array(point) * (-1, -1, 1)
        place = (image.affine @ [row, column, 0, 1])[:3]
        assert np.allclose(place, expected, rtol=0, atol=1e-4)


def test_a_folder_stands_for_its_volume_and_for_each_of_its_pictures(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    slices(write_dicom, tmp_path / "scan")
    (tmp_path / "scan" / "b.png").touch()
    assert expand([str(tmp_path / "scan")]) == [
        tmp_path / "scan",
        tmp_path / "scan" / "b.png",
    ]
    for name in ("1", "2.dcm"):
        write_dicom(tmp_path / "xrays" / name, VOLUME[0], Modality="DX")
    assert expand([str(tmp_path / "xrays")]) == [
        tmp_path / "xrays" / "1",
        tmp_path / "xrays" / "2.dcm",
    ]
