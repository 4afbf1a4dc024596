"""Labelled cases in memory, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.captions import caption_case, describe, names_a_side
from napari_medvlseg.core.datasets import list_cases
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.targets import MISMATCHED, TARGETS, TargetInfo
from napari_medvlseg.core.training.augment import (
    UPRIGHT,
    Pose,
    aspect_range,
    draw_pose,
    mirror_words,
    shift_appearance,
    warp,
)
from napari_medvlseg.core.training.wording import (
    Dice,
    any_name,
    foreign_prompt,
    paraphrase,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.datasets import Case

STORED_SIZE = 256
"""Pixels a side at which pictures wait in memory."""
TILED = frozenset({"RetinaVessels"})
"""Sets that are learnt from windows of full resolution."""
MISMATCHED_SHARE = 0.15
"""Of the prompts: they name what is not there, and the answer is empty."""
SHEET_SHARE = 0.5
"""Of the prompts: the authors' own, where there are any."""
SHEET_SHARE_OF_NORMAL = 0.25
"""The same where nothing is to be found, which those prompts give away."""
DESIGNS = ("original", "missing_location", "underdescriptive", "class_name")
DESIGN_SHARES = (0.3, 0.1, 0.15, 0.15)
"""Of the other prompts, written from the changed mask; the rest are paraphrases."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One case, read."""

    case: Case
    image: npt.NDArray[np.uint8]
    """(H, W, 3)"""
    mask: npt.NDArray[np.bool_]
    """(H, W)"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees."""

    images: Tensor
    """(B, 3, size, size) in [-1, 1]."""
    masks: Tensor
    """(B, 1, size, size), 0 or 1."""
    prompts: list[str]
    matched: Tensor
    """(B,) bool: whether the prompt is about the picture."""
    sided: Tensor
    """(B,) bool: whether only the word left or right decides the answer."""


def load_samples(root: Path, split: str) -> list[Sample]:
    """Read all cases of one split of a data set."""
    samples = []
    pictures: dict[Path, npt.NDArray[np.uint8]] = {}
    for case in list_cases(root, split):
        if case.image_path not in pictures:
            picture = _as_rgb(read(case.image_path).voxels)
            pictures[case.image_path] = _shrink(picture, case.dataset)
        label = np.asarray(read(case.label_path).voxels)
        mask = _shrink_mask(case.reference(label), case.dataset)
        samples.append(Sample(case, pictures[case.image_path], mask))
    return samples


