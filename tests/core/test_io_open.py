"""All volumes of a file come to the viewer, and large ones are read piece by piece."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import TYPE_CHECKING, Any

import dask.array as da
import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as everyone calls it
import tifffile

from napari_medvlseg.core.errors import ImageError, UnsupportedFormatError
from napari_medvlseg.core.io import opened as opened_module
from napari_medvlseg.core.io.open import open_image, open_stack
from napari_medvlseg.core.io.opened import LAZY_FROM_BYTES, Opened, SeriesAxis
from napari_medvlseg.core.io.read import read

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[0, 0, -3, 9], [1.5, 0.2, 0, -4], [0, -2, 0.1, 7], [0, 0, 0, 1.0]])
VOLUMES = np.random.default_rng(0).integers(0, 200, (4, 5, 6, 3))
"""Columns, rows, slices, times."""


@pytest.fixture(params=["now", "later"])
def lazy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Read files as small or as large ones."""
    if request.param == "later":
        monkeypatch.setattr(opened_module, "LAZY_FROM_BYTES", 0)
        monkeypatch.setattr(opened_module, "BLOCK_BYTES", 1)
    return bool(request.param == "later")


def save(path: Path, voxels: np.ndarray[Any, Any]) -> nib.Nifti1Image:
    image = nib.Nifti1Image(voxels, AFFINE, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm", "msec")
    if voxels.ndim > 3:
        image.header["pixdim"][4] = 40
    nib.save(image, path)
    return image


def assert_places(opened: Opened, affine: np.ndarray[Any, Any]) -> None:
    """Ask that index (slice, row, column) lies where (column, row, slice) does."""
    for index in ((0, 0, 0), (3, 4, 5), (1, 0, 2)):
        np.testing.assert_allclose(
            opened.affine @ [*index[::-1], 1], affine @ [*index, 1], atol=1e-4
        )


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<f4", ">f8", "<u8"])
def test_a_nifti_series_is_opened_with_time_first(
    tmp_path: Path, *, lazy: bool, dtype: str
) -> None:
    save(tmp_path / "cine.nii", VOLUMES.astype(dtype))
    opened = open_image(tmp_path / "cine.nii")
    assert isinstance(opened.voxels, da.Array) == lazy
    assert opened.voxels.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(np.asarray(opened.voxels), VOLUMES.T)
    assert opened.series == (SeriesAxis("time", 40, "ms"),)
    assert opened.spatial_shape == (6, 5, 4)
    assert_places(opened, AFFINE)
    assert opened.spacing_mm == pytest.approx(np.linalg.norm(AFFINE, axis=0)[2::-1])


def test_a_scaled_nifti_is_scaled_piece_by_piece(tmp_path: Path, *, lazy: bool) -> None:
    image = save(tmp_path / "ct.nii", VOLUMES[..., 0].astype(np.int16))
    image.header.set_slope_inter(0.5, -10)
    image.to_filename(tmp_path / "ct.nii")
    opened = open_image(tmp_path / "ct.nii")
    assert isinstance(opened.voxels, da.Array) == lazy
    expected = read(tmp_path / "ct.nii").voxels
    assert opened.voxels.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(opened.voxels), expected.T)


def test_nifti_colours_stay_last(tmp_path: Path, *, lazy: bool) -> None:
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = VOLUMES[..., 0]
    save(tmp_path / "colour.nii", colours)
    opened = open_image(tmp_path / "colour.nii")
    assert isinstance(opened.voxels, da.Array) == lazy
    assert opened.rgb
    np.testing.assert_array_equal(np.asarray(opened.voxels)[..., 1], colours["G"].T)
    assert not np.asarray(opened.voxels)[..., (0, 2)].any()


def test_values_after_time_are_a_series_too(tmp_path: Path) -> None:
    save(tmp_path / "field.nii", VOLUMES.astype(np.float32)[:, :, :, None, :])
    opened = open_image(tmp_path / "field.nii")
    assert opened.series == (SeriesAxis("value"),)
    assert opened.voxels.shape == (3, 6, 5, 4)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_series_of_nrrd_and_metaimage_volumes_is_opened(
    tmp_path: Path, *, lazy: bool, suffix: str
) -> None:
    path = tmp_path / f"series{suffix}"
    one = sitk.GetImageFromArray(VOLUMES[..., 0].T.astype(np.int16))
    one.SetSpacing((0.5, 0.7, 2))
    one.SetOrigin((3, -4, 5))
    others = [
        sitk.GetImageFromArray(VOLUMES[..., t].T.astype(np.int16)) for t in (1, 2)
    ]
    for other in others:
        other.CopyInformation(one)
    sitk.WriteImage(sitk.JoinSeries([one, *others]), path)
    opened = open_image(path)
    assert isinstance(opened.voxels, da.Array) == lazy
    np.testing.assert_array_equal(np.asarray(opened.voxels), VOLUMES.T)
    assert opened.series == (SeriesAxis("volume"),)
    point = one.TransformIndexToPhysicalPoint((3, 4, 5))
    found = (opened.affine @ [5, 4, 3, 1])[:3]
    np.testing.assert_allclose(found, np.array(point) * (-1, -1, 1), atol=1e-6)


