"""The image and text towers of four CLIPs, cut into steps behind one interface.

A tower embeds its input, runs one block at a time, so that adapters can stand between
them, and projects what comes out into the space that both share. Modules come from
open_clip, timm and transformers; parameters keep the names of the published weights.

Symbols: B batch, T image tokens ([CLS] first), L text tokens, D channels, E shared
channels.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import timm
import torch
from open_clip.transformer import QuickGELU, Transformer, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.backbones.tower_shapes import TextShape, VisionShape


class OpenClipVision(VisionTransformer):  # type: ignore[misc]  # open_clip has no types
    """OpenAI's ViT: QuickGELU, a norm before the blocks, no bias of the patches."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__(
            shape.image[-1],
            shape.patch[-1],
            shape.width,
            shape.layers,
            shape.heads,
            mlp_ratio=4.0,
            output_dim=shape.embed_dim,
            act_layer=QuickGELU,
        )
        if shape.stem:
            self.conv1 = _stem(shape.stem, shape.width)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to the tokens before block 0, (B, T, D)."""
        patches = self.conv1(pixels).flatten(2).mT
        first = self.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding
        normalised: Tensor = self.ln_pre(tokens)
        return normalised

    def early(self, blocks: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of `embed` and of the first blocks."""
        yield from (self.class_embedding, self.positional_embedding)
        for part in (self.conv1, self.ln_pre, *self.transformer.resblocks[:blocks]):
            yield from part.parameters()

    def run(self, index: int, tokens: Tensor) -> Tensor:
        """Run one block, (B, T, D) to the same shape."""
        return _run_block(self.transformer.resblocks[index], tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Bring the tokens of the last block into the shared space, (B, T, E)."""
        projected: Tensor = self.ln_post(tokens) @ self.proj
        return projected

    def values(self, tokens: Tensor) -> Tensor:
        """Bring what the last block's attention would carry into the shared space.

        The value of every token, neither mixed with others nor added to the token
        (Zhou et al., Extract Free Dense Labels from CLIP, 2022).

        Parameters
        ----------
        tokens : (B, T, D)
            Before the last block.

        Returns
        -------
        (B, T, E)
        """
        block: Any = self.transformer.resblocks[-1]
        attention, width = block.attn, tokens.shape[-1]
        value = functional.linear(
            block.ln_1(tokens),
            attention.in_proj_weight[2 * width :],
            attention.in_proj_bias[2 * width :],
        )
        return self.project(attention.out_proj(value))


class TimmVision(nn.Module):
    """timm's ViT, as BiomedCLIP has it: exact GELU, no norm before the blocks."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.trunk: Any = timm.create_model(
            "vit_base_patch16_224",
            pretrained=False,
            num_classes=0,
            img_size=shape.image_size,
            patch_size=shape.patch_size,
            embed_dim=shape.width,
            depth=shape.layers,
            num_heads=shape.heads,
        )
        project = nn.Linear(shape.width, shape.embed_dim, bias=False)
        self.head = nn.Sequential(OrderedDict(proj=project))

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to the tokens before block 0, (B, T, D)."""
        trunk = self.trunk
        patches = trunk.patch_embed(pixels)
        first = trunk.cls_token.expand(len(patches), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + trunk.pos_embed
        normalised: Tensor = trunk.norm_pre(tokens)
        return normalised

    def early(self, blocks: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of `embed` and of the first blocks."""
        trunk = self.trunk
        yield from (trunk.cls_token, trunk.pos_embed)
        for part in (trunk.patch_embed, trunk.norm_pre, *trunk.blocks[:blocks]):
            yield from part.parameters()

    def run(self, index: int, tokens: Tensor) -> Tensor:
        """Run one block, (B, T, D) to the same shape."""
        mixed: Tensor = self.trunk.blocks[index](tokens)
        return mixed

    def project(self, tokens: Tensor) -> Tensor:
        """Bring the tokens of the last block into the shared space, (B, T, E)."""
        projected: Tensor = self.head(self.trunk.norm(tokens))
        return projected


