"""PNG, JPEG, BMP and TIFF to pixels: grey or colour, one page or a stack."""

from __future__ import annotations

import logging
import math
import struct
import threading
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import ImageError, UnsupportedFormatError
from napari_medvlseg.core.io.file_format import FileFormat
from napari_medvlseg.core.io.opened import Opened
from napari_medvlseg.core.io.stored import check_expansion
from napari_medvlseg.core.io.tiff_pages import lazy_pages
from napari_medvlseg.core.io.tiff_spacing import flat_affine, tiff_spacing
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import PIL.Image
    import tifffile

    Pixels = npt.NDArray[Any]

PILLOW_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
RASTER_SUFFIXES = (*PILLOW_SUFFIXES, *TIFF_SUFFIXES)
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError),
    *(ArithmeticError, AssertionError, AttributeError, RuntimeError, MemoryError),
    *(struct.error, zlib.error, ImageError),
)
"""What decoders raise on damaged files."""
_MOST_BYTES_PER_PIXEL = 4
_DEFLATE = (8, 32946)
_YCBCR = 6
_KEPT_MODES = ("L", "RGB", "RGBA", "I", "F")


def _read(path: Path, name: str) -> Image:
    """Read a picture, or a TIFF with several pages as a stack."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        pixels, rgb, told = _read_tiff(path)
        return Image(pixels, rgb=rgb, name=name, **told)
    pixels, rgb = _read_picture(path)
    return Image(pixels, rgb=rgb, name=name)


def _open(path: Path, name: str) -> Opened:
    """Open a picture or a stack; of a large TIFF a page is read when it is seen."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        opened = _large_stack(path, name)
        if opened is not None:
            return opened
    image = _read(path, name)
    return Opened(
        voxels=image.voxels,
        affine=image.affine,
        rgb=image.rgb,
        units=image.units,
        name=name,
        facts=image.facts,
    )


def _large_stack(path: Path, name: str) -> Opened | None:
    """Open what `lazy_pages` gives; None also of what is damaged, to be told later."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            series = _only_series(tiff, path)
            pages = lazy_pages(path, tiff, series)
            if pages is None:
                return None
            told = _spacing(tiff, series.axes.removesuffix("S"))
            return Opened(voxels=pages[0], rgb=pages[1], name=name, **told)
    except (*_DAMAGE, tifffile.TiffFileError, UnsupportedFormatError):
        return None


def _read_picture(path: Path) -> tuple[Pixels, bool]:
    """Read one PNG, JPEG or BMP as stored, whatever way up EXIF would show it."""
    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        try:
            with PIL.Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
                check_expansion(path, math.prod(picture.size) * _MOST_BYTES_PER_PIXEL)
                return _to_pixels(picture)
        except PIL.Image.DecompressionBombError as error:
            msg = f"{path}: {error}; save it as TIFF or cut out a part"
            raise UnsupportedFormatError(msg) from error


def _to_pixels(picture: PIL.Image.Image) -> tuple[Pixels, bool]:
    """Decode a picture of any mode to grey (H, W) or colour (H, W, 3 | 4)."""
    mode = picture.mode
    if mode in ("P", "PA"):
        has_alpha = mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    elif mode in ("1", "LA", "La"):
        picture = picture.convert("L")
    elif mode not in _KEPT_MODES and not mode.startswith("I;16"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    return pixels.astype(pixels.dtype.newbyteorder("=")), pixels.ndim == 3


def _read_tiff(path: Path) -> tuple[Pixels, bool, dict[str, Any]]:
    """Read the first series of a TIFF, and what is known of its spacing."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            series = _only_series(tiff, path)
            _check_tiff(series, path)
            pixels = _undo_palette(series.asarray(), tiff.pages.first)
            axes = series.axes + "S" * (pixels.ndim - series.ndim)
            arranged = _arrange(pixels, axes, path)
            return (*arranged[:2], _spacing(tiff, arranged[2]))
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return (*_read_compressed_tiff(path), {})


def _spacing(tiff: tifffile.TiffFile, axes: str) -> dict[str, Any]:
    """Return affine, units and facts of a TIFF, as far as they are known."""
    found = tiff_spacing(tiff, axes)
    if found is None:
        return {}
    edges, source = found
    facts = {"spacing_from": source, "spacing_mm": list(edges)}
    return {"affine": flat_affine(edges), "units": "mm", "facts": facts}


