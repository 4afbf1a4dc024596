"""Change pictures, and keep what their prompts say about places true."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from napari_medvlseg.core.captions import exchange_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.training.noise import SampleNoise

MAX_TURN = math.radians(15)
MAX_SHIFT = 0.06
SCALES = (0.75, 1.35)
ASPECT, ULTRASOUND_ASPECT = 0.15, 0.5
"""Largest logarithm of width over height by which a picture is stretched: scanners
show ultrasound in windows of any form, and the network sees all of them as squares."""
ULTRASOUND_REACH = 1.8
"""Its changes of gain, gamma, sharpness and speckle, as a multiple of the others'."""
GAIN_GRID = 4
"""Nodes a side of the smooth change of gain: coils, sound beams, lamps."""
UPRIGHT = frozenset({"BUSI", "ChestXrayLungs"})
"""Sets whose pictures are never upside down."""


class Pose(NamedTuple):
    """How one picture is turned over; the rest of the change moves no word."""

    mirrored: bool
    """Left and right are exchanged."""
    upended: bool
    """Top and bottom are exchanged."""


def mirror_words(text: str, pose: Pose) -> str:
    """Exchange the words for sides, the patient's too.

    A mirrored chest X-ray shows as its left lung what was the right one.
    """
    return exchange_sides(text, across=pose.mirrored, upright=not pose.upended)


def draw_pose(generator: torch.Generator, *, upright: bool) -> Pose:
    """Toss whether a picture is mirrored and, unless it must be upright, upended."""
    first, second = torch.rand(2, generator=generator).tolist()
    return Pose(first < 0.5, second < 0.5 and not upright)


def aspect_range(dataset: str) -> float:
    """Return the largest logarithm of the stretch of a set's pictures."""
    return ULTRASOUND_ASPECT if dataset in {"BUSI", "BUSBRA"} else ASPECT


def appearance_reach(dataset: str) -> float:
    """Return how far a set's pictures are changed: ultrasound scanners differ most."""
    return ULTRASOUND_REACH if dataset in {"BUSI", "BUSBRA"} else 1.0


def draw_transforms(
    poses: Sequence[Pose],
    noise: SampleNoise,
    aspects: Sequence[float] = (),
    zooms: Sequence[float] = (),
) -> Tensor:
    """Turn over, rotate, scale, stretch and shift a batch.

    Parameters
    ----------
    poses : B poses
    noise : SampleNoise
        On the CPU.
    aspects : B floats, optional
        Largest logarithm of the stretch of each picture; 0 by default.
    zooms : B floats, optional
        By how much more each picture is enlarged; 1 by default.

    Returns
    -------
    (B, 2, 3)
        From places in the result to places in the source, as `affine_grid` wants it.
    """
    count = len(poses)
    drawn = noise.uniform((count, 5))
    angle = (drawn[:, 0] * 2 - 1) * MAX_TURN
    low, high = SCALES
    zoom = low + (high - low) * drawn[:, 1]
    zoom = zoom * torch.tensor(zooms or [1.0] * count)
    shift = (drawn[:, 2:4] * 2 - 1) * 2 * MAX_SHIFT
    flip_x = torch.tensor([-1.0 if pose.mirrored else 1.0 for pose in poses])
    flip_y = torch.tensor([-1.0 if pose.upended else 1.0 for pose in poses])
    stretch = drawn[:, 4] - 0.5
    stretch = (stretch * torch.tensor(aspects or [0.0] * count)).exp()
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    x, y = flip_x / stretch, flip_y * stretch
    rows = (
        torch.stack([cos * x, -sin * x, shift[:, 0]], dim=1),
        torch.stack([sin * y, cos * y, shift[:, 1]], dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(
    images: Tensor, masks: Tensor, transforms: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Resample a batch.

    Parameters
    ----------
    images : (B, 3, H, W)
        In [-1, 1].
    masks : (B, 1, H, W)
        0 or 1.
    transforms : (B, 2, 3)
        Of `draw_transforms`.
    size : int
        Pixels a side of the result.

    Returns
    -------
    images, masks : (B, ., size, size)
    """
    grid = functional.affine_grid(
        transforms, [len(transforms), 1, size, size], align_corners=False
    )
    both = torch.cat([images + 1, masks], dim=1)  # zeros outside are black
    warped = functional.grid_sample(both, grid, align_corners=False)
    return warped[:, :3] - 1, (warped[:, 3:] > 0.5).float()


def shift_appearance(
    images: Tensor, noise: SampleNoise, reach: Sequence[float] = ()
) -> Tensor:
    """Change gain, gamma, colour, sharpness, resolution, speckle and noise of a batch.

    Parameters
    ----------
    images : (B, 3, H, W)
        In [-1, 1].
    noise : SampleNoise
        On the device of the pictures.
    reach : B floats, optional
        How far, for each picture; 1 by default.
    """
    count, device = images.shape[0], images.device
    far = torch.tensor(reach or [1.0] * count, device=device)[:, None, None, None]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * noise.uniform((count, channels, 1, 1))

    unit = ((images + 1) / 2).clamp(0, 1)

    def sometimes(share: float) -> Tensor:
        return (uniform(0, 1) < share).float()

    unit = unit ** uniform(0.65, 1.5) ** far
    balance = 1 + sometimes(0.7) * (uniform(0.9, 1.1, 3) - 1)
    unit = unit * uniform(0.75, 1.25) ** far * balance + uniform(-0.08, 0.08)
    nodes = noise((count, 1, GAIN_GRID, GAIN_GRID))
    field = functional.interpolate(nodes, unit.shape[-2:], mode="bicubic")
    unit = unit * (sometimes(0.5) * 0.2 * far * field).exp()
    blurred = functional.avg_pool2d(
        unit, 3, stride=1, padding=1, count_include_pad=False
    )
    softness = (uniform(-0.6, 1.0) * far).clamp(max=1)
    unit = torch.lerp(unit, blurred, softness)
    coarse = functional.avg_pool2d(unit, 2)
    coarse = functional.interpolate(coarse, unit.shape[-2:], mode="bilinear")
    unit = torch.lerp(unit, coarse, sometimes(0.2))
    grains = noise((count, 1, *coarse.shape[-2:]))
    unit = unit * (1 + sometimes(0.3) * uniform(0.0, 0.15) * far * grains)
    strength = uniform(0.0, 0.03)
    unit = unit + strength * noise(tuple(unit.shape))
    return unit.clamp(0, 1) * 2 - 1
