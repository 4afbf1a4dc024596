"""MedCLIPSeg in a size that a test can afford, with random weights."""

from __future__ import annotations

from typing import Any

import torch

from napari_medvlseg.core.backbones.tower_shapes import TextShape, VisionShape
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig

SIDE, GRID, TOKENS = 32, 4, 12
VISION = VisionShape(
    width=32, layers=4, heads=2, patch_size=8, image_size=SIDE, embed_dim=16
)
TEXT = TextShape(
    width=24, layers=4, heads=2, vocabulary=64, max_tokens=TOKENS, embed_dim=16
)


def tiny_config(variant: str = "unimedclip", **choices: Any) -> MedCLIPSegConfig:
    """Return a configuration of four thin layers."""
    given = {"layers": (1, 2), "adapter_dim": 8, "vision": VISION, "text": TEXT}
    return MedCLIPSegConfig(variant=variant, **{**given, **choices})


def tiny_network(variant: str = "unimedclip", **choices: Any) -> MedCLIPSeg:
    """Return a network whose random weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = MedCLIPSeg(tiny_config(variant, **choices))
    for parameter in network.text_model.parameters():
        parameter.data *= 5  # the towers start so small that words say nothing
    return network.eval().requires_grad_(requires_grad=False)


def tiny_image(seed: int = 1) -> torch.Tensor:
    """Return normalised pixels (1, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, SIDE, SIDE, generator=generator)


def tiny_ids(*pieces: int) -> torch.Tensor:
    """Return the padded ids of a prompt (1, 12), which ends in the largest id."""
    ids = [2, *(pieces or (7, 9, 11)), 63]
    return torch.tensor([ids + [0] * (TOKENS - len(ids))])
