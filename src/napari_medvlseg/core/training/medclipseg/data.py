"""Labelled pictures in memory, and the batches drawn from them."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from napari_medvlseg.core.captions import caption_case, names_a_side
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.pixels import resize, to_network_range
from napari_medvlseg.core.training.augment import (
    UPRIGHT,
    Pose,
    appearance_reach,
    aspect_range,
    draw_pose,
    draw_transforms,
    mirror_words,
    shift_appearance,
    warp,
)
from napari_medvlseg.core.training.noise import SampleNoise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_medvlseg.core.datasets import Case

MAX_DEGREES = 20
TURNED = 0.5
"""Share of the pictures that are rotated, as the authors do."""


class Example(NamedTuple):
    """One picture, its prompt and what the prompt names."""

    dataset: str
    prompt: str
    sided: bool
    """Whether the target is one of two like organs: its picture is not mirrored."""
    picture: Tensor
    """(3, S, S) uint8"""
    mask: Tensor
    """(1, S, S) bool"""


class Batch(NamedTuple):
    """What a step sees."""

    images: Tensor
    """(B, 3, S, S) in [-1, 1]"""
    masks: Tensor
    """(B, 1, S, S), 0 or 1"""
    prompts: list[str]


def load_examples(
    cases: Iterable[Case], side: int, *, compatible: bool
) -> list[Example]:
    """Read cases and bring them to the network's size.

    Parameters
    ----------
    cases : iterable of Case
        Where no sheet tells the prompt it is written from the mask.
    side : int
        Pixels.
    compatible : bool
        Whether to resize as the authors do: without smoothing, masks by the nearest
        pixel.

    Raises
    ------
    UnsupportedFormatError
        If a file cannot be read.
    """
    pictures: dict[Path, Tensor] = {}
    examples = []
    for case in cases:
        voxels = read(case.image_path).voxels
        mask = case.reference(read(case.label_path).voxels)
        if case.image_path not in pictures:
            pixels = to_network_range(voxels)
            small = resize(pixels, side, side, smooths=not compatible)
            pictures[case.image_path] = _to_bytes(small)
        seed = zlib.crc32(f"{case.image_path.stem} {case.target}".encode())
        examples.append(
            Example(
                case.dataset,
                case.prompt or caption_case(mask, voxels, case.info, seed=seed),
                names_a_side(case.info.class_name),
                pictures[case.image_path],
                _small_mask(mask, side, compatible=compatible),
            )
        )
    return examples


def make_batch(
    examples: Sequence[Example],
    augmentation: str,
    seeds: Sequence[int],
    device: torch.device,
) -> Batch:
    """Change pictures at random, and keep what their prompts say about places true.

    How a picture is changed depends on its seed, not on the others.

    Parameters
    ----------
    examples : sequence of Example
    augmentation : str
        One of `AUGMENTATIONS`.
    seeds : sequence of int
        Of each picture.
    device : torch.device
    """
    noise = SampleNoise.seeded(seeds)
    images = torch.stack([each.picture for each in examples]).to(device)
    images = images.float() / 127.5 - 1
    masks = torch.stack([each.mask for each in examples]).to(device).float()
    prompts = [each.prompt for each in examples]
    side = images.shape[-1]
    if augmentation == "rotation":
        turns = _rotations(len(examples), noise).to(device)
        images, masks = warp(images, masks, turns, side)
    elif augmentation == "full":
        poses = list(map(_pose, examples, noise.generators))
        aspects = [aspect_range(each.dataset) for each in examples]
        transforms = draw_transforms(poses, noise, aspects).to(device)
        images, masks = warp(images, masks, transforms, side)
        reach = [appearance_reach(each.dataset) for each in examples]
        there = SampleNoise.seeded((seed + 1 for seed in seeds), device)
        images = shift_appearance(images, there, reach)
        prompts = [mirror_words(*each) for each in zip(prompts, poses, strict=True)]
    return Batch(images, masks, prompts)


def _pose(example: Example, generator: torch.Generator) -> Pose:
    """Toss how a picture is turned over."""
    pose = draw_pose(generator, upright=example.dataset in UPRIGHT)
    return pose._replace(mirrored=False) if example.sided else pose


def _rotations(count: int, noise: SampleNoise) -> Tensor:
    """Turn half of the pictures by whole degrees, (B, 2, 3)."""
    tossed, drawn = noise.uniform((count, 2)).unbind(dim=1)
    turned = tossed < TURNED
    degrees = (drawn * (2 * MAX_DEGREES + 1)).floor() - MAX_DEGREES
    angle = turned * degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(count)
    rows = torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)
    return torch.stack(rows, dim=1)


def _to_bytes(pixels: Tensor) -> Tensor:
    """[-1, 1] to bytes."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).byte()


def _small_mask(mask: npt.NDArray[np.bool_], side: int, *, compatible: bool) -> Tensor:
    """Resize a mask, (1, S, S)."""
    whole = torch.from_numpy(mask)[None, None].float()
    if compatible:
        small = functional.interpolate(whole, (side, side), mode="nearest")
    else:
        small = functional.interpolate(
            whole, (side, side), mode="bilinear", antialias=True
        )
    found: Tensor = small[0] > 0.5
    return found
