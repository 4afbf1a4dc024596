"""Batch normalisation by the statistics of all processes' rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_medvlseg.core.training.processes import Processes


def share_statistics(model: nn.Module, processes: Processes) -> None:
    """Normalise by the statistics of all processes' rows, on any device.

    Torch's own `SyncBatchNorm` wants a GPU. State dicts stay as they are.

    Parameters
    ----------
    model : nn.Module
        Normalisations that were folded into convolutions are left alone.
    processes : Processes
        That may have different numbers of rows.
    """
    if processes.count == 1:
        return
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and "forward" not in vars(norm):
            norm.forward = _shared(norm, processes)  # type: ignore[method-assign,assignment]


def _shared(norm: Any, processes: Processes) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a normalisation that sees all rows."""
    alone, activation = norm.forward, getattr(norm, "act", nn.Identity())

    def forward(pixels: Tensor) -> Tensor:
        if not norm.training:
            kept: Tensor = alone(pixels)
            return kept
        with torch.autocast(pixels.device.type, enabled=False):
            exact = pixels.float()
            count, mean, variance = _moments(exact, processes)
            with torch.no_grad():
                norm.num_batches_tracked.add_(1)
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
            gain = norm.weight * (variance + norm.eps).rsqrt()
            normed = (exact - mean[:, None, None]) * gain[:, None, None]
            normed = normed + norm.bias[:, None, None]
        answer: Tensor = activation(normed.to(pixels.dtype))
        return answer

    return forward


def _moments(pixels: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many values a channel has in all processes, their mean and variance.

    Parameters
    ----------
    pixels : (B, D, H, W)
    processes : Processes

    Returns
    -------
    count : (1,)
    mean, variance : (D,)
    """
    count = pixels.new_full((1,), pixels.numel() / pixels.shape[1])
    mean = pixels.mean(dim=(0, 2, 3))
    variance = pixels.var(dim=(0, 2, 3), unbiased=False)
    every = processes.stack(torch.cat([count, mean, variance]))
    counts, means, variances = every.tensor_split((1, 1 + len(mean)), dim=1)
    total = counts.sum(dim=0)
    share = counts / total
    middle = (share * means).sum(dim=0)
    spread = (share * (variances + (means - middle).square())).sum(dim=0)
    return total, middle, spread
