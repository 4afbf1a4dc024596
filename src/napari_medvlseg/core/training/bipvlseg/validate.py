"""How well the classes of the validation volumes are found, on the run's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.training.bipvlseg.data import to_regions
from napari_medvlseg.core.training.volumes.validate import volume_logits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg, Descriptions
    from napari_medvlseg.core.training.bipvlseg.config import BiPVLTrainConfig
    from napari_medvlseg.core.training.bipvlseg.data import Volume

WINDOWS = 4
"""Computed at once."""


def class_dsc(
    network: BiPVLSeg,
    texts: Descriptions | None,
    volumes: Sequence[Volume],
    names: Sequence[str],
    config: BiPVLTrainConfig,
) -> dict[str, float]:
    """Return the mean DSC of each class over volumes, without noise.

    Windows are as large as training patches, overlap by half and are blended by a
    Gaussian.

    Parameters
    ----------
    network : BiPVLSeg
    texts : Descriptions, optional
        None for the text-free twin.
    volumes : sequence of Volume
    names : sequence of str
        Of the classes.
    config : BiPVLTrainConfig
    """
    scores = [case_dsc(network, texts, volume, config) for volume in volumes]
    return {
        name: sum(each[index] for each in scores) / len(scores)
        for index, name in enumerate(names)
    }


def case_dsc(
    network: BiPVLSeg,
    texts: Descriptions | None,
    volume: Volume,
    config: BiPVLTrainConfig,
) -> list[float]:
    """Return the DSC of each class of one volume."""
    device = next(network.parameters()).device

    def ask(windows: Tensor) -> Tensor:
        logits: Tensor = network(windows, texts, zero_noise).logits
        return logits

    network.eval()
    answer = volume_logits(ask, volume, config, device, WINDOWS)
    regions = config.label_regions
    found = answer > 0 if regions else answer.argmax(dim=0)[None]
    classes = network.config.classes
    if regions:
        there = to_regions(volume.label.float(), regions) > 0
        pairs = [(found[n], there[n]) for n in range(classes)]
    else:
        pairs = [(found[0] == n, volume.label[0] == n) for n in range(1, classes + 1)]
    return [
        dice_similarity_coefficient(mask.numpy(), reference.numpy())
        for mask, reference in pairs
    ]
