"""The keys and shapes of the authors' MedCLIPSeg checkpoints, by rule.

Recognises a checkpoint without building its network. Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Shape = tuple[int, ...]
    Entry = tuple[str, Shape]

DIM, TEXT_DIM, EMBED_DIM = 768, 512, 512
"""Of the image tower and BERT; of CLIP's text tower; of the space they share."""
DEPTH = 12
"""Blocks of each tower."""
BERT_WORDS, CLIP_WORDS = 30522, 49408
CLIP_TOKENS = 77


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What decides the keys and shapes of a checkpoint."""

    variant: str
    """One of `VARIANTS`."""
    adapter_dim: int = 256
    num_upscale: int = 2
    num_adapters: int = 10

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every key, repeated tensors included."""
        towers = dict(_TOWERS[self.variant]())
        for alias, key in aliases(self.variant).items():
            towers[alias] = towers[key]
        return {**towers, **dict(_head(self.num_upscale)), **dict(_adapters(self))}


def aliases(variant: str) -> dict[str, str]:
    """Return the keys that name a tensor once more, with the key it has here.

    The authors' CLIP variants keep the whole CLIP beside its two towers.
    """
    if variant not in ("clip", "pubmedclip"):
        return {}
    found = {"clip_model.logit_scale": "logit_scale"}
    for key, _ in _TOWERS[variant]():
        if key.startswith("vision_model."):
            found[key.replace("vision_model.", "clip_model.visual.", 1)] = key
        elif key.startswith("text_model."):
            found[key.replace("text_model.", "clip_model.", 1)] = key
    return found


def recognise(shapes: Mapping[str, Shape]) -> Layout | None:
    """Return the layout that most of a checkpoint's tensors fit, if half of it do.

    Parameters
    ----------
    shapes : mapping
        Shape by key.
    """
    sizes = {
        "adapter_dim": next(
            (s[0] for k, s in shapes.items() if k.endswith("proj_txt_down.weight")), 256
        ),
        "num_upscale": _count(r"upscale\.(\d+)\.", shapes) or 2,
        "num_adapters": _count(r"pvl_adapters\.(\d+)\.", shapes) or 10,
    }
    layouts = [Layout(variant=variant, **sizes) for variant in VARIANTS]
    fits = {layout: _fit(layout, shapes) for layout in layouts}
    best = max(layouts, key=lambda layout: fits[layout])
    return best if fits[best] >= 0.5 else None


def _fit(layout: Layout, shapes: Mapping[str, Shape]) -> float:
    """Return the share of a layout's tensors that a checkpoint holds."""
    expected = layout.shapes()
    return sum(shapes.get(k) == s for k, s in expected.items()) / len(expected)


def _count(pattern: str, keys: Mapping[str, Shape]) -> int:
    """Return how many numbers the keys have in a place."""
    matches = (re.match(pattern, key) for key in keys)
    return len({match.group(1) for match in matches if match})


def _linear(prefix: str, out_dim: int, in_dim: int) -> Iterator[Entry]:
    """Yield a matrix and its bias."""
    yield f"{prefix}.weight", (out_dim, in_dim)
    yield f"{prefix}.bias", (out_dim,)


def _norm(prefix: str, dim: int) -> Iterator[Entry]:
    """Yield what a LayerNorm learns."""
    yield f"{prefix}.weight", (dim,)
    yield f"{prefix}.bias", (dim,)


def _clip_blocks(prefix: str, dim: int) -> Iterator[Entry]:
    """Yield the blocks of OpenAI's transformer."""
    for index in range(DEPTH):
        block = f"{prefix}.resblocks.{index}"
        yield f"{block}.attn.in_proj_weight", (3 * dim, dim)
        yield f"{block}.attn.in_proj_bias", (3 * dim,)
        yield from _linear(f"{block}.attn.out_proj", dim, dim)
        yield from _norm(f"{block}.ln_1", dim)
        yield from _linear(f"{block}.mlp.c_fc", 4 * dim, dim)
        yield from _linear(f"{block}.mlp.c_proj", dim, 4 * dim)
        yield from _norm(f"{block}.ln_2", dim)


