"""Equation 2 against NumPy, and what the affordable self-attention is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_medvlseg.core.models.bipvlseg.bifusion import (
    BiFusion,
    VoxelAttention,
    _cut,
    _join,
)
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.probabilistic_attention import (
    ProbabilisticCrossAttention,
    zero_noise,
)
from tests.core.bipvlseg.numpy_layers import (
    attention,
    layer_norm,
    linear,
    mlp,
    randomise,
)

DIM, TEXT_DIM, CLASSES, SIZE = 8, 6, 3, (2, 3, 2)
CONFIG = BiPVLConfig(classes=CLASSES, heads=2)


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    volume = torch.randn(2, DIM, *SIZE, generator=generator, dtype=torch.float64)
    text = torch.randn(2, CLASSES, TEXT_DIM, generator=generator, dtype=torch.float64)
    return volume, text


def _fusion(config: BiPVLConfig, *, returns_text: bool = True) -> BiFusion:
    module = BiFusion(DIM, TEXT_DIM, config, returns_text=returns_text)
    randomise(module)
    return module


@pytest.mark.parametrize("form", ["paper", "prenorm"])
def test_equation_2(form: str) -> None:
    """The letter; and with what comes in added, and a norm before each attention."""
    module = _fusion(replace(CONFIG, fusion_form=form))
    volume, text = _inputs()
    seen, said = module(volume, text, zero_noise)
    kept = float(form == "prenorm")
    for b in range(2):
        voxels = volume[b].flatten(1).T.numpy()  # (T, D)
        mapped = linear(module.to_vision, text[b].numpy())
        asked = layer_norm(module.norm_text, mapped)
        own = layer_norm(module.norm_vision, voxels)
        t = attention(module.text_self, asked, asked) + kept * mapped
        v = attention(module.vision_self.attention, own, own) + kept * voxels
        looked = layer_norm(module.norm_seen, v)
        query = layer_norm(module.norm_asking_text, t)
        t = t + mlp(module.mlp_text, attention(module.text_from_vision, query, looked))
        told = layer_norm(module.norm_said, t)
        heard = attention(module.vision_from_text, looked, told)
        v = v + mlp(module.mlp_vision, heard)
        back = linear(module.from_vision, t) + kept * text[b].numpy()
        found = seen[b].detach().flatten(1).T.numpy()
        np.testing.assert_allclose(found, v, atol=1e-10)
        np.testing.assert_allclose(said[b].detach().numpy(), back, atol=1e-10)


def test_the_probabilistic_form_is_medclipsegs_attention_in_the_same_places() -> None:
    """Its own equations have their own test; here it stands for CA."""
    module = _fusion(replace(CONFIG, fusion_form="paper", probabilistic=True))
    volume, text = _inputs()
    seen, _ = module(volume, text, zero_noise)
    cross = (module.text_from_vision, module.vision_from_text)
    assert all(isinstance(each, ProbabilisticCrossAttention) for each in cross)
    voxels = volume.flatten(2).transpose(1, 2)
    mapped = module.norm_text(module.to_vision(text))
    t = module.text_self(mapped, mapped)
    own = module.norm_vision(voxels)
    v = module.vision_self.attention(own, own)
    t = t + module.mlp_text(cross[0](t, v, zero_noise))
    v = v + module.mlp_vision(cross[1](v, t, zero_noise))
    torch.testing.assert_close(seen.flatten(2).transpose(1, 2), v)


def test_the_same_noise_gives_the_same_draw_and_other_noise_another() -> None:
    module = _fusion(replace(CONFIG, probabilistic=True))
    volume, text = _inputs()
    asked: list[tuple[int, ...]] = []

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        asked.clear()

        def noise(shape: tuple[int, ...]) -> torch.Tensor:
            asked.append(shape)
            return torch.randn(shape, generator=generator)

        updated: torch.Tensor = module(volume, text, noise)[0]
        return updated

    assert torch.equal(draw(1), draw(1))
    assert asked == [(2, 1, DIM), (2, 1, DIM)]
    assert not torch.allclose(draw(1), draw(2))
    plain = _fusion(CONFIG)
    plain(volume, text, lambda shape: pytest.fail(f"noise {shape} was asked for"))


def test_the_last_stage_gives_the_text_back_as_it_came() -> None:
    volume, text = _inputs()
    module = _fusion(CONFIG, returns_text=False)
    assert module(volume, text, zero_noise)[1] is text
    assert module.from_vision is None


def test_at_first_the_text_goes_on_as_the_encoder_made_it() -> None:
    volume, text = _inputs()
    module = BiFusion(DIM, TEXT_DIM, CONFIG, returns_text=True).double()
    torch.testing.assert_close(module(volume, text, zero_noise)[1], text)


def _tokens(size: tuple[int, int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    count = int(np.prod(size))
    return torch.randn(2, count, DIM, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["pooled", "windowed"])
def test_a_small_volume_attends_exactly(kind: str) -> None:
    module = VoxelAttention(DIM, 2, kind, side=3)
    randomise(module)
    tokens = _tokens((3, 2, 3))
    found = module(tokens, torch.Size((3, 2, 3))).detach().numpy()
    for b in range(2):
        own = tokens[b].numpy()
        np.testing.assert_allclose(found[b], attention(module.attention, own, own))


def test_pooled_keys_are_the_averages_of_boxes() -> None:
    module = VoxelAttention(DIM, 2, "pooled", side=2)
    randomise(module)
    tokens = _tokens((4, 2, 6))
    found = module(tokens, torch.Size((4, 2, 6))).detach().numpy()
    grid = tokens[0].numpy().reshape(2, 2, 2, 1, 2, 3, DIM)
    keys = grid.mean(axis=(1, 3, 5)).reshape(8, DIM)
    expected = attention(module.attention, tokens[0].numpy(), keys)
    np.testing.assert_allclose(found[0], expected)


def test_keys_in_half_precision_are_averaged_in_single() -> None:
    """Torch's own average of so many is off by 0.01."""
    module = VoxelAttention(DIM, 2, "pooled", side=2)
    size, generator = (20, 20, 20), torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 8000, DIM, generator=generator).bfloat16()
    seen: list[torch.Tensor] = []
    module.attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    with torch.autocast("cpu", torch.bfloat16):
        module(tokens, torch.Size(size))
    boxes = tokens[0].double().reshape(2, 10, 2, 10, 2, 10, DIM)
    exact = boxes.mean(dim=(1, 3, 5)).reshape(8, DIM)
    torch.testing.assert_close(seen[0][0].double(), exact, atol=1e-6, rtol=1e-5)


def test_windows_attend_to_themselves_and_never_to_padding() -> None:
    module = VoxelAttention(DIM, 2, "windowed", side=2)
    randomise(module)
    size = (4, 2, 3)
    tokens = _tokens(size)
    found = module(tokens, torch.Size(size)).detach().numpy().reshape(2, *size, DIM)
    grid = tokens.numpy().reshape(2, *size, DIM)
    for i in (slice(0, 2), slice(2, 4)):
        for k in (slice(0, 2), slice(2, 3)):
            own = grid[1, i, :, k].reshape(-1, DIM)
            expected = attention(module.attention, own, own)
            np.testing.assert_allclose(found[1, i, :, k].reshape(-1, DIM), expected)


def test_boxes_are_put_together_as_they_were_cut() -> None:
    volume = torch.arange(2 * 3 * 4 * 6 * 2.0).reshape(2, 3, 4, 6, 2)
    torch.testing.assert_close(_join(_cut(volume, 2), [4, 6, 2], 2), volume)
