from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom import read_dicom
from napari_medvlseg.core.io.dicom_series import list_series
from napari_medvlseg.core.io.read import check_readable, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]


def series(
    write: WriteDicom, folder: Path, number: int, count: int, **elements: Any
) -> None:
    for k in range(count):
        place = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, 3 * k],
            "PixelSpacing": [0.7, 0.5],
        }
        write(
            folder / f"{number}-{k}",
            np.full((5, 7), 10 * number + k, np.int16),
            SeriesNumber=number,
            **{"SeriesInstanceUID": f"1.2.{number}", **place, **elements},
        )


@pytest.fixture
def study(tmp_path: Path, write_dicom: WriteDicom) -> Path:
    """Return a folder with a volume, a scout, and what else lies in such folders."""
    text = "Abdomen Doe 19610203 1961-02-03"
    told = {"SeriesDescription": text, "PatientName": "Doe^Jane"}
    series(write_dicom, tmp_path, 7, 3, **told)
    series(write_dicom, tmp_path, 2, 1)
    plan = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.5", "Modality": "RTPLAN"}
    bare = dict.fromkeys(("Rows", "Columns", "PixelData"))
    write_dicom(tmp_path / "plan.dcm", np.zeros((1, 1), np.uint8), **plan, **bare)
    index = {"SOPClassUID": "1.2.840.10008.1.3.10"}
    write_dicom(tmp_path / "DICOMDIR", np.zeros((1, 1), np.uint8), **index, **bare)
    (tmp_path / "notes.txt").write_text("Doe")
    (tmp_path / "IM0").touch()
    (tmp_path / "deeper").mkdir()
    series(write_dicom, tmp_path / "deeper", 9, 1)
    return tmp_path


def test_the_series_of_a_folder_are_listed_without_the_patient(study: Path) -> None:
    scout, volume = list_series(study)
    assert (scout.number, scout.count, scout.shape) == (2, 1, (5, 7))
    assert (volume.uid, volume.number, volume.modality) == ("1.2.7", 7, "CT")
    assert (volume.description, volume.count) == ("Abdomen", 3)
    assert (volume.shape, volume.is_stacked) == ((7, 5, 3), True)
    assert volume.spacing_mm == pytest.approx((0.5, 0.7, 3))
    assert str(volume) == 'CT series 7 "Abdomen" (3 files, 7 x 5 x 3)'


def test_a_folder_with_several_series_lists_them_and_says_how_to_choose(
    study: Path,
) -> None:
    with pytest.raises(UnsupportedFormatError, match="found 2: CT series") as caught:
        read(study)
    text = str(caught.value)
    assert "CT series 2 (1 files, 5 x 7)" in text
    assert "--series in the shell or read(path, series=...)" in text
    assert "Doe" not in text.removeprefix(str(study))
    assert "\n" not in text


@pytest.mark.parametrize("wanted", ["7", "1.2.7"])
def test_a_series_is_chosen_by_number_or_uid(study: Path, wanted: str) -> None:
    image = read(study, series=wanted)
    assert image.name == "CT series 7"
    assert image.voxels[0, 0].tolist() == [70, 71, 72]
    assert np.array_equal(read_dicom(study, "1.2.7").voxels, image.voxels)


def test_a_series_that_is_not_there_is_told_from_those_that_are(study: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="one series 5, found 2: CT"):
        read(study, series="5")


def test_series_of_one_number_are_told_apart_by_their_uid(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series(write_dicom, tmp_path, 1, 1)
    series(write_dicom, tmp_path / "x", 1, 1, SeriesInstanceUID="1.2.99")
    (tmp_path / "x" / "1-0").rename(tmp_path / "other")
    with pytest.raises(UnsupportedFormatError, match=r"UID 1\.2\.99"):
        read(tmp_path, series="1")
    assert read(tmp_path, series="1.2.99").name == "CT series 1"


def test_a_folder_with_one_series_needs_no_choice(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    series(write_dicom, tmp_path, 4, 2)
    (tmp_path / "IM0").write_bytes(b"no DICOM")
    assert read(str(tmp_path)).spatial_shape == (7, 5, 2)


def test_a_damaged_file_of_a_folder_is_passed_over_with_a_warning(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    series(write_dicom, tmp_path, 4, 2)
    (tmp_path / "bad.dcm").write_bytes(b"no DICOM")
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path).spatial_shape == (7, 5, 2)
    assert "passed over" in caplog.text
    assert "bad.dcm" in caplog.text


def test_a_series_with_a_damaged_header_does_not_hide_the_others(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    series(write_dicom, tmp_path, 4, 2)
    series(write_dicom, tmp_path, 5, 2, ImagePositionPatient=[0, 0])
    whole, damaged = list_series(tmp_path)
    assert "5-0: cannot be read as DICOM" in caplog.text
    assert (whole.shape, whole.spacing_mm is None) == ((7, 5, 2), False)
    assert (damaged.shape, damaged.spacing_mm) == ((2, 5, 7), None)
    assert damaged.is_stacked
    assert read(tmp_path, series="4").spatial_shape == (7, 5, 2)
    with pytest.raises(UnsupportedFormatError, match="5-0: cannot be read as DICOM"):
        read(tmp_path, series="5")


def test_pictures_of_one_series_without_places_are_read_one_by_one(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    series(write_dicom, tmp_path, 4, 2, Modality="DX", **nowhere)
    with pytest.raises(UnsupportedFormatError, match="2 pictures without; name one"):
        read(tmp_path)
    assert not list_series(tmp_path)[0].is_stacked
    assert read(tmp_path / "4-0").name == "DX series 4"


def test_a_folder_without_images_is_told(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    with pytest.raises(UnsupportedFormatError, match="found a folder without DICOM"):
        check_readable(tmp_path)
    bare = dict.fromkeys(("Rows", "Columns", "PixelData"))
    write_dicom(tmp_path / "plan.dcm", np.zeros((1, 1), np.uint8), **bare)
    with pytest.raises(UnsupportedFormatError, match="in this folder, found none"):
        read(tmp_path)
