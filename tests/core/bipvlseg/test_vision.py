"""Stage by stage the vision models are MONAI's, weight for weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from functorch.einops import rearrange
from monai.networks.nets import swin_unetr
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unetr import UNETR

from napari_medvlseg.core.models.bipvlseg.config import STAGES, BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.vision import build_vision

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: dict[str, dict[str, Any]] = {
    "swin-unetr": {"widths": (12,), "patch": (64, 64, 32)},
    "swin-unetr-v2": {"widths": (12,), "patch": (32, 32, 64)},
    "unetr": {"widths": (4, 24), "patch": (32, 32, 16)},
    "unet": {
        "widths": (4, 6, 8, 10, 12),
        "strides": ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)),
        "patch": (32, 32, 8),
    },
    "unet++": {"widths": (4, 4, 8, 16, 32, 4), "patch": (32, 32, 16)},
}
DIVISORS = {
    "swin-unetr": (32, 32, 32),
    "swin-unetr-v2": (32, 32, 32),
    "unetr": (32, 32, 16),
    "unet": (16, 16, 4),
    "unet++": (16, 16, 16),
}
MONAI: dict[str, Callable[[], torch.nn.Module]] = {
    "swin-unetr": lambda: SwinUNETR(2, 3, feature_size=12),
    "swin-unetr-v2": lambda: SwinUNETR(2, 3, feature_size=12, use_v2=True),
    "unetr": lambda: UNETR(
        2, 3, (32, 32, 16), feature_size=4, hidden_size=24, mlp_dim=96
    ),
    "unet": lambda: DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=3,
        kernel_size=[[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides=[1, [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]],
        upsample_kernel_size=[[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]],
        filters=[4, 6, 8, 10, 12],
    ),
    "unet++": lambda: BasicUNetPlusPlus(
        in_channels=2, out_channels=3, features=(4, 4, 8, 16, 32, 4)
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_without_fusion_the_stages_are_monais_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swin_unetr, "rearrange", rearrange)
    config = BiPVLConfig(classes=2, channels=2, vision=name, text="none", **SMALL[name])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        ours: Any = build_vision(config)
        ours.eval()
        theirs = MONAI[name]().eval()
    told = theirs.load_state_dict(ours.network.state_dict(), strict=False)
    assert told.unexpected_keys == []
    again = ("skip_layers", "final_conv_0_")  # a second name, an unused head
    assert [key for key in told.missing_keys if not key.startswith(again)] == []
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 2, *config.patch, generator=generator)
    with torch.inference_mode():
        expected = theirs(image)
        stem = features = ours.stem(image)
        skips = []
        for index in range(STAGES):
            features = ours.stage(index, features)
            assert features.shape[1] == ours.stage_channels[index]
            skips.append(features)
        logits = ours.decode(ours.early(image, stem), skips)
    expected = expected[0] if isinstance(expected, list) else expected
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert ours.divisor == DIVISORS[name]


@pytest.mark.parametrize("name", SMALL)
def test_what_a_stage_is_given_reaches_the_logits_by_its_own_skip(name: str) -> None:
    """Only then does text that changes a stage's features reach the decoder."""
    config = BiPVLConfig(classes=2, channels=2, vision=name, text="none", **SMALL[name])
    vision = build_vision(config)
    stem = features = vision.stem(torch.rand(1, 2, *config.patch))
    skips = []
    for index in range(STAGES):
        features = vision.stage(index, features)
        skips.append(features.detach().requires_grad_())
    early = vision.early(torch.rand(1, 2, *config.patch), stem.detach())
    logits = vision.decode(early, skips)
    weight = torch.rand(logits.shape)
    grads = torch.autograd.grad((weight * logits).sum(), skips)
    assert [float(grad.abs().max()) > 0 for grad in grads] == [True] * STAGES
