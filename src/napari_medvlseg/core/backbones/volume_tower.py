"""M3D-CLIP's image tower: a ViT whose patches are boxes of a volume.

Symbols: B batch, T image tokens ([CLS] first), D channels, E shared channels, i x j x k
patches of p voxels each.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from napari_medvlseg.core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.backbones.tower_shapes import VisionShape

AXES = 3


class VolumeVision(nn.Module):
    """A 3D ViT of one channel: exact GELU, no bias of queries, keys and values.

    References
    ----------
    Bai et al., M3D: Advancing 3D Medical Image Analysis with Multi-Modal Large Language
    Models, 2024.
    """

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        if len(shape.image) != AXES:
            msg = f"expected an image_size of three sides, got {shape.image_size}"
            raise ValueError(msg)
        width = shape.width
        self.size, self.patch = shape.image, shape.patch
        self.patch_embed = nn.Linear(prod(shape.patch), width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, prod(shape.grid), width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, shape.heads, mlp_ratio=4, norm_layer=nn.LayerNorm)
            for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.embed_dim)

    def embed(self, voxels: Tensor) -> Tensor:
        """(B, 1, I, J, K) to the tokens before block 0, (B, T, D).

        Raises
        ------
        ImageError
            If the volume is not of the tower's size.
        """
        if tuple(voxels.shape[1:]) != (1, *self.size):
            msg = (
                f"expected volumes of one channel and {self.size} voxels, got "
                f"{tuple(voxels.shape[1:])}; resize them or cut them into windows"
            )
            raise ImageError(msg)
        patches = self.patch_embed(boxes_of(voxels, self.patch)) + self.pos_embed
        first = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1)

    def early(self, blocks: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of `embed` and of the first blocks."""
        yield from (self.cls_token, self.pos_embed)
        for part in (self.patch_embed, *self.blocks[:blocks]):
            yield from part.parameters()

    def run(self, index: int, tokens: Tensor) -> Tensor:
        """Run one block, (B, T, D) to the same shape."""
        mixed: Tensor = self.blocks[index](tokens)
        return mixed

    def project(self, tokens: Tensor) -> Tensor:
        """Bring the tokens of the last block into the shared space, (B, T, E)."""
        projected: Tensor = self.head(self.norm(tokens))
        return projected


def boxes_of(voxels: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Cut volumes into boxes, (B, 1, I, J, K) to (B, i j k, p).

    The last axis varies fastest, of the boxes and of the voxels in one.
    """
    cut = voxels[:, 0]
    for axis, side in enumerate(patch):
        cut = cut.unflatten(1 + 2 * axis, (-1, side))
    return cut.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
