"""Labelled cases in memory, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.captions import names_a_side
from napari_medvlseg.core.datasets import list_cases
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.training.augment import (
    UPRIGHT,
    Pose,
    appearance_reach,
    aspect_range,
    draw_pose,
    shift_appearance,
    warp,
)
from napari_medvlseg.core.training.questions import (
    Seen,
    further_question,
    true_question,
)
from napari_medvlseg.core.training.strangers import slices_of
from napari_medvlseg.core.training.wording import Dice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.datasets import Case

STORED_SIZE = 256
"""Pixels a side at which pictures wait in memory."""
TILED = frozenset({"RetinaVessels"})
"""Sets that are learnt from windows of full resolution."""


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
    """(N, 3, size, size) in [-1, 1]."""
    again: Tensor
    """(B - N,) long: which pictures the questions after the first N are about."""
    masks: Tensor
    """(B, 1, size, size): the probability to answer."""
    prompts: list[str]
    """B questions."""
    matched: Tensor
    """(B,) bool: whether the prompt is the picture's true one."""
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


def load_strangers(root: Path, sets: Sequence[str], per_volume: int) -> list[Sample]:
    """Read slices of volumes that show nothing of what any set marks."""
    samples = []
    for case, picture in slices_of(root, sets, per_volume):
        small = _shrink(picture, case.dataset)
        samples.append(Sample(case, small, np.zeros(small.shape[:2], np.bool_)))
    return samples


def epoch_order(
    samples: list[Sample],
    weights: Mapping[str, float],
    seed: int,
    epoch: int,
    normal_weight: float = 1.0,
) -> list[int]:
    """Return which samples an epoch shows, in which order.

    Parameters
    ----------
    samples : list of Sample
    weights : mapping
        Share of its cases that an epoch shows of a set.
    seed, epoch : int
    normal_weight : float
        The same of pictures without anything to find, in sets that have some.
    """
    generator = np.random.default_rng([seed, epoch])
    chosen: list[int] = []
    groups: dict[tuple[str, bool], list[int]] = {}
    for index, sample in enumerate(samples):
        normal = not (sample.case.absent or sample.mask.any())
        key = sample.case.dataset, normal
        groups.setdefault(key, []).append(index)
    for (name, normal), members in sorted(groups.items()):
        weight = weights.get(name, 1.0) * (normal_weight if normal else 1.0)
        count = round(len(members) * weight)
        repeats = -(-count // len(members))
        pool = [generator.permutation(members) for _ in range(repeats)]
        chosen += np.concatenate(pool)[:count].tolist() if pool else []
    return [chosen[i] for i in generator.permutation(len(chosen))]


def batches(
    samples: list[Sample], order: list[int], batch_size: int
) -> Iterator[list[Sample]]:
    """Cut an epoch into full batches."""
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield [samples[i] for i in order[start : start + batch_size]]


def make_batch(
    chosen: list[Sample],
    size: int,
    generator: torch.Generator,
    further_questions: float = 0.0,
) -> Batch:
    """Augment pictures and masks, and word one or two questions about each.

    Parameters
    ----------
    chosen : list of Sample
    size : int
        Pixels a side.
    generator : torch.Generator
    further_questions : float
        Share of the pictures that are asked about twice.
    """
    cut = [_window(sample, generator) for sample in chosen]
    images = torch.stack([to_network_range(image) for image, _ in cut])
    masks = torch.stack([torch.from_numpy(mask)[None].float() for _, mask in cut])
    names = [sample.case.dataset for sample in chosen]
    poses = [draw_pose(generator, upright=name in UPRIGHT) for name in names]
    poses = [_keep_laterality(s, pose) for s, pose in zip(chosen, poses, strict=True)]
    aspects = [aspect_range(name) for name in names]
    images, masks = warp(images, masks, poses, size, generator, aspects)
    reach = [appearance_reach(name) for name in names]
    images = shift_appearance(images, generator, reach)
    dice = Dice(generator)
    seen = [_seen(*case) for case in zip(chosen, images, masks, poses, strict=True)]
    first = [true_question(each, dice) for each in seen]
    # As many in each step: convolutions are prepared for each size of a batch anew.
    order = torch.randperm(len(chosen), generator=generator).tolist()
    more = order[: round(further_questions * len(chosen))]
    second = [further_question(seen[i], dice) for i in more]
    rows = torch.tensor([*range(len(chosen)), *more])
    inside = torch.tensor([question.inside for question in (*first, *second)])
    absent = torch.tensor([sample.case.absent for sample in chosen])
    sided = [names_a_side(chosen[i].case.info.class_name) for i in rows.tolist()]
    return Batch(
        images=images,
        again=rows[len(chosen) :],
        masks=masks[rows] * inside[:, None, None, None],
        prompts=[question.prompt for question in (*first, *second)],
        matched=(torch.arange(len(rows)) < len(chosen)) & ~absent[rows],
        sided=torch.tensor(sided) & (inside == 1),
    )


def _seen(sample: Sample, image: Tensor, mask: Tensor, pose: Pose) -> Seen:
    """Measure at half size: quicker, the same words."""
    half = mask[0, ::2, ::2].numpy() > 0.5
    picture = ((image[:, ::2, ::2] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    return Seen(sample.case, half, picture, pose)


def _keep_laterality(sample: Sample, pose: Pose) -> Pose:
    """Do not mirror a picture whose question names one of two like organs."""
    if names_a_side(sample.case.info.class_name):
        return pose._replace(mirrored=False)
    return pose


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
