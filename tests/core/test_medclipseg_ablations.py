"""Every ablation of MedCLIPSeg's paper changes what it should, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_softmax, softmax
from scipy.stats import beta as beta_distribution

from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.adapter import PVLAttention
from napari_medvlseg.core.models.medclipseg.head import BetaBelief
from tests.tiny_medclipseg import (
    GRID,
    tiny_config,
    tiny_ids,
    tiny_image,
    tiny_network,
)

if TYPE_CHECKING:
    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSegOutput

QUERY, CONTEXT, DIM = 3, 5, 8


def _ones(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.ones(shape)


def _no_noise(shape: tuple[int, ...]) -> torch.Tensor:
    msg = f"noise of shape {shape} was asked for"
    raise AssertionError(msg)


def _draw(
    network: MedCLIPSeg, ids: torch.Tensor | None = None, image: int = 1
) -> MedCLIPSegOutput:
    ids = tiny_ids() if ids is None else ids
    return network.draw(
        network.encode_normalised(tiny_image(image)),
        network.encode_words(ids),
        network.word_mask(ids),
        _ones if network.config.samples_values else _no_noise,
    )


def _attention(**choices: Any) -> PVLAttention:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return PVLAttention(tiny_config(**choices)).requires_grad_(requires_grad=False)


def _tokens(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, DIM, generator=generator)


def _expected(attention: PVLAttention) -> np.ndarray[Any, Any]:
    """Compute the equations for one entry with NumPy, the noise being 1."""
    p = {name: value.double().numpy() for name, value in attention.named_parameters()}
    config = attention.config

    def project(name: str, tokens: Any) -> Any:
        return tokens @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def mean_and_variance(name: str, tokens: Any) -> tuple[Any, Any]:
        mean, raw = np.split(project(f"{name}_proj", tokens), 2, axis=-1)
        mean = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(
            mean.var(-1, keepdims=True) + 1e-5
        )
        return mean, np.log1p(np.exp(raw)) + 1e-6

    x, z = (t[0].double().numpy() for t in (_tokens(QUERY, 1), _tokens(CONTEXT, 2)))
    q, (k, k_var) = project("q_proj", x), mean_and_variance("k", z)
    v, v_var = mean_and_variance("v", z)
    score = q @ k.T / np.sqrt(DIM)
    doubt = config.beta * np.sqrt(q**2 @ k_var.T / DIM)
    plain = config.deterministic or config.attention == "none"
    weight = softmax(score - (0 if plain else doubt), axis=-1)
    if config.attention == "scaling":
        weight = softmax(score, axis=-1) / (1 + doubt)
    found = project(
        "out_proj", weight @ (v if config.deterministic else v + np.sqrt(v_var))
    )
    if not config.gate:
        return np.asarray(found)
    gate = 1 / (1 + np.exp(-config.gate_start))
    return np.asarray(gate * found + (1 - gate) * x)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"attention": "scaling"},
        {"attention": "none"},
        {"beta": 0.7},
        {"gate": False},
        {"gate_start": -0.5},
        {"deterministic": True},
    ],
    ids=str,
)
def test_attention_follows_its_equations(choices: dict[str, Any]) -> None:
    attention = _attention(**choices)
    noise = _no_noise if attention.config.deterministic else _ones
    found = attention(_tokens(QUERY, 1), _tokens(CONTEXT, 2), None, noise)
    np.testing.assert_allclose(found[0], _expected(attention), atol=1e-5)
    if choices:
        assert np.abs(_expected(_attention()) - _expected(attention)).max() > 1e-3


def test_what_a_mask_hides_is_not_seen() -> None:
    attention, query, context = _attention(), _tokens(QUERY, 1), _tokens(CONTEXT, 2)
    mask = torch.tensor([[True, True, True, False, False]])
    hidden = attention(query, context, mask, _ones)
    cut = attention(query, context[:, :3], None, _ones)
    torch.testing.assert_close(hidden, cut)


def test_without_beta_the_penalty_is_none() -> None:
    none, zero = (tiny_network(**c) for c in ({"attention": "none"}, {"beta": 0.0}))
    torch.testing.assert_close(_draw(none).logits, _draw(zero).logits)


def test_without_adapters_the_towers_do_not_meet() -> None:
    network = tiny_network(adapters=False)
    assert not network.pvl_adapters
    assert not network.config.samples_values
    first, other = _draw(network), _draw(network, tiny_ids(30, 31))
    torch.testing.assert_close(first.patch_tokens, other.patch_tokens)
    seen_otherwise = _draw(network, image=2)
    torch.testing.assert_close(first.text_embedding, seen_otherwise.text_embedding)


@pytest.mark.parametrize(
    ("choices", "image_moves", "text_moves"),
    [
        ({}, True, True),
        ({"adapt_vision": False}, False, True),
        ({"adapt_text": False}, True, False),
        ({"order": "unimodal"}, False, False),
        ({"cross_attention": False}, False, False),
    ],
    ids=str,
)
def test_who_hears_of_whom(
    choices: dict[str, Any], *, image_moves: bool, text_moves: bool
) -> None:
    network = tiny_network(**choices)
    first = _draw(network)
    patches = _draw(network, tiny_ids(30, 31)).patch_tokens - first.patch_tokens
    text = _draw(network, image=2).text_embedding - first.text_embedding
    assert bool(patches.abs().max() > 1e-5) == image_moves
    assert bool(text.abs().max() > 1e-5) == text_moves
    adapted = _draw(network).logits - _draw(tiny_network(adapters=False)).logits
    assert adapted.abs().max() > 1e-3


@pytest.mark.parametrize("order", ["vision_first", "text_first", "none", "unimodal"])
def test_the_order_decides_what_the_second_sees(order: str) -> None:
    network = tiny_network(order=order)
    adapter: Any = network.pvl_adapters[0]
    calls: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_: object, given: Any, found: torch.Tensor) -> None:
            calls[name] = (given[0], given[1], found)

        return hook

    adapter.two_way.cross_attn_img_to_txt.register_forward_hook(keep("image"))
    adapter.two_way.cross_attn_txt_to_img.register_forward_hook(keep("text"))
    _draw(network)
    assert list(calls) == (
        ["text", "image"] if order == "text_first" else ["image", "text"]
    )
    (seen, image_context, new_seen), (said, text_context, new_said) = (
        calls["image"],
        calls["text"],
    )
    expected = {
        "vision_first": (said, new_seen),
        "text_first": (new_said, seen),
        "none": (said, seen),
        "unimodal": (seen, said),
    }
    torch.testing.assert_close((image_context, text_context), expected[order])


def test_deterministic_draws_are_all_the_same() -> None:
    network = tiny_network(deterministic=True)
    assert not network.config.samples_values
    assert (_draw(network).logits - _draw(tiny_network()).logits).abs().max() > 1e-3


def test_sizes_are_settings() -> None:
    network = tiny_network(adapter_dim=6, upscale_blocks=3, layers=(3,))
    assert len(network.pvl_adapters) == 1
    adapter: Any = network.pvl_adapters[0]
    assert adapter.proj_vis_down[0].weight.shape == (6, 32)
    assert _draw(network).logits.shape[-1] == 8 * GRID
    calls: list[int] = []

    def run(index: int, tokens: torch.Tensor) -> torch.Tensor:
        calls.append(index)
        return tokens

    network.vision_model.run = run
    network.encode_normalised(tiny_image())
    assert calls == [0, 1, 2]  # what precedes the only adapter


def test_pooling_decides_what_stands_for_the_image() -> None:
    outputs = {
        pooling: _draw(tiny_network(pooling=pooling))
        for pooling in ("average", "cls", "attention")
    }
    tokens = outputs["cls"].patch_tokens[0].numpy()
    unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    text = outputs["cls"].text_embedding[0].numpy()
    score = unit[1:] @ text / np.linalg.norm(text) / 0.2
    weight = np.exp(log_softmax(score))
    expected = {
        "average": unit[1:].mean(axis=0),
        "cls": unit[0],
        "attention": weight @ unit[1:],
    }
    for pooling, output in outputs.items():
        np.testing.assert_allclose(
            output.vision_embedding[0], expected[pooling], atol=1e-5
        )


def test_an_evidential_head_believes_in_a_beta_distribution() -> None:
    network = tiny_network(head="evidential", deterministic=True)
    output = _draw(network)
    assert output.belief is not None
    assert output.logits.shape == (1, 1, 4 * GRID, 4 * GRID)
    belief = BetaBelief.of(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1))
    against, support = np.log1p(np.exp([-1.0, 2.0])) + 1
    expected = beta_distribution(support, against)

    def weighted(p: float) -> float:
        entropy = -p * np.log(p) - (1 - p) * np.log1p(-p)
        return float(entropy * expected.pdf(p))

    mean_entropy, _ = quad(weighted, 0, 1)
    assert belief.probability.item() == pytest.approx(expected.mean(), abs=1e-6)
    assert belief.logits.sigmoid().item() == pytest.approx(expected.mean(), abs=1e-6)
    assert belief.expected_entropy.item() == pytest.approx(mean_entropy, abs=1e-5)
    assert belief.vacuity.item() == pytest.approx(2 / (support + against), abs=1e-6)


def test_the_defaults_are_the_papers() -> None:
    config = MedCLIPSegConfig()
    assert (config.beta, config.gate_start, config.adapter_dim) == (2.35, 0.0, 256)
    assert (config.upscale_blocks, config.layers) == (2, tuple(range(1, 11)))
    assert (config.attention, config.order) == ("difference", "vision_first")
    assert (config.pooling, config.temperature, config.head) == ("average", 0.2, "mask")
    assert config.adapters
    assert config.gate
    assert config.cross_attention
    assert config.adapt_vision
    assert config.adapt_text
    assert not config.deterministic
    network = tiny_network()
    adapter: Any = network.pvl_adapters[0]
    assert adapter.two_way.cross_attn_img_to_txt.gate.sigmoid() == 0.5
    assert "gate" not in dict(_attention(gate=False).named_parameters())
    torch.testing.assert_close(
        _draw(network).logits, _draw(tiny_network()).logits, rtol=0, atol=0
    )
