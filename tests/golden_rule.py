"""Weights, images and noise by rule, to compare MedCLIPSeg with published numbers.

The rule is told in the README of the golden numbers. `MEDVLSEG_GOLDEN` names their
folder, `MEDVLSEG_GOLDEN_SEED` the seed they were made with.
"""

from __future__ import annotations

import functools
import math
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig

if TYPE_CHECKING:
    import numpy.typing as npt

SEED = int(os.environ.get("MEDVLSEG_GOLDEN_SEED", "0"))
EMBEDDINGS = ("embedding", "pos_embed", "cls_token")


def golden_folder() -> Path:
    """Return where the golden numbers are: beside the labelled images by default."""
    return Path(os.environ.get("MEDVLSEG_GOLDEN", data_folder().parent / "golden"))


def golden_network(config: MedCLIPSegConfig) -> MedCLIPSeg:
    """Return the network with the weights of the rule, without drawing others first."""
    with torch.device("meta"):
        network = MedCLIPSeg(config)
    state = {
        key: golden_weight(_seeded(key), tuple(value.shape))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def golden_image() -> torch.Tensor:
    """Return (1, 3, 224, 224), already normalised."""
    return torch.from_numpy(_normal((SEED, 1), (1, 3, 224, 224)).astype(np.float32))


class GoldenNoise:
    """The noise of one Monte Carlo pass, draw by draw."""

    def __init__(self, run: int) -> None:
        self.run, self.drawn = run, 0

    def __call__(self, shape: tuple[int, ...]) -> torch.Tensor:
        noise = _normal((SEED, 3, self.run, self.drawn), shape)
        self.drawn += 1
        return torch.from_numpy(noise.astype(np.float32))


def _normal(seed: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return np.random.default_rng(list(seed)).standard_normal(shape)


def _seeded(key: str) -> str:
    """Return the name that seeds a tensor: one has no alias under our own."""
    if key == "text_model.token_embedding.weight":
        return "clip_model.token_embedding.weight"
    return key


@functools.cache
def golden_weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a weight; the variants share many, and drawing them takes long."""
    if key == "logit_scale":
        return torch.tensor(2.6592)
    z = _normal((SEED, zlib.crc32(key.encode())), shape)
    if key.endswith("gate"):
        z *= 0.3
    elif len(shape) < 2 and key.endswith("weight"):
        z = 1 + 0.1 * z
    elif len(shape) == 1 or any(word in key for word in EMBEDDINGS):
        z *= 0.02
    else:
        z /= math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(z, np.float32))
