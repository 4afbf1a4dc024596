"""A volume as a 3D network takes it, and the windows in which it is shown.

Symbols: I x J x K voxels of the model's grid, i x j x k of a window, V maps.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.preprocess.resample import ModelGrid
    from napari_medvlseg.core.types import Image

    Sides = tuple[int, int, int]


def network_volume(
    image: Image,
    grid: ModelGrid,
    window: Sequence[float] | None,
    *,
    min_max: bool = False,
) -> Tensor:
    """Return a grey volume on the model's grid, (channels, I, J, K) float32.

    Parameters
    ----------
    image : Image
    grid : ModelGrid
    window : two floats, optional
        Grey values that become 0 and 1; without it the voxels that are not 0 are
        normalised, each channel by itself, as in training (MONAI's transforms).
    min_max : bool
        Whether the darkest and the brightest voxel of the image, of each channel by
        itself, become 0 and 1 instead.

    Raises
    ------
    ImageError
        If the image is no grey volume, or holds no number.
    """
    from monai.transforms.intensity.array import (  # half of all import time
        NormalizeIntensity,
        ScaleIntensityRange,
    )

    if image.ndim != 3 or image.rgb:
        what = "colours" if image.rgb else "a picture"
        msg = f"expected a grey volume for a 3D model, got {what}; choose a 2D model"
        raise ImageError(msg)
    channels = [_finite(voxels) for voxels in (image.voxels, *image.channels)]
    if min_max:  # of the whole image: resampling may leave out its extremes
        channels = [_from_0_to_1(voxels) for voxels in channels]
    turned = torch.stack(
        [
            torch.from_numpy(np.ascontiguousarray(grid.to_model(voxels), np.float32))
            for voxels in channels
        ]
    )
    if min_max:
        return turned
    if window is None:
        changed = NormalizeIntensity(nonzero=True, channel_wise=True)(turned)
    else:
        low, high = window
        changed = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(turned)
    # Not MONAI's own kind of tensor, which takes part in every step of a network.
    return torch.as_tensor(changed).as_subclass(torch.Tensor).float()


def _finite(voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return voxels as float32, with the lowest number in place of what is none."""
    values: npt.NDArray[np.float32] = voxels.astype(np.float32)
    known = np.isfinite(values)
    if not known.any():
        msg = "expected numbers as grey values, got none that is finite"
        raise ImageError(msg)
    return values if known.all() else np.where(known, values, values[known].min())


def _from_0_to_1(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale a volume so that its extremes are 0 and 1."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / ((high - low) or 1.0)


LEAST_IMPORTANCE = 1e-3
"""Of a window's corners, where a Gaussian is all but 0; MONAI's choice."""


class VolumeWindows:
    """Overlapping windows of one size, blended by a Gaussian (MONAI's).

    Parameters
    ----------
    volume : (channels, I, J, K)
        Where it is smaller than a window, zeros are added on both sides.
    sides : three ints
        Voxels of a window.
    overlap : float
        Share of a window that its neighbour repeats, 0 to below 1.
    """

    def __init__(self, volume: Tensor, sides: Sides, overlap: float) -> None:
        from monai.data.utils import compute_importance_map, dense_patch_slices

        self.shape = tuple(int(size) for size in volume.shape[1:])
        lacking = [
            max(0, side - size) for side, size in zip(sides, self.shape, strict=True)
        ]
        self._starts = [width // 2 for width in lacking]
        pad = [
            end for width in reversed(lacking) for end in (width // 2, -(-width // 2))
        ]
        self._volume = functional.pad(volume, pad)
        padded = tuple(int(size) for size in self._volume.shape[1:])
        steps = [
            side if side == size else max(1, int(side * (1 - overlap)))
            for side, size in zip(sides, padded, strict=True)
        ]
        self._places = dense_patch_slices(padded, sides, steps)
        self._importance = torch.as_tensor(
            compute_importance_map(sides, mode="gaussian")
        ).clamp_min(LEAST_IMPORTANCE)
        self.empty()

    def emptied(self) -> VolumeWindows:
        """Return the same windows of the same volume, none of them added."""
        other = copy.copy(self)
        other.empty()
        return other

    def empty(self) -> None:
        """Forget what was added."""
        self._weight = torch.zeros(self._volume.shape[1:])
        self._total: Tensor | None = None

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self._places)

    def cut(self, index: int) -> Tensor:
        """Return a window, (1, channels, i, j, k)."""
        return self._volume[:, *self._places[index]][None].contiguous()

    def add(self, index: int, values: Tensor) -> None:
        """Take in the values of a window, (V, i, j, k)."""
        place = self._places[index]
        if self._total is None:
            self._total = torch.zeros(len(values), *self._weight.shape)
        self._total[:, *place] += values * self._importance
        self._weight[place] += self._importance

    def blended(
        self, row: int, also: tuple[int, Tensor] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return one of the V maps, (I, J, K); 0 where no window was added.

        Parameters
        ----------
        row : int
        also : int and (V, i, j, k), optional
            A window and its values, to blend in and not to keep.
        """
        weight = self._weight
        total = torch.zeros_like(weight) if self._total is None else self._total[row]
        if also is not None:
            place = self._places[also[0]]
            weight, total = weight.clone(), total.clone()
            total[place] += also[1][row] * self._importance
            weight[place] += self._importance
        inside = tuple(
            slice(start, start + size)
            for start, size in zip(self._starts, self.shape, strict=True)
        )
        whole = total[inside] / weight[inside].clamp_min(torch.finfo(total.dtype).tiny)
        blended: npt.NDArray[np.float32] = whole.numpy()
        return blended