def epoch_order(
    samples: list[Sample], weights: Mapping[str, float], seed: int, epoch: int
) -> list[int]:
    """Return which samples an epoch shows, in which order."""
    generator = np.random.default_rng([seed, epoch])
    chosen: list[int] = []
    sets = sorted({sample.case.dataset for sample in samples})
    for name in sets:
        members = [i for i, s in enumerate(samples) if s.case.dataset == name]
        count = round(len(members) * weights.get(name, 1.0))
        repeats = -(-count // len(members))
        pool = np.concatenate([generator.permutation(members) for _ in range(repeats)])
        chosen += pool[:count].tolist()
    return [chosen[i] for i in generator.permutation(len(chosen))]


def batches(
    samples: list[Sample], order: list[int], batch_size: int
) -> Iterator[list[Sample]]:
    """Cut an epoch into full batches."""
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield [samples[i] for i in order[start : start + batch_size]]


def make_batch(chosen: list[Sample], size: int, generator: torch.Generator) -> Batch:
    """Augment pictures and masks, and word a prompt for each."""
    cut = [_window(sample, generator) for sample in chosen]
    images = torch.stack([to_network_range(image) for image, _ in cut])
    masks = torch.stack([torch.from_numpy(mask)[None].float() for _, mask in cut])
    names = [sample.case.dataset for sample in chosen]
    poses = [draw_pose(generator, upright=name in UPRIGHT) for name in names]
    poses = [_keep_laterality(s, pose) for s, pose in zip(chosen, poses, strict=True)]
    images, masks = warp(
        images, masks, poses, size, generator, [aspect_range(name) for name in names]
    )
    images = shift_appearance(images, generator)
    prompts, matched = [], []
    for row, (sample, pose) in enumerate(zip(chosen, poses, strict=True)):
        if _uniform(generator) < MISMATCHED_SHARE:
            prompts.append(_foreign_prompt(sample, generator))
            masks[row] = 0
            matched.append(False)
        else:
            mask = masks[row, 0].numpy() > 0.5
            prompts.append(_own_prompt(sample, mask, images[row], pose, generator))
            matched.append(True)
    sided = torch.tensor([names_a_side(s.case.info.class_name) for s in chosen])
    told = torch.tensor(matched)
    return Batch(images, masks, prompts, told, sided & told)


def _keep_laterality(sample: Sample, pose: Pose) -> Pose:
    """Do not mirror a picture whose question names one of two like organs."""
    if names_a_side(sample.case.info.class_name):
        return pose._replace(mirrored=False)
    return pose


def _own_prompt(
    sample: Sample,
    mask: npt.NDArray[np.bool_],
    image: Tensor,
    pose: Pose,
    generator: torch.Generator,
) -> str:
    """Word a true prompt: the authors' own, or one written from the changed mask."""
    dice = Dice(generator)
    sheet = sample.case.prompt
    there = bool(sample.mask.any())
    share = SHEET_SHARE if there else SHEET_SHARE_OF_NORMAL
    if sheet is not None and dice.uniform() < share:
        return mirror_words(sheet, pose)
    info = sample.case.info
    if not there and dice.uniform() < 0.5:  # described as if it were there
        return foreign_prompt(info, dice)
    half = mask[::2, ::2]  # measured at half size: quicker, the same words
    picture = ((image[:, ::2, ::2] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    return _written_prompt(half, picture, info, generator)


def _written_prompt(
    mask: npt.NDArray[np.bool_],
    picture: npt.NDArray[np.uint8],
    info: TargetInfo,
    generator: torch.Generator,
) -> str:
    """Word what the mask shows, in one of the designs or freely."""
    dice = Dice(generator)
    shares = torch.tensor([*DESIGN_SHARES, 1 - sum(DESIGN_SHARES)])
    choice = int(torch.multinomial(shares, 1, generator=generator))
    if choice == len(DESIGNS):
        return paraphrase(describe(mask, picture), info, dice)
    if DESIGNS[choice] == "class_name":
        return any_name(info, dice, vague=0.15)
    seed = int(torch.randint(1000, (), generator=generator))
    text = caption_case(mask, picture, info, design=DESIGNS[choice], seed=seed)
    if dice.uniform() < 0.4:
        text = text.replace(info.class_name, any_name(info, dice), 1)
    return text


def _foreign_prompt(sample: Sample, generator: torch.Generator) -> str:
    """Word a prompt for something that no picture of this set shows."""
    dice = Dice(generator)
    name = dice.pick(MISMATCHED[sample.case.dataset])
    info = next(i for infos in TARGETS.values() for i in infos if i.class_name == name)
    return foreign_prompt(info, dice)


def _window(
    sample: Sample, generator: torch.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Cut a window of the stored size from a larger picture."""
    height, width = sample.mask.shape
    if height <= STORED_SIZE and width <= STORED_SIZE:
        return sample.image, sample.mask
    top = int(_uniform(generator) * (height - STORED_SIZE))
    left = int(_uniform(generator) * (width - STORED_SIZE))
    window = np.s_[top : top + STORED_SIZE, left : left + STORED_SIZE]
    return sample.image[window], sample.mask[window]


def _as_rgb(voxels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W) or (H, W, 3 | 4) to (H, W, 3)."""
    if voxels.ndim == 2:
        return np.repeat(voxels[..., None], 3, axis=-1)
    return voxels[..., :3]


def _shrink(picture: npt.NDArray[np.uint8], dataset: str) -> npt.NDArray[np.uint8]:
    """Resize a picture as the network will see it."""
    if dataset in TILED:
        return picture
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    small = functional.interpolate(
        tensor, (STORED_SIZE, STORED_SIZE), mode="bilinear", antialias=True
    )
    stored: npt.NDArray[np.uint8] = small[0].round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(stored)


def _shrink_mask(mask: npt.NDArray[np.bool_], dataset: str) -> npt.NDArray[np.bool_]:
    """Resize a mask likewise."""
    if dataset in TILED:
        return mask
    tensor = torch.from_numpy(mask)[None, None].float()
    small = functional.interpolate(
        tensor, (STORED_SIZE, STORED_SIZE), mode="bilinear", antialias=True
    )
    stored: npt.NDArray[np.bool_] = (small[0, 0] > 0.5).numpy()
    return stored


def _uniform(generator: torch.Generator) -> float:
    """Draw from [0, 1)."""
    return float(torch.rand((), generator=generator))
