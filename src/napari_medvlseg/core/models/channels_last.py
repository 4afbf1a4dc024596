"""Networks whose volumes lie in memory voxel by voxel, all channels of one together.

Convolutions are quickest so. Torch's instance norm turns each volume round and back,
which in a U-Net takes longer than its convolutions; its group norm of one channel a
group does not, but in float32 is off by up to 2e-3 of a probability, as it sums
hundred thousands of voxels one by one, and differs with the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

SPACE = (1, 2, 3)


class InstanceNormLast(nn.Module):
    """Instance norm that leaves the channels last; its numbers are those of `norm`."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight: nn.Parameter | None = norm.weight if norm.affine else None
        self.bias: nn.Parameter | None = norm.bias if norm.affine else None

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, i, j, k) to the same shape."""
        if volume.dtype != torch.float32:  # coarser than what group norm loses
            channels = volume.shape[1]
            return functional.group_norm(
                volume, channels, self.weight, self.bias, self.eps
            )
        voxels = volume.permute(0, 2, 3, 4, 1)  # (B, i, j, k, C)
        centred = voxels - voxels.mean(dim=SPACE, keepdim=True)
        variance = centred.square().mean(dim=SPACE, keepdim=True)
        scale = (variance + self.eps).rsqrt()
        if self.weight is None or self.bias is None:
            normed = centred * scale
        else:
            normed = torch.addcmul(self.bias, centred, scale * self.weight)
        return normed.permute(0, 4, 1, 2, 3)


def put_channels_last(network: nn.Module) -> None:
    """Lay out a network's weights so, and replace its instance norms."""
    _replace_norms(network)
    network.to(memory_format=torch.channels_last_3d)


def _replace_norms(module: nn.Module) -> None:
    """Replace the instance norms that are not of running statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm3d) and not child.track_running_stats:
            setattr(module, name, InstanceNormLast(child))
        else:
            _replace_norms(child)