def _only_series(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    """Return the first series, which thumbnails and the like may follow."""
    broken: list[str] = []

    def listen(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.thread == threading.get_ident() and "TiffPages" in message:
            broken.append(message)
        return not broken

    logger = logging.getLogger("tifffile")
    logger.addFilter(listen)  # of a chain of pages that breaks, tifffile tells no more
    try:
        first, *others = tiff.series
    finally:
        logger.removeFilter(listen)
    if broken:
        msg = "expected pages one after another, got a broken chain of them"
        raise ValueError(msg)
    if first.kind == "generic" and any(
        other.shape[-first.ndim :] == first.shape for other in others
    ):
        msg = (
            f"{path}: expected a picture or one stack of pages, got pages of one size "
            "and different kinds; save them alike, or one of them"
        )
        raise UnsupportedFormatError(msg)
    return first


def _check_tiff(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse pages that hold fewer or more bytes than their header declares."""
    check_expansion(path, series.nbytes)
    for page in series.pages:
        key = None if page is None else page.keyframe  # a frame has only its strips
        if page is None or key is None or key.is_tiled or key.photometric == _YCBCR:
            continue
        bits = key.samplesperpixel * float(np.mean(key.bitspersample))  # or a tuple
        row = math.ceil(key.imagewidth * bits / 8)
        if key.compression == 1:
            rows, stored = key.imagelength * key.imagedepth, sum(page.databytecounts)
        elif key.compression in _DEFLATE and key.planarconfig == 1:
            rows, stored = _last_strip(page, key, row, path)
        else:
            continue
        if not rows * row <= stored < (rows + 1) * row:
            msg = f"expected {rows * row} bytes of pixels, got {stored}"
            raise ValueError(msg)


def _last_strip(
    page: tifffile.TiffPage | tifffile.TiffFrame,
    key: tifffile.TiffPage,
    row: int,
    path: Path,
) -> tuple[int, int]:
    """Return the rows of a page's last strip, and the bytes that it unpacks to."""
    length = key.imagelength
    height = min(key.rowsperstrip, length)
    strips = math.ceil(length / height)
    if len(page.dataoffsets) != strips:
        msg = f"expected {strips} strips of pixels, got {len(page.dataoffsets)}"
        raise ValueError(msg)
    with path.open("rb") as file:
        file.seek(page.dataoffsets[-1])
        packed = file.read(page.databytecounts[-1])
    unpacked = zlib.decompressobj().decompress(packed, height * row + row)
    padded = strips > 1 and len(unpacked) == height * row
    rows = height if padded else length - height * (strips - 1)
    return rows, len(unpacked)


def _undo_palette(pixels: Pixels, page: tifffile.TiffPage) -> Pixels:
    """Look up palette colours, count brightness upwards, and make bits bytes."""
    import tifffile

    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
        return np.iinfo(pixels.dtype).max - pixels
    colormap = getattr(page, "colormap", None)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and colormap is not None:
        colours = (colormap >> 8).astype(np.uint8).T  # (N, 3)
        return np.asarray(colours[pixels])
    return pixels


def _arrange(pixels: Pixels, axes: str, path: Path) -> tuple[Pixels, bool, str]:
    """Put colour last, drop axes of length one, and refuse what is left over.

    Also return which axes there are, without colour.
    """
    if "S" in axes:
        pixels = np.moveaxis(pixels, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
        if pixels.shape[-1] not in (3, 4):  # grey with alpha, or spare samples
            pixels, axes = pixels[..., 0], axes[:-1]
    rgb = axes.endswith("S")
    single = tuple(
        axis
        for axis, letter in enumerate(axes)
        if pixels.shape[axis] == 1 and letter not in "YXS"
    )
    pixels = pixels.squeeze(single)
    spatial = "".join(c for axis, c in enumerate(axes) if axis not in single)
    spatial = spatial.removesuffix("S")
    if len(spatial) not in (2, 3) or "C" in spatial:
        msg = (
            f"{path}: expected a picture or one stack of pages, got the axes {spatial} "
            f"of shape {pixels.shape}; save one channel and one series of it"
        )
        raise UnsupportedFormatError(msg)
    return np.ascontiguousarray(pixels), rgb, spatial


def _read_compressed_tiff(path: Path) -> tuple[Pixels, bool]:
    """Read what tifffile alone cannot decompress (LZW, JPEG) with Pillow."""
    import PIL.Image
    import PIL.ImageSequence

    with PIL.Image.open(path, formats=("TIFF",)) as picture:
        pages = [_to_pixels(page) for page in PIL.ImageSequence.Iterator(picture)]
    first, rgb = pages[0]
    same = [page for page, _ in pages if page.shape == first.shape]
    return (np.stack(same) if len(same) > 1 else first), rgb


RASTER = FileFormat("a picture", RASTER_SUFFIXES, _read, _open, lambda: _DAMAGE)
"""PNG, JPEG, BMP and TIFF files."""
