from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - so do its own docs

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from pathlib import Path

VOXELS = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)  # k, j, i
DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def save(path: Path, voxels: Any = VOXELS, *, packed: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 0.7, 2.5)[: image.GetDimension()])
    image.SetOrigin((10, -20, 30)[: image.GetDimension()])
    sitk.WriteImage(image, str(path), packed)
    return image


def by_hand(path: Path, voxels: bytes, **fields: object) -> None:
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "DimSize": "3 4 5",
        "ElementType": "MET_SHORT",
        **fields,
        "ElementDataFile": "LOCAL",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in header.items())
    path.write_bytes(lines.encode() + voxels)


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_voxels_are_read_as_stored_slices_first(
    tmp_path: Path, suffix: str, *, packed: bool
) -> None:
    path = tmp_path / f"case{suffix}"
    for dtype in DTYPES:
        save(path, VOXELS.astype(dtype), packed=packed)
        image = read(path)
        assert np.array_equal(image.voxels, VOXELS)
        assert image.voxels.dtype == np.dtype(dtype)
        assert (image.name, image.units, image.slice_axis) == ("case", "mm", 0)
        assert image.spacing_mm == pytest.approx((2.5, 0.7, 0.5))


def test_a_turned_and_left_handed_grid_lies_where_itk_says(tmp_path: Path) -> None:
    image = save(tmp_path / "a.mha")
    image.SetDirection((0, -0.6, 0.8, 1, 0, 0, 0, 0.8, 0.6))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    affine = read(tmp_path / "a.mha").affine
    for i, j, k in [(0, 0, 0), (2, 0, 0), (0, 3, 0), (2, 3, 4)]:
        point = np.array(image.TransformIndexToPhysicalPoint((i, j, k)))
        assert (affine @ [k, j, i, 1])[:3] == pytest.approx(point * [-1, -1, 1])


def test_big_endian_and_its_unit_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    by_hand(
        path,
        VOXELS.astype(">i2").tobytes(),
        BinaryDataByteOrderMSB="True",
        ElementSpacing="1 2 3",
        DistanceUnits="cm",
        Modality="MET_MOD_CT",
        PatientName="Doe",
    )
    image = read(path)
    assert np.array_equal(image.voxels, VOXELS)
    assert image.voxels.dtype.isnative
    assert image.facts == {
        "format": "MetaImage",
        "modality": "CT",
        "datatype": "int16",
        "spacing_mm": [30, 20, 10],
        "orientation": "unknown",
    }


@pytest.mark.parametrize("fields", [{}, {"ElementSpacing": "1 1 1"}])
def test_an_unknown_spacing_is_not_called_mm(
    tmp_path: Path, fields: dict[str, str]
) -> None:
    by_hand(tmp_path / "a.mha", VOXELS.tobytes(), **fields)
    assert read(tmp_path / "a.mha").units == "pixel"


def test_a_picture_has_rows_first_and_colours_last(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    image = sitk.GetImageFromArray(colours, isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    back = read(tmp_path / "a.mha")
    assert back.rgb
    assert np.array_equal(back.voxels, colours)
    save(tmp_path / "b.mha", VOXELS[0])
    assert read(tmp_path / "b.mha").spacing_mm == pytest.approx((0.7, 0.5))


def test_a_series_or_a_field_of_vectors_says_what_to_do(tmp_path: Path) -> None:
    series = sitk.GetImageFromArray(np.stack([VOXELS, VOXELS]), isVector=False)
    field = sitk.GetImageFromArray(np.zeros((5, 4, 3, 3), np.float32), isVector=True)
    for image in (series, field):
        sitk.WriteImage(image, str(tmp_path / "a.mha"))
        with pytest.raises(UnsupportedFormatError, match="save one time point"):
            read(tmp_path / "a.mha")
    single = sitk.GetImageFromArray(VOXELS[None], isVector=False)
    sitk.WriteImage(single, str(tmp_path / "a.mha"))
    assert read(tmp_path / "a.mha").spatial_shape == (5, 4, 3)


def test_detached_voxels_that_are_absent_say_what_to_do(tmp_path: Path) -> None:
    save(tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(UnsupportedFormatError, match="copy both files together"):
        read(tmp_path / "a.mhd")


def test_a_header_before_detached_voxels_is_skipped(tmp_path: Path) -> None:
    save(tmp_path / "a.mhd")
    text = (tmp_path / "a.mhd").read_text("ascii")
    data = tmp_path / "a.raw"
    data.write_bytes(b"7 bytes" + data.read_bytes())
    for size in (7, -1):
        (tmp_path / "a.mhd").write_text(f"HeaderSize = {size}\n{text}", "ascii")
        assert np.array_equal(read(tmp_path / "a.mhd").voxels, VOXELS)


@pytest.mark.parametrize(
    "fields",
    [
        {"DimSize": "3 4 6"},
        {"DimSize": "3 4 4"},
        {"DimSize": "30000 30000 30000"},
        {"DimSize": "3 4 0"},
        {"NDims": 2},
        {"ElementType": "MET_STRING"},
        {"BinaryData": "False"},
        {"ElementSpacing": "1 1"},
        {"ElementSpacing": "1 nan 1"},
        {"CompressedData": "True"},
        {"ElementSpacing": "1 1 2", "TransformMatrix": "1 0 0 1 0 0 0 0 1"},
    ],
)
def test_a_damaged_header_is_one_clear_error(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    by_hand(tmp_path / "a.mha", VOXELS.tobytes(), **fields)
    with pytest.raises(UnsupportedFormatError, match=r"a\.mha: .*damaged"):
        read(tmp_path / "a.mha")


@pytest.mark.parametrize("cut", [3, -3])
def test_too_few_or_too_many_compressed_voxels_are_damage(
    tmp_path: Path, cut: int
) -> None:
    stored = VOXELS.tobytes()
    stored = stored[:-cut] if cut > 0 else stored + bytes(-cut)
    by_hand(tmp_path / "a.mha", zlib.compress(stored), CompressedData="True")
    with pytest.raises(UnsupportedFormatError, match="expected 120 bytes"):
        read(tmp_path / "a.mha")
