from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image as Pillow

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.read import read, stem_of

Array = npt.NDArray[Any]

GREY = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7) * 7
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def picture(mode: str) -> Pillow.Image:
    if mode == "I;16":
        return Pillow.fromarray(GREY.astype(np.uint16) * 257)
    if mode == "P":
        return Pillow.fromarray(COLOUR).quantize(32)
    return Pillow.fromarray(COLOUR).convert(mode)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_grey_and_colour_pixels_are_read_as_stored(tmp_path: Path, suffix: str) -> None:
    for name, pixels in {"grey": GREY, "colour": COLOUR}.items():
        path = tmp_path / f"{name}{suffix}"
        Pillow.fromarray(pixels).save(path)
        image = read(path)
        assert np.array_equal(image.voxels, pixels)
        assert image.voxels.dtype == np.uint8
        assert image.rgb == (pixels.ndim == 3)
        assert (image.name, image.units, image.spacing_mm) == (name, "pixel", None)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_read_nearly_as_stored(tmp_path: Path, suffix: str) -> None:
    flat = np.full((8, 9, 3), (200, 100, 50), dtype=np.uint8)
    Pillow.fromarray(flat).save(tmp_path / f"a{suffix}", quality=95)
    image = read(str(tmp_path / f"a{suffix}"))
    assert image.rgb
    assert np.abs(image.voxels.astype(int) - flat).max() <= 3


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (5, 7), np.uint8),
        ("L", (5, 7), np.uint8),
        ("LA", (5, 7), np.uint8),
        ("P", (5, 7, 3), np.uint8),
        ("RGBA", (5, 7, 4), np.uint8),
        ("I;16", (5, 7), np.uint16),
    ],
)
def test_every_kind_of_png_becomes_grey_or_colour(
    tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: type
) -> None:
    path = tmp_path / "a.png"
    picture(mode).save(path)
    image = read(path)
    assert image.voxels.shape == shape
    assert image.voxels.dtype == dtype
    expected = np.asarray(picture(mode).convert("RGB" if image.rgb else "L"))
    if mode == "I;16":
        expected = GREY.astype(np.uint16) * 257
    assert np.array_equal(
        image.voxels[..., :3] if image.rgb else image.voxels, expected
    )


def test_print_colours_become_red_green_and_blue(tmp_path: Path) -> None:
    Pillow.new("CMYK", (7, 5), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    voxels = read(tmp_path / "a.jpg").voxels
    assert voxels.shape == (5, 7, 3)
    assert voxels[2, 3, 0] > 200
    assert voxels[2, 3, 1] < 60


def test_a_transparent_palette_keeps_its_alpha(tmp_path: Path) -> None:
    picture("P").save(tmp_path / "a.png", transparency=0)
    assert read(tmp_path / "a.png").voxels.shape == (5, 7, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_tiff_of_several_pages_is_a_stack(
    tmp_path: Path, dtype: type, byteorder: Any
) -> None:
    stack: Array = np.stack([GREY + page for page in range(4)]).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, byteorder=byteorder, photometric="minisblack"
    )
    image = read(tmp_path / "a.tif")
    assert np.array_equal(image.voxels, stack)
    assert image.voxels.dtype == dtype
    assert image.voxels.dtype.isnative
    assert (image.rgb, image.ndim, image.slice_axis) == (False, 3, 0)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_comes_last_however_a_tiff_stores_it(
    tmp_path: Path, planar: Any
) -> None:
    pixels = COLOUR if planar == "contig" else np.moveaxis(COLOUR, -1, 0)
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=planar)
    image = read(path)
    assert image.rgb
    assert np.array_equal(image.voxels, COLOUR)


