"""Fusion of pixels and words."""

from __future__ import annotations

import math

import pytest
import torch

from napari_medvlseg.core.models.fusion import BiFusion, position_features
from napari_medvlseg.core.models.probabilistic_attention import zero_noise

DIM = 8


@pytest.fixture
def fusion() -> BiFusion:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return BiFusion(DIM, heads=2, uncertainty_penalty=2.35)


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(2, DIM, 12, 10, generator=generator)
    words = torch.randn(2, 5, DIM, generator=generator)
    return pixels, words


def test_shapes_are_kept_and_both_sides_change(fusion: BiFusion) -> None:
    pixels, words = _inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)
    seen, said = fusion(pixels, words, mask, zero_noise)
    assert seen.shape == pixels.shape
    assert said.shape == words.shape
    assert not torch.allclose(seen, pixels)
    assert not torch.allclose(said, words)


def test_padding_after_the_words_changes_nothing(fusion: BiFusion) -> None:
    pixels, words = _inputs()
    seen, said = fusion(pixels, words, torch.ones(2, 5, dtype=torch.bool), zero_noise)
    padded = torch.cat([words, torch.full((2, 3, DIM), 9.0)], dim=1)
    mask = torch.tensor([[True] * 5 + [False] * 3] * 2)
    seen_padded, said_padded = fusion(pixels, padded, mask, zero_noise)
    torch.testing.assert_close(seen, seen_padded)
    torch.testing.assert_close(said, said_padded[:, :5])


def test_words_reach_the_pixels_and_pixels_the_words(fusion: BiFusion) -> None:
    pixels, words = _inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)
    pixels.requires_grad_()
    words.requires_grad_()
    seen, said = fusion(pixels, words, mask, zero_noise)
    (to_words,) = torch.autograd.grad(seen.sum(), words, retain_graph=True)
    (to_pixels,) = torch.autograd.grad(said.sum(), pixels)
    assert float(to_words.abs().max()) > 0
    assert float(to_pixels.abs().max()) > 0


def test_position_features_are_sines_of_the_pixel_centres() -> None:
    features = position_features(4, 2, 3)
    assert features.shape == (12, 4, 2)
    row, column = 2, 1
    y, x = (row + 0.5) / 4, (column + 0.5) / 2
    angles = [math.pi * 2**band * place for place in (y, x) for band in range(3)]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    torch.testing.assert_close(features[:, row, column], torch.tensor(expected))


def test_position_features_do_not_depend_on_the_size_of_the_grid() -> None:
    coarse, fine = position_features(1, 1, 4), position_features(3, 3, 4)
    torch.testing.assert_close(coarse[:, 0, 0], fine[:, 1, 1], atol=1e-5, rtol=0)
