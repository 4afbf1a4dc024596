from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from napari_medvlseg.core.errors import GeometryError, UnsupportedFormatError
from napari_medvlseg.core.io.dicom import read_dicom
from napari_medvlseg.core.io.read import read, stem_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pydicom

    WriteDicom = Callable[..., pydicom.Dataset]

PICTURE = np.arange(35, dtype=np.int16).reshape(5, 7)


def sample(name: str) -> Path:
    """Return the path of a file that pydicom ships."""
    return Path(str(get_testdata_file(name, download=False)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "image_dfl.dcm"],
)
def test_half_a_file_is_one_clear_error_and_never_a_picture(
    tmp_path: Path, name: str, share: float
) -> None:
    whole = sample(name).read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        UnsupportedFormatError, match=r"damaged|without pixels"
    ) as error:
        read(cut)
    assert "\n" not in str(error.value)


def test_a_mutilated_file_is_an_error_or_a_picture_but_never_a_crash(
    tmp_path: Path,
) -> None:
    whole = sample("MR_small.dcm").read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / "a.dcm"
    for _ in range(100):
        broken = bytearray(whole)
        for at in generator.integers(132, 1700, 4):
            broken[at] = generator.integers(256)
        path.write_bytes(broken)
        try:
            image = read(path)
        except (UnsupportedFormatError, GeometryError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right
        else:
            assert image.voxels.size <= 64 * 64 * 2


def test_a_header_that_claims_too_much_is_refused_before_decoding(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    claim = {"Rows": 60000, "Columns": 60000, "PixelData": bytes(8)}
    write_dicom(tmp_path / "a", PICTURE, **claim)
    with pytest.raises(
        UnsupportedFormatError, match=r"at most 2,147,483,648 .* got 3,600"
    ):
        read(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless, .*; install python-gdcm"),
        ("JPEG-lossy.dcm", "JPEG Extended .* install python-gdcm"),
        ("rtdose.dcm", "expected a DICOM image, got a dose map"),
        ("test-SR.dcm", "got an object without pixels"),
        ("liver_1frame.dcm", "got a segmentation"),
        ("no_meta.dcm", "cannot be read as DICOM"),
    ],
)
def test_what_cannot_be_read_says_why_and_what_to_do(name: str, told: str) -> None:
    path = sample(name)
    with pytest.raises(UnsupportedFormatError, match=told):
        read_dicom(path)


def test_a_file_without_a_suffix_is_known_by_how_it_begins(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_dicom(tmp_path / "1.2.840.55", PICTURE)
    assert np.array_equal(read(tmp_path / "1.2.840.55").voxels, PICTURE)
    assert stem_of(tmp_path / "1.2.840.55") == "1.2.840.55"
    (tmp_path / "IM1").write_text("not an image")
    with pytest.raises(UnsupportedFormatError, match="expected one of"):
        read(tmp_path / "IM1")


def test_what_pydicom_says_of_a_value_stays_with_the_reader(
    tmp_path: Path, write_dicom: WriteDicom, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    write_dicom(path, PICTURE, SeriesDescription="Doe 19610203")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1.2.3.4\0", b"1.Doe.4\0"))  # no UID
    assert read(path).name == "CT series 3"
    assert caplog.text == ""
    assert logging.getLogger("pydicom").level < logging.CRITICAL  # as it was


def test_the_index_of_a_disk_is_told_from_its_images(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    bare = dict.fromkeys(("Rows", "Columns", "PixelData"))
    write_dicom(
        tmp_path / "DICOMDIR", PICTURE, SOPClassUID="1.2.840.10008.1.3.10", **bare
    )
    with pytest.raises(UnsupportedFormatError, match=r"an index \(DICOMDIR\); name an"):
        read(tmp_path / "DICOMDIR")
