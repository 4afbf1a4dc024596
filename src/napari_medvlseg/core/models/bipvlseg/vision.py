"""MONAI's segmentation networks, cut into a stem, four stages and a decoder.

Run one after the other without fusion between them they are MONAI's networks, weight
for weight. Symbols: B batch, C channels of a stage, I x J x K voxels of the image.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import torch
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import SwinUNETR, compute_mask, get_window_size
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.models.bipvlseg.config import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig

VIT_STAGES = ((0, 4), (4, 7), (7, 10), (10, 12))
"""Blocks of UNETR's transformer: its skips leave after the 4th, 7th and 10th."""


class StagedVision(Protocol):
    """An encoder-decoder whose encoder is walked stage by stage."""

    stage_channels: tuple[int, ...]
    """C after each of the four stages."""
    divisor: tuple[int, ...]
    """Of which the image's sides must be multiples."""

    def stem(self, image: Tensor) -> Tensor:
        """Return what enters the first stage."""
        ...

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Return the features after stage 0, 1, 2 or 3: (B, C, i, j, k)."""
        ...

    def early(self, image: Tensor, stem: Tensor) -> tuple[Tensor, ...]:
        """Return what the decoder makes of image and stem, whatever the features."""
        ...

    def decode(self, early: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, channels, I, J, K) from the four stages' features."""
        ...