class BertText(nn.Module):
    """BERT and an MLP; its first token, [CLS], stands for the text.

    Parameters
    ----------
    shape : TextShape
    linear : bool
        Whether the MLP is a single linear layer, as M3D-CLIP has it.
    """

    def __init__(self, shape: TextShape, *, linear: bool = False) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            max_position_embeddings=max(512, shape.max_tokens),
        )
        self.transformer: Any = BertModel(config, add_pooling_layer=False)
        embeddings = self.transformer.embeddings
        del embeddings.position_ids, embeddings.token_type_ids  # given at each call
        hidden = (shape.width + shape.embed_dim) // 2
        self.proj: nn.Module = nn.Sequential(
            nn.Linear(shape.width, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, shape.embed_dim, bias=False),
        )
        if linear:
            self.proj = nn.Linear(shape.width, shape.embed_dim)

    def mask(self, ids: Tensor) -> Tensor:
        """Return where (B, L) holds word pieces, not padding (id 0)."""
        return ids != 0

    def embed(self, ids: Tensor) -> Tensor:
        """(B, L) to the tokens before layer 0, (B, L, D)."""
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        tokens: Tensor = self.transformer.embeddings(
            input_ids=ids, position_ids=places, token_type_ids=torch.zeros_like(ids)
        )
        return tokens

    def early(self, layers: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of `embed` and of the first layers."""
        bert = self.transformer
        for part in (bert.embeddings, *bert.encoder.layer[:layers]):
            yield from part.parameters()

    def run(self, index: int, tokens: Tensor, mask: Tensor) -> Tensor:
        """Run one layer, (B, L, D) to the same shape; none looks at padding."""
        layer = self.transformer.encoder.layer[index]
        found = layer(tokens, mask[:, None, None, :])
        mixed: Tensor = found[0] if isinstance(found, tuple) else found  # < 5: a tuple
        return mixed

    def summary(self, tokens: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - as the other
        """Bring the text's vector into the shared space, (B, E)."""
        projected: Tensor = self.proj(tokens[:, 0])
        return projected


class OpenClipText(nn.Module):
    """OpenAI's text transformer; its end-of-text token stands for the text."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        width = shape.width
        self.positional_embedding = nn.Parameter(
            0.01 * torch.randn(shape.max_tokens, width)
        )
        self.text_projection = nn.Parameter(
            width**-0.5 * torch.randn(width, shape.embed_dim)
        )
        self.transformer: Any = Transformer(
            width, shape.layers, shape.heads, act_layer=QuickGELU
        )
        self.token_embedding = nn.Embedding(shape.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.ln_final = nn.LayerNorm(width)

    def mask(self, ids: Tensor) -> Tensor:
        """Return where (B, L) is text: up to its end, which has the largest id."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return places <= ids.argmax(dim=-1, keepdim=True)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, L) to the tokens before layer 0, (B, L, D)."""
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.positional_embedding[: ids.shape[1]]

    def early(self, layers: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of `embed` and of the first layers."""
        yield self.positional_embedding
        yield from self.token_embedding.parameters()
        for part in self.transformer.resblocks[:layers]:
            yield from part.parameters()

    def run(self, index: int, tokens: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - as the other
        """Run one layer, (B, L, D) to the same shape; none looks ahead."""
        return _run_block(self.transformer.resblocks[index], tokens, is_causal=True)

    def summary(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Bring the text's vector into the shared space, (B, E)."""
        last = mask.sum(dim=-1) - 1
        end = self.ln_final(tokens[torch.arange(len(tokens)), last])
        projected: Tensor = end @ self.text_projection
        return projected


def _stem(channels: tuple[int, ...], width: int) -> nn.Sequential:
    """Return convolutions that each halve a picture; the last one gives patches."""
    layers: list[nn.Module] = []
    before = 3
    for each in channels:
        layers += [
            nn.Conv2d(before, each, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, each),
            nn.GELU(),
        ]
        before = each
    layers.append(nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False))
    return nn.Sequential(*layers)


def _run_block(block: Any, tokens: Tensor, *, is_causal: bool = False) -> Tensor:
    """Run one of open_clip's blocks with fused attention."""
    attention = block.attn
    split = partial(Tensor.unflatten, dim=-1, sizes=(attention.num_heads, -1))
    packed = functional.linear(
        block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias
    )
    query, key, value = (split(part).transpose(1, 2) for part in packed.chunk(3, -1))
    attended = functional.scaled_dot_product_attention(
        query, key, value, is_causal=is_causal
    )
    tokens = tokens + attention.out_proj(attended.transpose(1, 2).flatten(2))
    mixed: Tensor = tokens + block.mlp(block.ln_2(tokens))
    return mixed
