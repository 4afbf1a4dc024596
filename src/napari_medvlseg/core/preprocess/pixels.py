"""Colours and grey values of any dtype to three channels in [-1, 1].

Symbols: H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

PERCENTILES = (0.5, 99.5)
"""Of the grey values that become black and white, where a dtype has no fixed range."""


def to_network_range(
    picture: npt.NDArray[Any], limits: tuple[float, float] | None = None
) -> Tensor:
    """Return (3, H, W) float32 in [-1, 1].

    Eight-bit pictures keep their range; others are stretched between percentiles of
    their finite values, and what is not finite becomes black. Transparency is dropped.

    Parameters
    ----------
    picture : (H, W) or (H, W, 3 | 4)
    limits : (black, white), optional
        `value_range` of the picture, or of the volume it belongs to.

    Raises
    ------
    ImageError
        If no value is finite or the dtype is not a number.
    """
    if picture.ndim == 3:
        picture = picture[..., :3]
    unit = _stretch(picture, *(limits or value_range(picture)))
    tensor = torch.from_numpy(np.ascontiguousarray(unit)) * 2 - 1
    if tensor.ndim == 2:
        return tensor.expand(3, -1, -1)
    return tensor.permute(2, 0, 1)


def value_range(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the values that become black and white.

    Raises
    ------
    ImageError
        If no value is finite or the dtype is not a number.
    """
    if voxels.dtype == np.uint8:
        return 0.0, 255.0
    if voxels.dtype == np.bool_:
        return 0.0, 1.0
    return percentile_range(voxels)


def percentile_range(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the `PERCENTILES` of the finite values, or their ends if those are one.

    Raises
    ------
    ImageError
        If no value is finite or the dtype is not a number.
    """
    values = some_values(voxels)
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        finite = voxels if voxels.dtype.kind != "f" else voxels[np.isfinite(voxels)]
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def some_values(voxels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return about a million of the finite values, spread evenly: enough to tell.

    Raises
    ------
    ImageError
        If no value is finite or the dtype is not a number.
    """
    if voxels.dtype.kind not in "biuf":
        msg = f"expected numbers as grey values, got dtype {voxels.dtype}"
        raise ImageError(msg)
    # Only fractions need a copy: a volume of whole numbers may be half a gigabyte.
    finite = voxels if voxels.dtype.kind != "f" else voxels[np.isfinite(voxels)]
    if finite.size == 0:
        msg = "expected an image with finite values, got NaN or infinity throughout"
        raise ImageError(msg)
    step = max(1, finite.size // 1_000_000)
    return np.asarray(finite.flat[::step], dtype=np.float64)


def resize(pixels: Tensor, height: int, width: int, *, smooths: bool = True) -> Tensor:
    """Resize (3, H, W) bilinearly, smoothing before it shrinks unless told not to."""
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels.contiguous()
    resized: Tensor = functional.interpolate(
        pixels[None], (height, width), mode="bilinear", antialias=smooths
    )[0]
    return resized


def _stretch(
    picture: npt.NDArray[Any], low: float, high: float
) -> npt.NDArray[np.float32]:
    """Map [low, high] to [0, 1]; a constant picture becomes mid-grey."""
    values = picture.astype(np.float32)
    if picture.dtype.kind == "f":
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if high <= low:
        return np.full(picture.shape, 0.5, dtype=np.float32)
    values -= low
    values /= high - low
    return np.clip(values, 0, 1, out=values)
