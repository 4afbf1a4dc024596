from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]

OBLIQUE = np.array(
    [[0.9, 0.1, 0, -12], [-0.1, 0.9, 0.2, 7], [0, -0.3, 2.5, 30], [0, 0, 0, 1]]
)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_a_volume_keeps_its_dtype_order_and_geometry(
    tmp_path: Path, dtype: type
) -> None:
    voxels: Array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    nib.save(nib.Nifti1Image(voxels, OBLIQUE), tmp_path / "case.1.nii.gz")
    image = read(tmp_path / "case.1.nii.gz")
    assert np.array_equal(image.voxels, voxels)
    assert image.voxels.dtype == dtype
    assert np.allclose(image.affine, OBLIQUE, atol=1e-6)
    assert (image.name, image.units) == ("case.1", "mm")
    assert image.spacing_mm == pytest.approx(np.linalg.norm(OBLIQUE[:3, :3], axis=0))


def test_flaws_of_a_header_are_told_once_and_with_the_files_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None), path)
    whole = path.read_bytes()
    negative = np.array([-2], np.float32).tobytes()
    path.write_bytes(whole[:80] + negative + whole[84:])  # the size of a voxel
    assert read(path).spacing_mm == pytest.approx((2, 1, 1))
    (record,) = [one for one in caplog.records if one.name.startswith("napari_medvl")]
    assert record.getMessage().startswith(f"{path}: flaw in the header: pixdim[1,2,3]")
    path.write_bytes(whole[:70] + b"xx" + whole[72:])  # the kind of number
    with pytest.raises(UnsupportedFormatError, match="data code 30840"):
        read(path)
    assert capfd.readouterr().err == ""


def test_scaled_voxels_are_read_in_their_own_unit(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    nifti.header.set_slope_inter(0.5, -10)
    nib.save(nifti, tmp_path / "a.nii")
    voxels = read(tmp_path / "a.nii").voxels
    assert voxels.dtype == np.float32
    assert np.allclose(voxels.ravel(), np.arange(24) * 0.5 - 10)


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3)]
)
def test_the_affine_is_in_mm_whatever_the_file_is_in(
    tmp_path: Path, unit: str, factor: float
) -> None:
    nifti = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([2.0, 3, 4, 1]))
    nifti.header.set_xyzt_units(unit)
    nib.save(nifti, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").spacing_mm == pytest.approx(
        (2 * factor, 3 * factor, 4 * factor)
    )


def test_a_lost_spacing_is_not_called_mm(tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)), tmp_path / "a.nii"
    )
    assert read(tmp_path / "a.nii").units == "pixel"


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        pytest.param(np.diag([1.0, 1, 1, 1]), 2, id="axial"),
        pytest.param(
            np.diag([1.0, 1, 5, 1])[:, [2, 0, 1, 3]], 0, id="thick first axis"
        ),
        pytest.param(np.eye(4)[:, [1, 2, 0, 3]], 1, id="second axis goes upward"),
    ],
)
def test_a_volume_is_walked_along_its_thick_axis_or_upward(
    tmp_path: Path, affine: Array, expected: int
) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), affine), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").slice_axis == expected


def test_a_header_that_names_the_slice_axis_is_believed(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    nifti.header.set_dim_info(slice=1)
    nib.save(nifti, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").slice_axis == 1


def test_a_series_of_volumes_says_what_to_do_and_a_series_of_one_is_a_volume(
    tmp_path: Path,
) -> None:
    nib.save(
        nib.Nifti1Image(np.zeros((2, 3, 4, 5), np.uint8), np.eye(4)), tmp_path / "a.nii"
    )
    with pytest.raises(UnsupportedFormatError, match="save one time point"):
        read(tmp_path / "a.nii")
    nib.save(
        nib.Nifti1Image(np.zeros((2, 3, 4, 1), np.uint8), np.eye(4)), tmp_path / "b.nii"
    )
    assert read(tmp_path / "b.nii").spatial_shape == (2, 3, 4)


def test_colour_volumes_are_read_and_complex_ones_refused(tmp_path: Path) -> None:
    rgb = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 9
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    assert image.rgb
    assert image.voxels[0, 0, 0].tolist() == [0, 9, 0]
    nib.save(
        nib.Nifti1Image(np.zeros((2, 3, 4), np.complex64), np.eye(4)),
        tmp_path / "b.nii",
    )
    with pytest.raises(UnsupportedFormatError, match="save the magnitude"):
        read(tmp_path / "b.nii")


def test_doubles_stay_doubles_and_a_big_endian_volume_is_read(tmp_path: Path) -> None:
    voxels: Array = np.linspace(0, 1, 24).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(voxels, OBLIQUE), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").voxels.dtype == np.float64
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.float64)
    nib.save(nib.Nifti1Image(voxels, OBLIQUE, header), tmp_path / "b.nii.gz")
    image = read(tmp_path / "b.nii.gz")
    assert np.array_equal(image.voxels, voxels)
    assert image.voxels.dtype.isnative


@pytest.mark.parametrize(
    ("kind", "name"), [(nib.Nifti1Image, "NIfTI-1"), (nib.Nifti2Image, "NIfTI-2")]
)
def test_facts_of_a_volume_leave_out_what_may_name_a_person(
    tmp_path: Path, kind: Any, name: str
) -> None:
    nifti = kind(np.zeros((2, 3, 4), np.int16), np.diag([-2.0, 3, 4, 1]))
    for field in ("descrip", "aux_file", "intent_name"):
        nifti.header[field] = b"Doe^Jane"
    nifti.header["cal_max"] = 300
    nifti.header.set_xyzt_units("mm")
    nib.save(nifti, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").facts == {
        "format": name,
        "datatype": "int16",
        "sform_code": "aligned",
        "qform_code": "unknown",
        "spatial_unit": "mm",
        "cal_min": 0.0,
        "cal_max": 300.0,
        "spacing_mm": [2.0, 3.0, 4.0],
        "orientation": "LAS",
    }


def test_a_series_is_refused_before_it_is_read(tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.zeros((2, 3, 4, 5), np.uint8), np.eye(4)), tmp_path / "a.nii"
    )
    with (tmp_path / "a.nii").open("r+b") as file:
        file.truncate(360)
    with pytest.raises(UnsupportedFormatError, match="save one time point"):
        read(tmp_path / "a.nii")


def test_more_voxels_than_declared_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)), path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(UnsupportedFormatError, match="expected 24 bytes of voxels"):
        read(path)
