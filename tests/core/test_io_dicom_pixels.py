from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - as everyone calls it
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom import read_dicom
from napari_medvlseg.core.io.dicom_pixels import check_decodable, syntax_name

if TYPE_CHECKING:
    from collections.abc import Callable

    WriteDicom = Callable[..., pydicom.Dataset]

Array = npt.NDArray[Any]

STORED = np.arange(20).reshape(4, 5)


def sample(name: str) -> Path:
    """Return the path of a file that pydicom ships."""
    return Path(str(get_testdata_file(name, download=False)))


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        (np.uint8, 1, 0, np.uint8),
        (np.int16, 1, 0, np.int16),
        (np.uint16, 1, 0, np.uint16),
        (np.uint32, 1, 0, np.uint32),
        (np.uint16, 1, -1024, np.int16),
        (np.int16, -3, 7, np.int16),
        (np.uint16, 9000, 0, np.int32),
        (np.uint16, 0.5, 0, np.float32),
        (np.int16, 1, 0.25, np.float32),
    ],
)
def test_values_are_real_and_whole_ones_stay_whole(
    tmp_path: Path,
    write_dicom: WriteDicom,
    dtype: type,
    slope: float,
    intercept: float,
    expected: type,
) -> None:
    path = tmp_path / "a"
    told = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    write_dicom(path, STORED.astype(dtype), **told)
    voxels = read_dicom(path).voxels
    assert voxels.dtype == expected
    assert np.array_equal(voxels, STORED * slope + intercept)
    assert voxels.dtype.isnative


def test_each_slice_has_its_own_scale_and_one_wide_slice_widens_all(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for k, slope in enumerate((1, 2, 30000)):
        place = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, k],
            "PixelSpacing": [1, 1],
        }
        scale = {"RescaleSlope": slope, "RescaleIntercept": -1}
        write_dicom(tmp_path / str(k), STORED.astype(np.uint16), **place, **scale)
    voxels = read_dicom(tmp_path).voxels
    assert voxels.dtype == np.int32
    for k, slope in enumerate((1, 2, 30000)):
        assert np.array_equal(voxels[:, :, k], STORED.T * slope - 1)


@pytest.mark.parametrize(
    ("dtype", "bits", "expected"),
    [
        (np.uint8, 8, 255 - STORED),
        (np.uint16, 12, 4095 - STORED),
        (np.int16, 16, -1 - STORED),
    ],
)
def test_brightness_counts_upward_and_the_facts_say_that_it_was_turned(
    tmp_path: Path, write_dicom: WriteDicom, dtype: type, bits: int, expected: Array
) -> None:
    path = tmp_path / "a"
    told = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": bits}
    write_dicom(path, STORED.astype(dtype), WindowCenter=3, WindowWidth=9, **told)
    image = read_dicom(path)
    assert np.array_equal(image.voxels, expected)
    assert image.facts["inverted"] is True
    assert "window_center" not in image.facts


def test_an_inverted_picture_is_rescaled_after_it_is_turned(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    told = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2}
    write_dicom(tmp_path / "a", STORED.astype(np.uint8), RescaleIntercept=5, **told)
    assert np.array_equal(read_dicom(tmp_path / "a").voxels, (255 - STORED) * 2 + 5)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_a_modality_table_is_looked_up(
    tmp_path: Path, write_dicom: WriteDicom, kind: str
) -> None:
    table = Dataset()
    table.LUTDescriptor = [20, 0, 12]
    table.LUTData = [(k * k) for k in range(20)]
    table["LUTData"].VR = "US"
    table.ModalityLUTType = "US"
    path = tmp_path / "a"
    elements = {"ModalityLUTSequence": [table], "PhotometricInterpretation": kind}
    write_dicom(path, STORED.astype(np.uint8), **elements)
    expected = STORED**2 if kind == "MONOCHROME2" else 4095 - STORED**2
    assert np.array_equal(read_dicom(path).voxels, expected)


