"""Make convolutions with batch normalisation quicker to train on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def fold_statistics(model: nn.Module) -> None:
    """Keep the statistics of batch normalisation and fold it into the convolutions.

    Its gains and offsets are still trained, as part of the convolution's weights: no
    pass over the pixels normalises them, which is a third of a step's time, and
    batches may be small. The state dict stays as it is.

    Parameters
    ----------
    model : nn.Module
        Its batch normalisations must know their statistics, from an earlier training.
    """
    for convolution, norm in _pairs(model):
        folded = _folded(convolution, norm)
        convolution.forward = folded  # type: ignore[method-assign,assignment]
        activation = getattr(norm, "act", nn.Identity())
        # Not the module itself: that would be taken for a part of the network.
        norm.forward = activation.forward


def depthwise_in_float32(model: nn.Module) -> None:
    """Keep depthwise convolutions in float32: bfloat16 slows their backward pass."""

    def in_float32(convolution: nn.Conv2d) -> None:
        original = convolution.forward

        def forward(pixels: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return original(pixels.float())

        convolution.forward = forward  # type: ignore[method-assign,assignment]

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            in_float32(module)


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, Any]]:
    """Yield each batch normalisation with the convolution before it."""
    for module in model.modules():
        before: nn.Module | None = None
        for child in module.children():
            if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                yield before, child
            if isinstance(child, (nn.Conv2d, nn.BatchNorm2d)):
                before = child


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """Return convolution and normalisation in one."""
    # timm pads some convolutions in their forward pass, as TensorFlow does.
    pads = "Same" in type(convolution).__name__
    padding: Any = 0 if pads else convolution.padding

    def forward(pixels: Tensor) -> Tensor:
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            msg = "expected batch normalisation with statistics, got one without"
            raise ValueError(msg)
        gain = norm.weight * (variance + norm.eps).rsqrt()
        if pads:
            kernel, stride = list(convolution.kernel_size), list(convolution.stride)
            pixels = pad_same(pixels, kernel, stride)
        return functional.conv2d(
            pixels,
            convolution.weight * gain[:, None, None, None],
            norm.bias - mean * gain,
            convolution.stride,
            padding,
            convolution.dilation,
            convolution.groups,
        )

    return forward