def test_an_nrrd_sequence_with_its_list_first_is_turned(tmp_path: Path) -> None:
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.array([[np.nan] * 3, [-1, 0, 0], [0, -1, 0], [0, 0, 2]]),
        "space origin": [0, 0, 1],
        "encoding": "raw",
    }
    values = np.moveaxis(VOLUMES, -1, 0).astype(np.int16)
    nrrd.write(str(tmp_path / "sequence.nrrd"), values, header)
    opened = open_image(tmp_path / "sequence.nrrd")
    np.testing.assert_array_equal(opened.voxels, VOLUMES.T)


def test_a_volume_of_nrrd_is_what_the_core_reads(tmp_path: Path, *, lazy: bool) -> None:
    image = sitk.GetImageFromArray(VOLUMES[..., 0].T.astype(np.float32))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, tmp_path / "v.nrrd")
    opened, wanted = open_image(tmp_path / "v.nrrd"), read(tmp_path / "v.nrrd")
    assert isinstance(opened.voxels, da.Array) == lazy
    np.testing.assert_array_equal(np.asarray(opened.voxels), wanted.voxels)
    np.testing.assert_array_equal(opened.affine, wanted.affine)
    assert (opened.slice_axis, opened.facts) == (wanted.slice_axis, wanted.facts)


TIFFS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "big endian": {"byteorder": ">"},
    "packed": {"compression": "zlib"},
    "tiled": {"tile": (16, 16)},
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("rgb", [False, True])
def test_pages_of_a_tiff_are_what_tifffile_reads(
    tmp_path: Path, *, lazy: bool, rgb: bool, kind: str
) -> None:
    shape = (4, 20, 24, 3) if rgb else (4, 20, 24)
    dtype = np.uint8 if rgb else np.uint16
    pages = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    choices: dict[str, Any] = {
        "photometric": "rgb" if rgb else "minisblack",
        **TIFFS[kind],
    }
    tifffile.imwrite(tmp_path / "stack.tif", pages, **choices)
    opened = open_image(tmp_path / "stack.tif")
    assert isinstance(opened.voxels, da.Array) == lazy
    assert opened.rgb == rgb
    np.testing.assert_array_equal(np.asarray(opened.voxels), pages)
    assert np.asarray(opened.voxels).dtype == dtype


def test_white_as_zero_is_read_as_a_whole(tmp_path: Path, *, lazy: bool) -> None:
    pages = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    tifffile.imwrite(tmp_path / "film.tif", pages, photometric="miniswhite")
    opened = open_image(tmp_path / "film.tif")
    assert isinstance(opened.voxels, np.ndarray), lazy
    np.testing.assert_array_equal(opened.voxels, 255 - pages)


def test_opening_a_large_file_reads_no_voxel(tmp_path: Path) -> None:
    path = tmp_path / "large.nii"
    shape = (512, 512, LAZY_FROM_BYTES // 2**19 + 1)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_data_offset(352)
    header.set_sform(np.diag([1, 1, 2, 1]), 1)
    header.set_xyzt_units("mm")
    size = 352 + int(np.prod(shape)) * 2
    with path.open("wb") as file:
        header.write_to(file)
        file.truncate(size)
    tracemalloc.start()
    try:
        opened = open_image(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        with path.open("r+b") as file:  # after opening: what is read is read now
            file.seek(352 + 300 * 2**19)
            file.write(np.full(512 * 512, 7, np.int16).tobytes())
        assert np.unique(np.asarray(opened.voxels[300])).tolist() == [7]
        assert not np.asarray(opened.voxels[200]).any()
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_a_packed_file_is_read_once(tmp_path: Path, *, lazy: bool) -> None:
    save(tmp_path / "a.nii", VOLUMES.astype(np.int16))
    packed = gzip.compress((tmp_path / "a.nii").read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(packed)
    opened = open_image(tmp_path / "a.nii.gz")
    assert isinstance(opened.voxels, np.ndarray), lazy
    np.testing.assert_array_equal(opened.voxels, VOLUMES.T)


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.tif"])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    volume = VOLUMES[..., 0].T.astype(np.int16)
    if name == "a.tif":
        tifffile.imwrite(path, volume, photometric="minisblack")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(volume), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnsupportedFormatError, match="damaged"):
        open_image(path)


def test_a_file_that_is_cut_later_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_module, "LAZY_FROM_BYTES", 0)
    save(tmp_path / "a.nii", VOLUMES.astype(np.int16))
    opened = open_image(tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(OSError, match="changed since"):
        np.asarray(opened.voxels)


def test_pictures_of_one_size_are_stacked(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.tif" for k in range(3)]
    for k, path in enumerate(paths):
        tifffile.imwrite(path, np.full((4, 5), k, np.uint16))
    assert open_stack(paths).voxels[:, 0, 0].tolist() == [0, 1, 2]
    tifffile.imwrite(paths[1], np.zeros((4, 6), np.uint16))
    with pytest.raises(UnsupportedFormatError, match="one size"):
        open_stack(paths)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageError, match="2 or 3"):
        Opened(voxels=np.zeros((2, 3, 4, 5)))
