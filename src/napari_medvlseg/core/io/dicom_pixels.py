"""The pixels of DICOM frames: decoded, in real values, in red, green and blue.

Symbols: K frames of H rows and W columns.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import UnsupportedFormatError
from napari_medvlseg.core.io.dicom_files import damage_told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.io.dicom_frames import Frame

    Pixels = npt.NDArray[Any]

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_PACKAGES = {
    "JPEG2000": "pylibjpeg and pylibjpeg-openjpeg",
    "HTJ2K": "pylibjpeg and pylibjpeg-openjpeg",
    "JPEG": "python-gdcm",
}
"""What decodes a family of transfer syntaxes; none of it is under the GPL."""


def voxels_of(frames: Sequence[Frame]) -> tuple[Pixels, bool]:
    """Decode frames of one shape and kind, in their order.

    Parameters
    ----------
    frames : K frames, at least one

    Returns
    -------
    voxels : (K, H, W) or (K, H, W, 3)
        Grey ones in real values, brightness counting upward: in the stored dtype where
        nothing is rescaled, int16 or int32 where that is exact, else float32.
    rgb : bool

    Raises
    ------
    UnsupportedFormatError
        If they are damaged, of an unknown kind, or no decoder is installed.
    """
    stored = sorted(
        range(len(frames)), key=lambda k: (str(frames[k].file.path), frames[k].index)
    )
    voxels: Pixels | None = None
    for _, places in groupby(stored, key=lambda k: frames[k].file.path):
        voxels = _fill(voxels, frames, list(places))
    assert voxels is not None  # noqa: S101 - there is at least one frame
    return voxels, photometric(frames[0].file.header) in COLOUR


def fixed_dtype(frames: Sequence[Frame]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape of a decoded frame, and a dtype that holds every one of them.

    Only the first is decoded; of the others their headers are asked.

    Parameters
    ----------
    frames : K frames of one shape and kind, at least one
    """
    first = voxels_of(frames[:1])[0][0]
    header = frames[0].file.header
    is_table = bool(header.get("ModalityLUTSequence"))
    if photometric(header) in COLOUR or is_table or first.dtype.kind == "f":
        return first.shape, first.dtype
    if not all(_is_whole(frame) for frame in frames):
        return first.shape, np.dtype(np.float32)
    ends = [
        end * frame.slope + frame.intercept
        for frame in frames
        for end in _stored_range(frame.file.header)
    ]
    for dtype in (first.dtype, np.dtype(np.int16), np.dtype(np.int32)):
        held = np.iinfo(dtype)
        if held.min <= min(ends) and max(ends) <= held.max:
            return first.shape, dtype
    return first.shape, np.dtype(np.float32)


def photometric(header: Any) -> str:
    """Return what the numbers of a picture mean, as DICOM calls it."""
    return str(header.get("PhotometricInterpretation") or "").strip()


def syntax_name(header: Any) -> str:
    """Return how the pixels are stored, in DICOM's words, never as a number."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    name = str(getattr(syntax, "name", ""))
    return name if name and not name[0].isdigit() else "unknown"


def check_decodable(header: Any, path: Path) -> None:
    """Raise `UnsupportedFormatError` if pixels are of a kind that is not read."""
    from pydicom.pixels.decoders.base import get_decoder

    kind = photometric(header)
    if kind not in (*GREY, *COLOUR):
        msg = (
            f"{path}: expected grey, RGB, YBR or palette colours, got "
            f"{kind or 'nothing said'}; export it in one of those"
        )
        raise UnsupportedFormatError(msg)
    try:
        there = get_decoder(header.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        there = False
    if not there:
        raise UnsupportedFormatError(_cannot_decode(header, path))


def _fill(
    voxels: Pixels | None, frames: Sequence[Frame], places: Sequence[int]
) -> Pixels:
    """Decode the frames of one file to their places; the first makes the array."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    path = frames[places[0]].file.path
    with damage_told(path):
        check_decodable(frames[places[0]].file.header, path)
        header = frames[places[0]].file.header
        is_part = len(places) < int(header.get("NumberOfFrames") or 1)
        # Of a deflated file no part can be found without the rest.
        source = path if is_part and not _is_deflated(header) else pydicom.dcmread(path)
        pictures = iter_pixels(source, indices=[frames[k].index for k in places])
        try:
            for place, pixels in zip(places, pictures, strict=True):
                values = _real_values(pixels, frames[place])
                if voxels is None:
                    dtype = _first_dtype(frames, pixels.dtype, values.dtype)
                    voxels = np.empty((len(frames), *values.shape), dtype)
                voxels = _widened(voxels, values)
                voxels[place] = values
        except (RuntimeError, NotImplementedError) as error:
            msg = _cannot_decode(header, path, is_there=True)
            raise UnsupportedFormatError(msg) from error
        if voxels is None:
            msg = "expected frames, got none"
            raise ValueError(msg)
    return voxels