def test_a_film_in_colour_is_a_stack_in_colour(tmp_path: Path) -> None:
    film = np.stack([COLOUR, COLOUR // 2])
    tifffile.imwrite(tmp_path / "a.tif", film, photometric="rgb")
    image = read(tmp_path / "a.tif")
    assert (image.rgb, image.spatial_shape) == (True, (2, 5, 7))
    assert np.array_equal(image.voxels, film)


def test_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    pixels = GREY[None, None, None].astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TZCYX"}
    )
    assert np.array_equal(read(tmp_path / "a.tif").voxels, GREY)


def test_a_tiff_with_channels_or_with_too_many_axes_says_what_to_do(
    tmp_path: Path,
) -> None:
    channels = np.stack([GREY, GREY]).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "c.tif", channels, imagej=True, metadata={"axes": "CYX"}
    )
    with pytest.raises(UnsupportedFormatError, match="save one channel"):
        read(tmp_path / "c.tif")
    tifffile.imwrite(
        tmp_path / "t.tif", np.zeros((2, 3, 5, 7), np.uint8), photometric="minisblack"
    )
    with pytest.raises(UnsupportedFormatError, match="one series"):
        read(tmp_path / "t.tif")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiffs_of_other_programs_are_read(
    tmp_path: Path, mode: str, compression: str
) -> None:
    path = tmp_path / "a.tif"
    picture(mode).save(path, compression=compression)
    image = read(path)
    expected = np.asarray(
        picture(mode).convert("RGB") if mode == "P" else picture(mode)
    )
    if mode == "1":
        expected = expected * np.uint8(255)
    assert np.array_equal(image.voxels, expected)
    assert image.voxels.dtype == expected.dtype


def test_a_stack_compressed_by_lzw_is_a_stack(tmp_path: Path) -> None:
    pages = [Pillow.fromarray(GREY), Pillow.fromarray(GREY // 2)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert np.array_equal(read(path).voxels, np.stack([GREY, GREY // 2]))


def test_brightness_counts_upwards_where_a_tiff_says_white_is_zero(
    tmp_path: Path,
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", 255 - GREY, photometric="miniswhite")
    assert np.array_equal(read(tmp_path / "a.tif").voxels, GREY)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".nii", ".nii.gz"])
@pytest.mark.parametrize("how", ["cut", "text", "empty", "noise"])
def test_a_damaged_file_is_one_clear_error(
    tmp_path: Path, suffix: str, how: str
) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    if suffix.startswith(".nii"):
        nib.save(nib.Nifti1Image(noise[..., None], np.eye(4)), path)
    else:
        Pillow.fromarray(noise).save(path)
    if how == "cut":
        damage(path)
    else:
        path.write_bytes(
            {"text": b"not an image", "empty": b"", "noise": noise.tobytes()}[how]
        )
    with pytest.raises(
        UnsupportedFormatError, match=r"cannot be read.*damaged"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_absent_file_a_folder_and_a_foreign_kind_are_told_apart(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnsupportedFormatError, match="found nothing; check the path"):
        read(tmp_path / "absent.png")
    with pytest.raises(UnsupportedFormatError, match="found a folder"):
        read(tmp_path)
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(UnsupportedFormatError, match=r"expected one of \.png"):
        read(tmp_path / "a.gif")


def test_a_picture_of_unreasonable_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    Pillow.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(UnsupportedFormatError, match="cut out a part"):
        read(tmp_path / "a.png")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 30)  # a warning to Pillow only
    assert np.array_equal(read(tmp_path / "a.png").voxels, GREY)


def test_a_stem_loses_both_parts_of_nii_gz() -> None:
    assert stem_of(Path("x/a.b.nii.gz")) == "a.b"
    assert stem_of(Path("x/a.b.PNG")) == "a.b"


def test_pages_of_one_size_and_different_kinds_say_what_to_do(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(GREY, photometric="minisblack", metadata=None)
        tiff.write(255 - GREY, photometric="miniswhite", metadata=None)
    with pytest.raises(UnsupportedFormatError, match="save them alike"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_stack_page_by_page_is_a_stack(tmp_path: Path, compression: Any) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in (GREY, GREY // 2, GREY // 3):
            tiff.write(
                page,
                photometric="minisblack",
                compression=compression,
                metadata=None,
                contiguous=False,
                rowsperstrip=2,
            )
    expected = np.stack([GREY, GREY // 2, GREY // 3])
    assert np.array_equal(read(tmp_path / "a.tif").voxels, expected)