class StagedSwinUNETR(nn.Module):
    """Swin UNETR, v1 or v2: its stages end at strides 4, 8, 16 and 32."""

    def __init__(self, config: BiPVLConfig) -> None:
        super().__init__()
        width = config.widths[0]
        with torch.device("cpu"):  # it reads numbers from tensors, as meta's have none
            self.network: Any = SwinUNETR(
                in_channels=config.channels,
                out_channels=config.output_channels,
                feature_size=width,
                use_v2=config.vision == "swin-unetr-v2",
            )
        self.stage_channels = config.stage_channels
        self.divisor = config.patch_steps

    def stem(self, image: Tensor) -> Tensor:
        """Cut patches of 2 voxels a side and embed them: (B, width, I/2, J/2, K/2)."""
        swin = self.network.swinViT
        patches: Tensor = swin.pos_drop(swin.patch_embed(image))
        return patches

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Run a stage's blocks (v2: a convolution first) and halve the sides."""
        swin = self.network.swinViT
        if swin.use_v2:
            features = getattr(swin, f"layers{index + 1}c")[0](features.contiguous())
        layer = getattr(swin, f"layers{index + 1}")[0]
        mask = _shift_mask(tuple(features.shape[2:]), layer.window_size)
        mask = mask.to(features.device)
        tokens = features.permute(0, 2, 3, 4, 1).contiguous()  # (B, i, j, k, C)
        for block in layer.blocks:
            tokens = block(tokens, mask)
        halved: Tensor = layer.downsample(tokens).permute(0, 4, 1, 2, 3)
        return halved

    def early(self, image: Tensor, stem: Tensor) -> tuple[Tensor, ...]:
        """Convolve the image and the stem, at strides 1 and 2."""
        net = self.network
        return net.encoder1(image), net.encoder2(_normalised(stem))

    def decode(self, early: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Climb from stride 32 to 1."""
        net = self.network
        skips = [_normalised(x) for x in features]
        climbed = net.decoder5(net.encoder10(skips[3]), skips[2])
        climbed = net.decoder4(climbed, net.encoder4(skips[1]))
        climbed = net.decoder3(climbed, net.encoder3(skips[0]))
        climbed = net.decoder2(climbed, early[1])
        logits: Tensor = net.out(net.decoder1(climbed, early[0]))
        return logits


class StagedUNETR(nn.Module):
    """UNETR: twelve transformer blocks at stride 16, cut where its skips leave."""

    def __init__(self, config: BiPVLConfig) -> None:
        super().__init__()
        width, hidden = config.widths
        self.network: Any = UNETR(
            in_channels=config.channels,
            out_channels=config.output_channels,
            img_size=config.patch,
            feature_size=width,
            hidden_size=hidden,
            mlp_dim=4 * hidden,
            num_heads=12,
        )
        self.stage_channels = config.stage_channels
        self.divisor = config.patch

    def stem(self, image: Tensor) -> Tensor:
        """Embed patches of 16 voxels a side: (B, hidden, I/16, J/16, K/16)."""
        return self._as_volume(self.network.vit.patch_embedding(image))

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Run the blocks of a stage, after the last also the transformer's norm."""
        vit = self.network.vit
        tokens = features.flatten(2).transpose(1, 2)
        for block in vit.blocks[slice(*VIT_STAGES[index])]:
            tokens = block(tokens)
        return self._as_volume(vit.norm(tokens) if index == STAGES - 1 else tokens)

    def early(self, image: Tensor, stem: Tensor) -> tuple[Tensor, ...]:
        """Convolve the image itself: UNETR's finest skip."""
        del stem
        return (self.network.encoder1(image),)

    def decode(self, early: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Climb from stride 16 to 1."""
        net = self.network
        climbed = net.decoder5(features[3], net.encoder4(features[2]))
        climbed = net.decoder4(climbed, net.encoder3(features[1]))
        climbed = net.decoder3(climbed, net.encoder2(features[0]))
        logits: Tensor = net.out(net.decoder2(climbed, early[0]))
        return logits

    def _as_volume(self, tokens: Tensor) -> Tensor:
        """(B, T, hidden) to (B, hidden, i, j, k)."""
        grid: tuple[int, ...] = self.network.feat_size
        volume: Tensor = tokens.transpose(1, 2).unflatten(2, grid)
        return volume


class StagedUNet(nn.Module):
    """A U-Net (MONAI's DynUNet) of five levels with strides of their own."""

    def __init__(self, config: BiPVLConfig) -> None:
        super().__init__()
        strides = list(config.strides)
        around = pairwise([(1, 1, 1), *strides, (2, 2, 2)])
        self.network: Any = DynUNet(
            spatial_dims=3,
            in_channels=config.channels,
            out_channels=config.output_channels,
            kernel_size=[_kernel(into, out_of) for into, out_of in around],
            strides=[1, *strides],
            upsample_kernel_size=strides,
            filters=list(config.widths),
        )
        del self.network.skip_layers  # names the same layers a second time
        self.stage_channels = config.stage_channels
        self.divisor = config.patch_steps

    def stem(self, image: Tensor) -> Tensor:
        """Convolve at full resolution."""
        features: Tensor = self.network.input_block(image)
        return features

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Convolve by the stride of a stage."""
        downward = [*self.network.downsamples, self.network.bottleneck]
        reduced: Tensor = downward[index](features)
        return reduced

    def early(self, image: Tensor, stem: Tensor) -> tuple[Tensor, ...]:
        """Convolve the stem as the last step of the decoder does."""
        del image
        conv = self.network.upsamples[-1].conv_block.conv1.conv
        return (_convolve(conv, stem, slice(-stem.shape[1], None)),)

    def decode(self, early: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Climb back to full resolution."""
        climbed = features[-1]
        *upsamples, last = self.network.upsamples
        for upsample, skip in zip(upsamples, reversed(features[:-1]), strict=True):
            climbed = upsample(climbed, skip)
        # A convolution of two volumes side by side is the sum of one of each.
        climbed, block = last.transp_conv(climbed), last.conv_block
        own = slice(climbed.shape[1])
        climbed = early[0] + _convolve(block.conv1.conv, climbed, own)
        climbed = block.conv2(block.lrelu(block.norm1(climbed)))
        logits: Tensor = self.network.output_block(block.lrelu(block.norm2(climbed)))
        return logits


class StagedUNetPlusPlus(nn.Module):
    """UNet++: every skip passes nested convolutions on its way."""

    def __init__(self, config: BiPVLConfig) -> None:
        super().__init__()
        self.network: Any = BasicUNetPlusPlus(
            in_channels=config.channels,
            out_channels=config.output_channels,
            features=config.widths,
        )
        for depth in (1, 2, 3):  # the heads of deep supervision, which it lacks
            delattr(self.network, f"final_conv_0_{depth}")
        self.stage_channels = config.stage_channels
        self.divisor = config.patch_steps

    def stem(self, image: Tensor) -> Tensor:
        """Convolve at full resolution."""
        features: Tensor = self.network.conv_0_0(image)
        return features

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Halve the sides by their maxima, and convolve."""
        reduced: Tensor = getattr(self.network, f"conv_{index + 1}_0")(features)
        return reduced

    def early(self, image: Tensor, stem: Tensor) -> tuple[Tensor, ...]:
        """Return the stem, which the nodes of the first row see as it is."""
        del image
        return (stem,)

    def decode(self, early: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Fill the triangle of nested nodes, column by column."""
        net = self.network
        rows = [[level] for level in (*early, *features)]
        for column in range(1, STAGES + 1):
            for row in range(STAGES + 1 - column):
                node = getattr(net, f"upcat_{row}_{column}")
                rows[row].append(node(rows[row + 1][-1], torch.cat(rows[row], dim=1)))
        logits: Tensor = net.final_conv_0_4(rows[0][-1])
        return logits


_BUILDERS: dict[str, Callable[[BiPVLConfig], Any]] = {
    "swin-unetr": StagedSwinUNETR,
    "swin-unetr-v2": StagedSwinUNETR,
    "unetr": StagedUNETR,
    "unet": StagedUNet,
    "unet++": StagedUNetPlusPlus,
}


def build_vision(config: BiPVLConfig) -> StagedVision:
    """Return the vision model of a configuration, which is a module too."""
    built: StagedVision = _BUILDERS[config.vision](config)
    return built


def _kernel(into: Sequence[int], out_of: Sequence[int]) -> list[int]:
    """Return a level's kernel: 1 along axes that no stride around it shortens."""
    return [3 if max(steps) > 1 else 1 for steps in zip(into, out_of, strict=True)]


def _convolve(conv: nn.Conv3d, volume: Tensor, channels: slice) -> Tensor:
    """Apply the part of a convolution, which has no bias, that sees some channels."""
    return functional.conv3d(
        volume, conv.weight[:, channels], stride=conv.stride, padding=conv.padding
    )


def _normalised(features: Tensor) -> Tensor:
    """Layer-normalise the channels of (B, C, i, j, k), without gain."""
    tokens = features.permute(0, 2, 3, 4, 1)
    return functional.layer_norm(tokens, tokens.shape[-1:]).permute(0, 4, 1, 2, 3)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept must serve training too
def _shift_mask(size: tuple[int, ...], window: tuple[int, ...]) -> Tensor:
    """Return which voxels of a shifted window are neighbours, as MONAI computes it.

    MONAI computes it anew in every pass, and asks einops, which we do not need, to
    turn the axes.
    """
    sides, shift = get_window_size(size, window, tuple(side // 2 for side in window))
    padded = [-(-axis // side) * side for axis, side in zip(size, sides, strict=True)]
    mask: Tensor = compute_mask(padded, sides, shift, torch.device("cpu"))
    return mask
