"""A 3D MedCLIPSeg in a size that a test can afford, with random weights."""

from __future__ import annotations

from typing import Any

import torch

from napari_medvlseg.core.backbones.tower_shapes import TextShape, VisionShape
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig

SIZE, PATCH, GRID = (4, 16, 8), (2, 4, 4), (2, 4, 2)
"""No two axes are alike."""
VISION = VisionShape(
    width=24, layers=4, heads=2, patch_size=PATCH, image_size=SIZE, embed_dim=16
)
TEXT = TextShape(
    width=24, layers=4, heads=2, vocabulary=30522, max_tokens=12, embed_dim=16
)


def tiny_volume_config(**choices: Any) -> MedCLIPSegConfig:
    """Return a configuration of four thin layers, read as the paper reads."""
    given = {"layers": (1, 2), "adapter_dim": 8, "vision": VISION, "text": TEXT}
    return MedCLIPSegConfig(
        variant="m3dclip", **{**given, "compatible": False, **choices}
    )


def tiny_volume_network(**choices: Any) -> MedCLIPSeg:
    """Return a network whose random weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = MedCLIPSeg(tiny_volume_config(**choices))
    for parameter in network.text_model.parameters():
        parameter.data *= 5  # the towers start so small that words say nothing
    return network.eval().requires_grad_(requires_grad=False)


def tiny_volume(seed: int = 1, count: int = 1) -> torch.Tensor:
    """Return voxels as the tower takes them, (B, 1, 4, 16, 8)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, *SIZE, generator=generator)


def tiny_words(*pieces: int) -> torch.Tensor:
    """Return the ids of a prompt, (1, L)."""
    return torch.tensor([[101, *(pieces or (7, 9, 11)), 102]])
