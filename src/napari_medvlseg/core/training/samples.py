"""Labelled cases in memory, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_medvlseg.core.captions import names_a_side
from napari_medvlseg.core.datasets import list_cases
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.training.augment import (
    UPRIGHT,
    Pose,
    appearance_reach,
    aspect_range,
    draw_pose,
    draw_transforms,
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
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.training.noise import SampleNoise

INPUT_SIZE = 288
"""Pixels a side of what the trained model is given."""
STORED_SIZE = 320
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
class Plan:
    """A training step as it is prepared: what remains is work for an accelerator."""

    pictures: Tensor
    """(N, 3, H, W) uint8"""
    regions: Tensor
    """(N, 1, H, W) bool: what is marked."""
    transforms: Tensor
    """(N, 2, 3): how each is warped."""
    reach: list[float]
    """N: how far each picture's appearance is changed."""
    size: int
    """Pixels a side of the images."""
    again: Tensor
    """(B - N,) long: which pictures the questions after the first N are about."""
    inside: Tensor
    """(B,): the probability to answer inside the mask."""
    prompts: list[str]
    """B questions."""
    matched: Tensor
    """(B,) bool: whether the prompt is the picture's true one."""
    sided: Tensor
    """(B,) bool: whether only the word left or right decides the answer."""

    def pin_memory(self) -> Plan:
        """Move what is large to where an accelerator fetches it quicker."""
        pictures, regions = self.pictures.pin_memory(), self.regions.pin_memory()
        return replace(self, pictures=pictures, regions=regions)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees."""

    images: Tensor
    """(N, 3, size, size) in [-1, 1]."""
    masks: Tensor
    """(B, 1, size, size): the probability to answer."""
    plan: Plan
    """What was asked."""


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


def plan_batch(
    chosen: list[Sample],
    size: int,
    noise: SampleNoise,
    more: Sequence[int] = (),
) -> Plan:
    """Choose how pictures change, and word one or two questions about each.

    Parameters
    ----------
    chosen : list of Sample
    size : int
        Pixels a side.
    noise : SampleNoise
        On the CPU. What happens to a picture depends on no other one.
    more : sequence of int
        Which of the pictures are asked about twice.
    """
    cut = list(map(_window, chosen, noise.generators))
    pictures = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p, _ in cut])
    regions = torch.stack([torch.from_numpy(mask)[None] for _, mask in cut])
    names = [sample.case.dataset for sample in chosen]
    poses = list(map(_pose, chosen, noise.generators))
    aspects = [aspect_range(name) for name in names]
    # Windows of full resolution are not shrunk as whole pictures are.
    zooms = [STORED_SIZE / size if name in TILED else 1.0 for name in names]
    transforms = draw_transforms(poses, noise, aspects, zooms)
    dice = [Dice(generator) for generator in noise.generators]
    # Measured at half size: quicker, the same words.
    half = np.s_[..., ::2, ::2]
    images, masks = warp(
        _unit(pictures[half]), regions[half].float(), transforms, size // 2
    )
    seen = [_seen(*each) for each in zip(chosen, images, masks, poses, strict=True)]
    first = list(map(true_question, seen, dice))
    second = [further_question(seen[i], dice[i]) for i in more]
    rows = torch.tensor([*range(len(chosen)), *more])
    inside = torch.tensor([question.inside for question in (*first, *second)])
    absent = torch.tensor([sample.case.absent for sample in chosen])
    sided = [names_a_side(chosen[i].case.info.class_name) for i in rows.tolist()]
    return Plan(
        pictures=pictures,
        regions=regions,
        transforms=transforms,
        reach=[appearance_reach(name) for name in names],
        size=size,
        again=rows[len(chosen) :],
        inside=inside,
        prompts=[question.prompt for question in (*first, *second)],
        matched=(torch.arange(len(rows)) < len(chosen)) & ~absent[rows],
        sided=torch.tensor(sided) & (inside == 1),
    )


def render(plan: Plan, noise: SampleNoise) -> Batch:
    """Carry a plan out on the device of the noise.

    Parameters
    ----------
    plan : Plan
    noise : SampleNoise
        For the appearance.
    """
    device = noise.device
    pictures = plan.pictures.to(device, non_blocking=True)
    regions = plan.regions.to(device, non_blocking=True).float()
    transforms = plan.transforms.to(device)
    images, masks = warp(_unit(pictures), regions, transforms, plan.size)
    images = shift_appearance(images, noise, plan.reach)
    masks = torch.cat([masks, masks[plan.again.to(device)]])
    masks = masks * plan.inside.to(device)[:, None, None, None]
    return Batch(images, masks, plan)


def _unit(pictures: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return pictures.float() / 127.5 - 1


def _seen(sample: Sample, image: Tensor, mask: Tensor, pose: Pose) -> Seen:
    """Turn tensors into what words are found for."""
    picture = ((image + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    return Seen(sample.case, mask[0].numpy() > 0.5, picture, pose)


def _pose(sample: Sample, generator: torch.Generator) -> Pose:
    """Toss how a picture is turned over; not mirrored if its question names a side."""
    pose = draw_pose(generator, upright=sample.case.dataset in UPRIGHT)
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
