"""What a network says of a whole volume, on the grid of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.inferers.utils import sliding_window_inference

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_medvlseg.core.training.bipvlseg.data import Volume
    from napari_medvlseg.core.training.volumes.config import VolumeTrainConfig

OVERLAP = 0.5


def volume_logits(
    ask: Callable[[Tensor], Tensor],
    volume: Volume,
    config: VolumeTrainConfig,
    device: torch.device,
    at_once: int = 1,
) -> Tensor:
    """Return the logits of a volume, (C, I, J, K), in float32 on the CPU.

    Windows are as large as training patches, overlap by half and are blended by a
    Gaussian.

    Parameters
    ----------
    ask : callable
        Windows (B, channels, *patch) to logits (B, C, *patch).
    volume : Volume
    config : VolumeTrainConfig
    device : torch.device
    at_once : int
        Windows in one call.
    """
    light = config.precision == "bfloat16" and device.type != "cpu"

    def logits_of(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=light):
            logits = ask(windows)
        return logits.float()

    with torch.inference_mode():
        logits = sliding_window_inference(
            volume.image[None].float().to(device),
            config.patch,
            at_once,
            logits_of,
            overlap=OVERLAP,
            mode="gaussian",
        )
    answer: Tensor = torch.as_tensor(logits)[0].cpu()
    return answer
