"""What the tests of BiPVL-Seg share."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from functorch.einops import rearrange
from monai.networks.blocks import selfattention


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
