"""Pages of a large TIFF, read when they are looked at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.io.opened import is_large, lazily
from napari_medvlseg.core.io.stored import read_slab

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import tifffile

    Pixels = npt.NDArray[Any]


def lazy_pages(
    path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[Any, bool] | None:
    """Return a dask array of a stack (K, H, W[, 3 | 4]) and whether it has colours.

    None where the file is small, or of a kind that is read as a whole: with palettes,
    bits for pixels, white as zero, separate colours, several stacks, or packed in a
    way that tifffile alone does not unpack.

    Parameters
    ----------
    path : Path
    tiff : TiffFile
        The file at `path`.
    series : TiffPageSeries
        Its first.

    Raises
    ------
    tifffile.TiffFileError, ValueError, OSError
        If the file is damaged.
    """
    if not _is_plain(tiff, series):
        return None
    if series.dataoffset is None:
        voxels = _packed(path, tiff, series)
    else:
        voxels = _contiguous(path, tiff, series)
    return None if voxels is None else (voxels, series.axes.endswith("S"))


def _packed(
    path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> Any:
    """Return pages that are unpacked one by one, None where they cannot be."""
    import tifffile

    shape, dtype = tuple(series.shape), np.dtype(series.dtype).newbyteorder("=")
    numbers = [-1 if page is None else page.index for page in series.pages]
    if len(numbers) != shape[0] or -1 in numbers:
        return None
    tiff.pages.get(numbers[0]).asarray()  # raises if it cannot be unpacked

    def read(places: tuple[slice, ...]) -> Pixels:
        with tifffile.TiffFile(path) as again:
            pages = [again.pages.get(number).asarray() for number in numbers[places[0]]]
        return np.stack(pages).astype(dtype, copy=False)

    return lazily(read, shape, dtype, whole=len(shape) - 1)


def _contiguous(
    path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> Any:
    """Return pages that lie one after another as they are, None where some are cut."""
    shape, begin = tuple(series.shape), int(series.dataoffset or 0)
    stored = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
    if path.stat().st_size < begin + series.nbytes:
        return None
    native = stored.newbyteorder("=")
    page = math.prod(shape[1:]) * stored.itemsize

    def read(places: tuple[slice, ...]) -> Pixels:
        first, last = places[0].start, places[0].stop
        slab = read_slab(path, stored, begin + first * page, (last - first, *shape[1:]))
        return slab.astype(native, copy=False)

    return lazily(read, shape, native, whole=len(shape) - 1)


def _is_plain(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether a series is a large stack whose pages are what they hold."""
    import tifffile

    plain = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
    axes = series.axes.removesuffix("S")
    return bool(
        len(tiff.series) == 1
        and is_large(tuple(series.shape), np.dtype(series.dtype))
        and len(axes) == 3
        and axes.endswith("YX")
        and "C" not in axes
        and np.dtype(series.dtype).kind in "uif"
        and tiff.pages.first.photometric in plain
        and (axes == series.axes or series.shape[-1] in (3, 4))
    )