def _is_deflated(header: Any) -> bool:
    """Whether a file as a whole is compressed."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    return bool(getattr(syntax, "is_deflated", False))


def _widened(voxels: Pixels, values: Pixels) -> Pixels:
    """Return voxels of a dtype that holds some more values: int32 for int16."""
    if voxels.dtype == values.dtype or voxels.dtype.kind == "f":
        return voxels
    for dtype in (voxels.dtype, np.dtype(np.int32)):
        held = np.iinfo(dtype)
        if held.min <= values.min() and values.max() <= held.max:
            return voxels.astype(dtype, copy=False)
    msg = "expected values of at most 32 bits"
    raise ValueError(msg)


def _cannot_decode(header: Any, path: Path, *, is_there: bool = False) -> str:
    """Say which transfer syntax cannot be decoded and what to install.

    Parameters
    ----------
    header : pydicom.Dataset
    path : Path
    is_there : bool
        Whether there is a decoder, which failed.
    """
    keyword = str(getattr(header.file_meta.TransferSyntaxUID, "keyword", ""))
    package = next(
        (p for start, p in _PACKAGES.items() if keyword.startswith(start)), ""
    )
    remedy = f"install {package}" if package else "export it without compression"
    cause = "the file may be damaged, or its decoder too narrow: " if is_there else ""
    return f"{path}: cannot decode {syntax_name(header)} pixels; {cause}{remedy}"


def _real_values(pixels: Pixels, frame: Frame) -> Pixels:
    """Return a decoded picture in colours, or in real values that grow with light."""
    header = frame.file.header
    kind = photometric(header)
    if kind in COLOUR:
        return _look_up_colours(pixels, header) if "PALETTE" in kind else pixels
    inverted = kind == "MONOCHROME1"
    if header.get("ModalityLUTSequence"):
        item = header.ModalityLUTSequence[0]
        values = _looked_up(pixels, item, header)
        highest = 2 ** int(item.LUTDescriptor[2]) - 1
        return _inverted(values, (0, highest)) if inverted else values
    if inverted:
        pixels = _inverted(pixels, _stored_range(header))
    return _rescaled(pixels, frame)


def _looked_up(pixels: Pixels, item: Any, header: Any) -> Pixels:
    """Return what stored numbers stand for by a table of 8 to 16 bits.

    pydicom's own function takes tables of 8 or 16 bits only.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if header.original_encoding[1] else ">"
        data = np.frombuffer(data, np.uint8 if len(data) == count else f"{order}u2")
    table = np.asarray(data)[:count].astype(np.uint8 if bits <= 8 else np.uint16)
    return table[np.clip(pixels.astype(np.int64) - first, 0, len(table) - 1)]


def _look_up_colours(pixels: Pixels, header: Any) -> Pixels:
    """Return the 8-bit colours that the numbers of a palette stand for."""
    from pydicom.pixels.processing import apply_color_lut

    count, first, _ = header.RedPaletteColorLookupTableDescriptor
    palette = apply_color_lut(np.arange(first, first + (count or 2**16)), header)
    colours = apply_color_lut(pixels, header)[..., :3]
    if palette.max() > np.iinfo(np.uint8).max:
        colours = colours >> 8
    return np.asarray(colours, dtype=np.uint8)


def _inverted(pixels: Pixels, limits: tuple[int, int]) -> Pixels:
    """Exchange black and white between the limits of what the bits can say."""
    if pixels.dtype.kind == "f":
        return -pixels
    if pixels.min() < limits[0] or pixels.max() > limits[1]:
        msg = "expected values within the bits stored"
        raise ValueError(msg)
    return np.asarray(pixels.dtype.type(sum(limits)) - pixels)


def _rescaled(pixels: Pixels, frame: Frame) -> Pixels:
    """Return what stored numbers stand for: whole ones where that is exact."""
    if (frame.slope, frame.intercept) == (1, 0):
        return pixels
    if pixels.dtype.kind in "iu" and _is_whole(frame):
        return pixels.astype(np.int64) * int(frame.slope) + int(frame.intercept)
    return (pixels * np.float64(frame.slope) + frame.intercept).astype(np.float32)


def _stored_range(header: Any) -> tuple[int, int]:
    """Return the lowest and highest number that the bits stored can say."""
    bits = int(header.get("BitsStored") or header.BitsAllocated)
    if int(header.get("PixelRepresentation") or 0):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _is_whole(frame: Frame) -> bool:
    """Whether whole numbers stay whole when they are rescaled."""
    return frame.slope.is_integer() and frame.intercept.is_integer()


def _first_dtype(
    frames: Sequence[Frame], stored: np.dtype[Any], rescaled: np.dtype[Any]
) -> np.dtype[Any]:
    """Return a dtype to begin with: what is stored, int16 to be widened, or float32.

    Parameters
    ----------
    frames : sequence of Frame
    stored, rescaled : dtype
        Of the first frame.
    """
    header = frames[0].file.header
    if photometric(header) in COLOUR or header.get("ModalityLUTSequence"):
        return rescaled
    if stored.kind == "f" or not all(_is_whole(frame) for frame in frames):
        return np.dtype(np.float32)
    kinds = {id(f.file): _stored_range(f.file.header) for f in frames}.values()
    is_plain = all((frame.slope, frame.intercept) == (1, 0) for frame in frames)
    if is_plain and len(set(kinds)) == 1:
        return stored.newbyteorder("=")
    return np.dtype(np.int16)