def test_bits_that_are_not_stored_are_no_part_of_the_value(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    overlaid = (STORED | 0xF000).astype(np.uint16)
    write_dicom(tmp_path / "a", overlaid, BitsStored=12)
    assert np.array_equal(read_dicom(tmp_path / "a").voxels, STORED)
    signed = ((STORED - 9) & 0x0FFF).astype(np.uint16)
    told = {"BitsStored": 12, "PixelRepresentation": 1}
    write_dicom(tmp_path / "b", signed, **told)
    assert np.array_equal(read_dicom(tmp_path / "b").voxels, STORED - 9)


@pytest.mark.parametrize("shift", [0, 8])
def test_a_palette_becomes_colours_of_8_bits(
    tmp_path: Path, write_dicom: WriteDicom, shift: int
) -> None:
    shades = [np.arange(20), 200 - np.arange(20), np.full(20, 7)]
    tables: dict[str, Any] = {}
    for colour, shade in zip(("Red", "Green", "Blue"), shades, strict=True):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [20, 0, 8 + shift]
        values = (shade << shift).astype(np.uint16 if shift else np.uint8)
        tables[f"{colour}PaletteColorLookupTableData"] = values.tobytes()
    film = np.stack([STORED, STORED[::-1] // 9]).astype(np.uint8)
    told = {"PhotometricInterpretation": "PALETTE COLOR", **tables}
    write_dicom(tmp_path / "a", film, **told)
    image = read_dicom(tmp_path / "a")
    assert image.rgb
    assert image.voxels.dtype == np.uint8
    expected = np.stack([shade[film] for shade in shades], axis=-1)
    assert np.array_equal(image.voxels, expected)


def test_colours_may_be_stored_in_planes(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    colours = np.dstack([STORED, STORED + 50, STORED + 100]).astype(np.uint8)
    planes = np.moveaxis(colours, -1, 0).tobytes()
    write_dicom(tmp_path / "a", colours, PlanarConfiguration=1, PixelData=planes)
    image = read_dicom(tmp_path / "a")
    assert image.rgb
    assert np.array_equal(image.voxels, colours)


def test_a_volume_may_be_in_colour(tmp_path: Path, write_dicom: WriteDicom) -> None:
    colours = np.dstack([STORED, STORED + 50, STORED + 100]).astype(np.uint8)
    for k in range(3):
        place = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, k],
            "PixelSpacing": [1, 1],
        }
        write_dicom(tmp_path / str(k), colours + np.uint8(k), **place)
    image = read_dicom(tmp_path)
    assert (image.rgb, image.spatial_shape) == (True, (5, 4, 3))
    assert np.array_equal(image.voxels[:, :, 2], colours.swapaxes(0, 1) + 2)


def test_lossless_compression_changes_nothing(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (40, 50)).astype(np.uint16)
    plain = write_dicom(tmp_path / "a", stored, RescaleIntercept=-1024)
    plain.compress(RLELossless)
    plain.save_as(tmp_path / "b", enforce_file_format=True)
    image = read_dicom(tmp_path / "b")
    assert np.array_equal(image.voxels, stored.astype(int) - 1024)
    assert image.facts["transfer_syntax"] == "RLE Lossless"


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "examples_palette.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_colours_are_those_that_simpleitk_sees(name: str) -> None:
    path = sample(name)
    image = read_dicom(path)
    other = sitk.GetArrayFromImage(sitk.ReadImage(path)).squeeze()
    assert image.rgb
    difference = np.abs(image.voxels.astype(int) - other[..., :3].astype(int))
    assert difference.max() <= 1  # YBR is rounded


def test_colours_of_16_bits_are_those_of_8_bits() -> None:
    # SimpleITK exchanges the bytes and the channels of this file
    fine, coarse = (
        read_dicom(sample(f"SC_rgb_rle{depth}.dcm")).voxels for depth in ("_16bit", "")
    )
    assert fine.dtype == np.uint16
    assert np.array_equal(fine, coarse.astype(np.uint16) * 257)


@pytest.mark.parametrize("kind", ["YBR_PARTIAL_420", "HSV", "", "CMYK"])
def test_other_kinds_of_colour_are_refused(
    tmp_path: Path, write_dicom: WriteDicom, kind: str
) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    write_dicom(tmp_path / "a", colours, PhotometricInterpretation=kind)
    told = f"expected grey, RGB, YBR .*, got {kind or 'nothing said'}"
    with pytest.raises(UnsupportedFormatError, match=told):
        read_dicom(tmp_path / "a")


def test_a_syntax_that_nothing_decodes_is_told_by_name_and_an_unknown_one_is_not(
    tmp_path: Path,
) -> None:
    header = Dataset()
    header.PhotometricInterpretation = "MONOCHROME2"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    told = "cannot decode MPEG2 .*; export it without compression"
    with pytest.raises(UnsupportedFormatError, match=told):
        check_decodable(header, tmp_path)
    header.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.3.4.5")
    assert syntax_name(header) == "unknown"


@pytest.mark.parametrize("frames", [0, 1])
def test_fewer_frames_than_told_are_damage(
    tmp_path: Path, write_dicom: WriteDicom, frames: int
) -> None:
    film = np.zeros((2, 4, 5), np.uint8)
    few = film[:frames].tobytes()
    write_dicom(tmp_path / "a", film, PixelData=few or b"\0\0")
    with pytest.raises(UnsupportedFormatError, match="damaged"):
        read_dicom(tmp_path / "a")


def test_jpeg_ls_is_decoded_to_the_same_values() -> None:
    pytest.importorskip("jpeg_ls", reason="pyjpegls comes with highdicom")
    plain = read_dicom(sample("MR_small.dcm")).voxels
    assert np.array_equal(
        read_dicom(sample("MR_small_jpeg_ls_lossless.dcm")).voxels, plain
    )