def _clip_vision(patch: int) -> Iterator[Entry]:
    """Yield OpenAI's image tower for patches of so many pixels a side."""
    yield "vision_model.class_embedding", (DIM,)
    yield "vision_model.positional_embedding", ((224 // patch) ** 2 + 1, DIM)
    yield "vision_model.proj", (DIM, EMBED_DIM)
    yield "vision_model.conv1.weight", (DIM, 3, patch, patch)
    yield from _norm("vision_model.ln_pre", DIM)
    yield from _clip_blocks("vision_model.transformer", DIM)
    yield from _norm("vision_model.ln_post", DIM)


def _timm_vision() -> Iterator[Entry]:
    """Yield timm's image tower."""
    trunk = "vision_model.trunk"
    yield f"{trunk}.cls_token", (1, 1, DIM)
    yield f"{trunk}.pos_embed", (1, 197, DIM)
    yield f"{trunk}.patch_embed.proj.weight", (DIM, 3, 16, 16)
    yield f"{trunk}.patch_embed.proj.bias", (DIM,)
    for index in range(DEPTH):
        block = f"{trunk}.blocks.{index}"
        yield from _norm(f"{block}.norm1", DIM)
        yield from _linear(f"{block}.attn.qkv", 3 * DIM, DIM)
        yield from _linear(f"{block}.attn.proj", DIM, DIM)
        yield from _norm(f"{block}.norm2", DIM)
        yield from _linear(f"{block}.mlp.fc1", 4 * DIM, DIM)
        yield from _linear(f"{block}.mlp.fc2", DIM, 4 * DIM)
    yield from _norm(f"{trunk}.norm", DIM)
    yield "vision_model.head.proj.weight", (EMBED_DIM, DIM)


def _bert() -> Iterator[Entry]:
    """Yield BERT with the projection that follows it."""
    words = "text_model.transformer.embeddings"
    yield f"{words}.word_embeddings.weight", (BERT_WORDS, DIM)
    yield f"{words}.position_embeddings.weight", (512, DIM)
    yield f"{words}.token_type_embeddings.weight", (2, DIM)
    yield from _norm(f"{words}.LayerNorm", DIM)
    for index in range(DEPTH):
        layer = f"text_model.transformer.encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield from _linear(f"{layer}.attention.self.{name}", DIM, DIM)
        yield from _linear(f"{layer}.attention.output.dense", DIM, DIM)
        yield from _norm(f"{layer}.attention.output.LayerNorm", DIM)
        yield from _linear(f"{layer}.intermediate.dense", 4 * DIM, DIM)
        yield from _linear(f"{layer}.output.dense", DIM, 4 * DIM)
        yield from _norm(f"{layer}.output.LayerNorm", DIM)
    yield "text_model.proj.0.weight", (640, DIM)
    yield "text_model.proj.2.weight", (EMBED_DIM, 640)


def _clip_text() -> Iterator[Entry]:
    """Yield OpenAI's text tower; only the whole CLIP names its word vectors."""
    yield "text_model.positional_embedding", (CLIP_TOKENS, TEXT_DIM)
    yield "text_model.text_projection", (TEXT_DIM, EMBED_DIM)
    yield from _clip_blocks("text_model.transformer", TEXT_DIM)
    yield from _norm("text_model.ln_final", TEXT_DIM)
    yield "clip_model.token_embedding.weight", (CLIP_WORDS, TEXT_DIM)


def _towers(*parts: Callable[[], Iterator[Entry]]) -> Callable[[], Iterator[Entry]]:
    """Return a function that yields the tensors of several parts."""

    def entries() -> Iterator[Entry]:
        yield "logit_scale", ()
        for part in parts:
            yield from part()

    return entries


_TOWERS: Mapping[str, Callable[[], Iterator[Entry]]] = {
    "unimedclip": _towers(lambda: _clip_vision(16), _bert),
    "biomedclip": _towers(_timm_vision, _bert),
    "clip": _towers(lambda: _clip_vision(16), _clip_text),
    "pubmedclip": _towers(lambda: _clip_vision(32), _clip_text),
}
VARIANTS = tuple(_TOWERS)
"""The CLIPs that the authors build on."""


def _head(num_upscale: int) -> Iterator[Entry]:
    """Yield the mask head and the blocks that enlarge the patch features."""
    for index in (0, 2, 4):
        yield from _linear(f"mask_head.{index}", EMBED_DIM, EMBED_DIM)
    for index in range(num_upscale):
        block = f"upscale.{index}"
        yield f"{block}.conv1.weight", (EMBED_DIM, EMBED_DIM, 2, 2)
        yield f"{block}.conv1.bias", (EMBED_DIM,)
        yield f"{block}.conv2.weight", (EMBED_DIM, 1, 3, 3)
        yield from _norm(f"{block}.norm", EMBED_DIM)


def _adapters(layout: Layout) -> Iterator[Entry]:
    """Yield the adapters between the towers."""
    width = layout.adapter_dim
    is_clip = layout.variant in ("clip", "pubmedclip")
    text_dim = TEXT_DIM if is_clip else DIM
    for index in range(layout.num_adapters):
        adapter = f"pvl_adapters.{index}"
        yield f"{adapter}.proj_vis_down.0.weight", (width, DIM)
        yield f"{adapter}.proj_txt_down.weight", (width, text_dim)
        yield f"{adapter}.proj_vis_up.weight", (DIM, width)
        yield f"{adapter}.proj_txt_up.weight", (text_dim, width)
        for way in ("img_to_txt", "txt_to_img"):
            attention = f"{adapter}.two_way.cross_attn_{way}"
            yield f"{attention}.gate", ()
            yield from _linear(f"{attention}.q_proj", width, width)
            yield from _linear(f"{attention}.k_proj", 2 * width, width)
            yield from _linear(f"{attention}.v_proj", 2 * width, width)
            yield from _linear(f"{attention}.out_proj", width, width)
            yield from _norm(f"{attention}.norm_k", width)
            yield from _norm(f"{attention}.norm_v", width)
