"""What the tests of BiPVL-Seg share."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from functorch.einops import rearrange
from monai.networks.blocks import selfattention

from napari_medvlseg.core.training.bipvlseg.config import PRESETS_3D

if TYPE_CHECKING:
    from pathlib import Path


class _Rearrange(torch.nn.Module):
    """Torch's own rearrange as a layer."""

    def __init__(self, pattern: str, **sizes: int) -> None:
        super().__init__()
        self.pattern, self.sizes = pattern, sizes

    def forward(self, tokens: torch.Tensor) -> Any:
        return rearrange(tokens, self.pattern, **self.sizes)


@pytest.fixture(autouse=True)
def _monai_can_rearrange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MONAI's UNETR work where einops, which it asks for, is not yet installed."""
    if importlib.util.find_spec("einops") is None:
        monkeypatch.setattr(selfattention, "Rearrange", _Rearrange)


@pytest.fixture(scope="session")
def tiny_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four training and one validation volume with two blobs each."""
    root = tmp_path_factory.mktemp("volumes")
    generator = np.random.default_rng(0)
    for split, count in (("Tr", 4), ("Val", 1)):
        for index in range(count):
            voxels = generator.normal(100, 10, (30, 18, 16)).astype(np.float32)
            label = np.zeros(voxels.shape, np.uint8)
            label[4 : 12 + index, 4:14, 4:12] = 1
            label[18 : 26 - index, 4:14, 4:12] = 2
            voxels += 80.0 * label
            for kind, array in (("images", voxels), ("labels", label)):
                folder = root / f"{kind}{split}"
                folder.mkdir(exist_ok=True)
                nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{index}.nii.gz")
    return root


TINY = replace(
    PRESETS_3D["hippocampus-3d"],
    widths=(4, 4, 4, 8, 8),
    patch=(32, 16, 16),
    heads=2,
    key_side=2,
    epochs=2,
    validate_every=1,
    batch_size=2,
    precision="float32",
    average_decay=0.9,
)
