"""Labelled volumes to training patches: the transforms of table 4, in MONAI's words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import (
    CropForegroundd,
    RandCropByPosNegLabeld,
    SpatialPadd,
)
from monai.transforms.intensity.dictionary import (
    NormalizeIntensityd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityd,
    ScaleIntensityRanged,
)
from monai.transforms.spatial.dictionary import (
    Orientationd,
    RandAffined,
    RandFlipd,
    Resized,
    Spacingd,
)

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.channels import read_channels
from napari_medvlseg.core.io.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.training.volumes.config import VolumeTrainConfig
    from napari_medvlseg.core.volume_sets import VolumeCase

BOTH = ("image", "label")
AXES = 3


class Volume(NamedTuple):
    """A prepared volume in RAS; in half the memory."""

    name: str
    image: Tensor
    """(channels, I, J, K) float16"""
    label: Tensor
    """(1, I, J, K) uint8, or int32 where a label is above 255"""


def prepare(case: VolumeCase, config: VolumeTrainConfig) -> Volume:
    """Read a case and bring it to the orientation, spacing and range of a run.

    Where the image's spacing is unknown its voxels are taken as they are, as a
    finished model takes them.

    Raises
    ------
    DatasetError
        If an image is no grey volume, or its label on another grid or without a class.
    GeometryError
        If the channels are.
    """
    image = read_channels(case.images)
    if image.ndim != AXES or image.rgb:
        got = "colours" if image.rgb else f"shape {image.spatial_shape}"
        msg = f"{case.images[0]}: expected a grey volume, got {got}"
        raise DatasetError(msg)
    label = numbered(read_labels(case.label, image), config.label_values, case.label)
    channels = (image.voxels, *image.channels)
    voxels = np.stack([channel.astype(np.float32) for channel in channels])
    affine = torch.from_numpy(np.asarray(image.affine, np.float64))
    sample = {
        "image": MetaTensor(torch.from_numpy(voxels), affine=affine),
        "label": MetaTensor(
            torch.from_numpy(label.astype(np.float32))[None], affine=affine
        ),
    }
    done: Any = _preparation(config, knows_spacing=image.units == "mm")(sample)
    fits = label.max() <= np.iinfo(np.uint8).max
    return Volume(
        case.name,
        done["image"].as_tensor().half(),
        done["label"].as_tensor().round().to(torch.uint8 if fits else torch.int32),
    )


def numbered(
    labels: npt.NDArray[Any], values: Sequence[int], path: Path
) -> npt.NDArray[Any]:
    """Return labels as 1, 2 and so on, in the order of their values.

    Parameters
    ----------
    labels : (I, J, K) integers
    values : sequence of int
        Those of the classes in a file, as MM-WHS's 500, 600, 420; without any the
        labels stay as they are.
    path : Path
        Of the file, for messages.

    Raises
    ------
    DatasetError
        If there are others, besides 0.
    """
    if not values:
        return labels
    strange = sorted(set(np.unique(labels).tolist()) - {0, *values})
    if strange:
        told = ", ".join(map(str, values))
        msg = (
            f"{path}: expected the labels 0, {told}, got {strange[0]}; name those of "
            "the classes, in their order, with --labels"
        )
        raise DatasetError(msg)
    numbers = np.zeros(labels.shape, np.int64)
    for number, value in enumerate(values, start=1):
        numbers[labels == value] = number
    return numbers


def _preparation(config: VolumeTrainConfig, *, knows_spacing: bool) -> Compose:
    """Return what is done once to a volume."""
    steps: list[Any] = [Orientationd(BOTH, axcodes=config.orientation, labels=None)]
    if any(config.spacing_mm) and knows_spacing:
        modes = ("bilinear", "nearest")
        steps.append(Spacingd(BOTH, pixdim=config.spacing_mm, mode=modes))
    if config.min_max:
        steps.append(ScaleIntensityd("image", minv=0.0, maxv=1.0))
    elif any(config.window):
        low, high = config.window
        steps.append(ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True))
    else:
        steps.append(NormalizeIntensityd("image", nonzero=True, channel_wise=True))
    if config.resized:
        modes = ("trilinear", "nearest")
        steps.append(Resized(BOTH, spatial_size=config.patch, mode=modes))
    return Compose(steps)


def augmentation(config: VolumeTrainConfig) -> Compose:
    """Return what is done at random to a prepared volume to get a patch.

    Its generator is set anew for each patch (``set_random_state``), so that a patch is
    the same whenever and wherever it is made.
    """
    change = config.intensity_change
    turns = [math.radians(degrees) for degrees in config.rotation_degrees]
    steps: list[Any] = [
        *([] if config.resized else _cropping(config)),
        *(RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in config.flip_axes),
        RandAffined(
            BOTH,
            prob=0.8,
            rotate_range=turns,
            scale_range=[config.zoom] * AXES,
            mode=("bilinear", "nearest"),
            padding_mode="zeros" if any(config.window) else "border",
        ),
        RandScaleIntensityd("image", factors=change, prob=0.5),
        RandShiftIntensityd("image", offsets=change, prob=0.5),
    ]
    return Compose(steps)


def _cropping(config: VolumeTrainConfig) -> list[Any]:
    """Return what cuts a patch out of a volume."""
    share = config.foreground_share
    return [
        CropForegroundd(BOTH, source_key="image", select_fn=_is_body(config)),
        SpatialPadd(BOTH, spatial_size=config.patch),
        RandCropByPosNegLabeld(
            BOTH, "label", config.patch, pos=share, neg=1 - share, num_samples=1
        ),
    ]


def _is_body(config: VolumeTrainConfig) -> Any:
    """Return what tells a voxel from the empty surroundings."""
    return _is_positive if any(config.window) else _is_there


def _is_positive(image: Tensor) -> Tensor:
    """Return whether a windowed voxel is above the window's lower end."""
    return image > 0


def _is_there(image: Tensor) -> Tensor:
    """Return whether a normalised voxel was not 0 before, where 0 is kept."""
    return image != 0


def patch_of(
    volume: Volume, transform: Compose, seed: int, regions: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Return a random patch and its labels, (channels, I, J, K) and (1 or N, I, J, K).

    Parameters
    ----------
    volume : Volume
    transform : Compose
        What `augmentation` returned.
    seed : int
        Of this patch.
    regions : sequence of sequences of int
        The labels of each overlapping class; none for classes that exclude.
    """
    transform.set_random_state(seed=seed % 2**32)
    sample = {"image": volume.image.float(), "label": volume.label.float()}
    done: Any = transform(sample)
    (patch,) = done if isinstance(done, list) else (done,)
    image, label = (_plain(patch[key]) for key in BOTH)
    return image, to_regions(label, regions)


def to_regions(label: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Return a mask for each region of labels, (N, ...); without any, the labels."""
    if not regions:
        return label
    masks = [torch.isin(label, torch.tensor(labels).float()) for labels in regions]
    return torch.cat(masks).float()


def _plain(patch: Any) -> Tensor:
    """Return a tensor without MONAI's metadata."""
    tensor: Tensor = patch.as_tensor() if isinstance(patch, MetaTensor) else patch
    return tensor.contiguous()
