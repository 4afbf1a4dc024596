"""M3D-CLIP's published weights: every key has its place, and what is wrong is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from napari_medvlseg.core.backbones.m3dclip import (
    is_m3dclip,
    published_key,
    read_towers,
)
from napari_medvlseg.core.checkpoints.importing import ImportOptions, import_checkpoint
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.training.medclipseg3d.run import load_towers
from tests.tiny_m3dclip import GRID, PATCH, tiny_volume_network

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _published(dim: int, blocks: int, shared: int, patch: int, tokens: int) -> Shapes:
    """Return M3D-CLIP's keys as its config and its modules make them."""
    vision, text = "vision_encoder", "language_encoder"
    embedding = f"{vision}.patch_embedding"
    found: Shapes = {
        "logit_scale": (),
        f"{vision}.cls_token": (1, 1, dim),
        f"{embedding}.position_embeddings": (1, tokens, dim),
        **_linear(f"{embedding}.patch_embeddings.1", dim, patch),
        **_norm(f"{vision}.norm", dim),
        f"{text}.embeddings.word_embeddings.weight": (30522, dim),
        f"{text}.embeddings.position_embeddings.weight": (512, dim),
        f"{text}.embeddings.token_type_embeddings.weight": (2, dim),
        **_norm(f"{text}.embeddings.LayerNorm", dim),
        **_linear("mm_vision_proj", shared, dim),
        **_linear("mm_language_proj", shared, dim),
    }
    for index in range(blocks):
        block = f"{vision}.blocks.{index}"
        found |= _norm(f"{block}.norm1", dim) | _norm(f"{block}.norm2", dim)
        found[f"{block}.attn.qkv.weight"] = (3 * dim, dim)
        found |= _linear(f"{block}.attn.out_proj", dim, dim)
        found |= _linear(f"{block}.mlp.linear1", 4 * dim, dim)
        found |= _linear(f"{block}.mlp.linear2", dim, 4 * dim)
        layer = f"{text}.encoder.layer.{index}"
        for name in ("query", "key", "value"):
            found |= _linear(f"{layer}.attention.self.{name}", dim, dim)
        found |= _linear(f"{layer}.attention.output.dense", dim, dim)
        found |= _norm(f"{layer}.attention.output.LayerNorm", dim)
        found |= _linear(f"{layer}.intermediate.dense", 4 * dim, dim)
        found |= _linear(f"{layer}.output.dense", dim, 4 * dim)
        found |= _norm(f"{layer}.output.LayerNorm", dim)
    return found


def _tiny_weights() -> dict[str, Tensor]:
    cells = GRID[0] * GRID[1] * GRID[2]
    shapes = _published(24, 4, 16, PATCH[0] * PATCH[1] * PATCH[2], cells)
    pooler = _linear("language_encoder.pooler.dense", 24, 24)
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(shape, generator=generator)
        for key, shape in (shapes | pooler).items()
    }


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "pytorch_model.bin"
    torch.save(_tiny_weights(), path)
    return path


def test_the_full_network_takes_every_published_key_and_no_other() -> None:
    with torch.device("meta"):
        network = MedCLIPSeg(MedCLIPSegConfig(variant="m3dclip"))
    ours = {
        published_key(key): tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.startswith(("pvl_adapters.", "mask_head.", "upscale."))
    }
    assert ours == _published(768, 12, 768, 4 * 16 * 16, 8 * 16 * 16)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_published_weights_are_taken_to_the_bit(tmp_path: Path, suffix: str) -> None:
    weights, path = _tiny_weights(), tmp_path / f"model{suffix}"
    if suffix == ".bin":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    network = tiny_volume_network()
    before = network.state_dict()["pvl_adapters.0.proj_txt_up.weight"].clone()
    left_out = load_towers(network, path)
    assert left_out == (
        "language_encoder.pooler.dense.bias",
        "language_encoder.pooler.dense.weight",
    )
    after = network.state_dict()
    taken = {published_key(key): value for key, value in after.items()}
    for key, value in weights.items():
        if key not in left_out:
            torch.testing.assert_close(taken[key], value, rtol=0, atol=0)
    torch.testing.assert_close(after["pvl_adapters.0.proj_txt_up.weight"], before)
    assert is_m3dclip(weights)
    assert not is_m3dclip(after)


def test_what_is_missing_or_of_another_shape_is_named(published: Path) -> None:
    weights = _tiny_weights()
    del weights["vision_encoder.blocks.2.attn.qkv.weight"]
    weights["mm_vision_proj.weight"] = torch.zeros(768, 24)
    weights["vision_encoder.blocks.0.cross_attn.to_q.weight"] = torch.zeros(1)
    torch.save(weights, published)
    with pytest.raises(CheckpointError) as caught:
        load_towers(tiny_volume_network(), published)
    told = str(caught.value)
    assert "missing: vision_encoder.blocks.2.attn.qkv.weight" in told
    assert "shape: mm_vision_proj.weight [768, 24] instead of [16, 24]" in told
    assert "blocks.0.cross_attn.to_q.weight" in told


def test_towers_without_adapters_are_no_model_to_import(published: Path) -> None:
    with pytest.raises(CheckpointError, match="train --preset medclipseg-3d-m3dclip"):
        next(import_checkpoint(published, ImportOptions()))


def test_a_file_that_is_no_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hf download GoodBaiBai88/M3D-CLIP"):
        read_towers(tmp_path / "none.bin", {})
    for name in ("broken.bin", "broken.safetensors"):
        path = tmp_path / name
        path.write_bytes(b"no weights")
        with pytest.raises(CheckpointError, match="broken"):
            read_towers(path, {})
