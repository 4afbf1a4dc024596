"""The attention's algebra, against direct NumPy in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.core.models.probabilistic_attention import (
    VARIANCE_FLOOR,
    Gathered,
    ProbabilisticCrossAttention,
    _dropout_mask,
    gaussian,
    zero_noise,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

DIM, QUERIES, KEYS = 8, 5, 7


def _attention(heads: int = 1, penalty: float = 2.35) -> ProbabilisticCrossAttention:
    module = ProbabilisticCrossAttention(
        DIM, heads=heads, uncertainty_penalty=penalty
    ).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(
            parameter.shape, generator=generator, dtype=torch.float64
        )
    return module


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((2, QUERIES, DIM), (2, KEYS, DIM), (2, KEYS, DIM))
    query, context, noise = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return query, context, noise


def _linear(layer: torch.nn.Linear, tokens: Array) -> Array:
    weight = layer.weight.detach().numpy()
    return np.asarray(tokens @ weight.T + layer.bias.detach().numpy())


def _layer_norm(layer: torch.nn.LayerNorm, tokens: Array) -> Array:
    mean = tokens.mean(-1, keepdims=True)
    deviation = np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    gain, offset = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.asarray((tokens - mean) / deviation * gain + offset)


def _expected(
    module: ProbabilisticCrossAttention,
    query: Array,
    context: Array,
    noise: Array,
    keys: int = KEYS,
) -> Array:
    """Equations 4 to 13 in NumPy; only the first `keys` of the context count."""
    heads, size = module.heads, DIM // module.heads
    q = _linear(module.to_query, query)
    key_mean, key_raw = np.split(_linear(module.to_key, context), 2, axis=-1)
    value_mean, value_raw = np.split(_linear(module.to_value, context), 2, axis=-1)
    key_mean = _layer_norm(module.norm_key, key_mean)
    key_var = np.log1p(np.exp(key_raw))
    value = _layer_norm(module.norm_value, value_mean)
    value = value + np.sqrt(np.log1p(np.exp(value_raw))) * noise
    attended = np.zeros_like(q)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for b in range(q.shape[0]):
            for i in range(q.shape[1]):
                score = np.empty(keys)
                for j in range(keys):
                    mean = q[b, i, part] @ key_mean[b, j, part] / math.sqrt(size)
                    variance = (q[b, i, part] ** 2) @ key_var[b, j, part] / size
                    score[j] = mean - module.uncertainty_penalty * math.sqrt(variance)
                weight = np.exp(score - score.max())
                weight /= weight.sum()
                attended[b, i, part] = weight @ value[b, :keys, part]
    gate = 1 / (1 + math.exp(-float(module.gate.detach())))
    return gate * _linear(module.to_output, attended) + (1 - gate) * query


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("penalty", [0.0, 2.35])
def test_attention_follows_the_papers_equations(heads: int, penalty: float) -> None:
    module = _attention(heads, penalty)
    query, context, noise = _inputs()
    found = module(query, context, lambda _: noise).detach().numpy()
    expected = _expected(module, query.numpy(), context.numpy(), noise.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_padding_is_not_attended() -> None:
    module = _attention(heads=2)
    query, context, noise = _inputs()
    mask = torch.ones(2, KEYS, dtype=torch.bool)
    mask[:, 4:] = False
    found = module(query, context, lambda _: noise, context_mask=mask).detach().numpy()
    expected = _expected(module, query.numpy(), context.numpy(), noise.numpy(), keys=4)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_doubtful_keys_get_less_weight_than_without_the_penalty() -> None:
    query, *_ = _inputs()
    with_penalty, without = _attention(penalty=2.35), _attention(penalty=0.0)
    q = with_penalty._split(with_penalty.to_query(query))
    key_mean = torch.zeros(2, 1, KEYS, DIM, dtype=torch.float64)
    key_var = torch.ones_like(key_mean) * 0.01
    key_var[:, :, 3] = 4.0
    weight = with_penalty._weights(q, key_mean, key_var, None)
    plain = without._weights(q, key_mean, key_var, None)
    assert (weight[..., 3] < plain[..., 3]).all()
    torch.testing.assert_close(plain, torch.full_like(plain, 1 / KEYS))


def test_the_gate_starts_at_one_half_and_mixes_with_the_residual() -> None:
    module = ProbabilisticCrossAttention(DIM)
    query, context, _ = (x.float() for x in _inputs())
    residual = torch.full_like(query, 3.0)
    half = module(query, context, zero_noise, residual=residual)
    module.gate.data.fill_(-100.0)
    closed = module(query, context, zero_noise, residual=residual)
    module.gate.data.fill_(100.0)
    opened = module(query, context, zero_noise, residual=residual)
    torch.testing.assert_close(closed, residual)
    torch.testing.assert_close(half, (closed + opened) / 2)


def test_the_mean_over_many_draws_is_the_draw_at_zero_noise() -> None:
    module = _attention().requires_grad_(requires_grad=False)
    query, context, _ = _inputs()
    generator = torch.Generator().manual_seed(0)
    draws = [
        module(query, context, lambda s: torch.randn(s, generator=generator))
        for _ in range(1000)
    ]
    mean = torch.stack(draws).mean(dim=0)
    spread = torch.stack(draws).std(dim=0) / math.sqrt(1000)
    still = module(query, context, zero_noise)
    assert ((mean - still).abs() < 5 * spread + 1e-9).all()
    assert float(spread.min()) > 0


def test_shared_noise_moves_every_token_along_one_direction() -> None:
    """The paper's equations with the same noise at every token of a draw."""
    module = _attention()
    query, context, noise = _inputs()
    shared = noise[:, :1]
    per_token = module(query, context, lambda _: shared.expand(-1, KEYS, -1))
    module.noise_form = "shared"
    asked: list[tuple[int, ...]] = []

    def source(shape: tuple[int, ...]) -> torch.Tensor:
        asked.append(shape)
        return shared

    torch.testing.assert_close(module(query, context, source), per_token)
    assert asked == [(2, 1, DIM)]


def test_shared_noise_is_not_averaged_away() -> None:
    """With K equal weights and variances: the spread is sqrt(K) times the paper's."""
    keys = 400
    module = _attention(penalty=0.0)
    for layer in (module.to_key, module.to_query):
        torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(module.to_value.weight)
    generator = torch.Generator().manual_seed(8)
    context = torch.randn(1, keys, DIM, generator=generator, dtype=torch.float64)
    query = torch.zeros(1, 1, DIM, dtype=torch.float64)

    def noise(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    spread = []
    for form in ("token", "shared"):
        module.noise_form = form
        with torch.no_grad():
            draws = torch.stack([module(query, context, noise) for _ in range(400)])
        spread.append(float(draws.std(dim=0).mean()))
    assert spread[1] / spread[0] == pytest.approx(math.sqrt(keys), rel=0.15)


def test_shared_noise_starts_small() -> None:
    module = ProbabilisticCrossAttention(DIM, noise_form="shared")
    raw = module.to_value.bias[DIM:].detach()
    deviation = torch.nn.functional.softplus(raw).sqrt()
    torch.testing.assert_close(deviation, torch.full((DIM,), 0.2))


@pytest.mark.parametrize("form", ["token", "shared"])
def test_the_start_is_the_deviation_of_the_values(form: str) -> None:
    """A value is mean + start * noise where the context says nothing yet."""
    module = ProbabilisticCrossAttention(DIM, noise_form=form)
    query, context, noise = (x.float() for x in _inputs())
    torch.nn.init.zeros_(module.to_value.weight)
    module.start_at(1.7)
    prepared = module.prepare(query, context)
    given = noise if form == "token" else noise[:, :1]
    deviation = prepared.variance.sqrt()
    moved = module._values(prepared.mean, deviation, lambda _: given)
    torch.testing.assert_close(moved - prepared.mean, 1.7 * given.expand_as(moved))


def test_the_papers_noise_starts_at_the_root_of_ln_2() -> None:
    module = ProbabilisticCrossAttention(DIM)
    other = ProbabilisticCrossAttention(DIM)
    torch.nn.init.zeros_(module.to_value.bias)
    other.start_at(math.sqrt(math.log(2)))
    raw = other.to_value.bias[DIM:].detach()
    torch.testing.assert_close(
        raw, module.to_value.bias[DIM:].detach(), atol=1e-6, rtol=0
    )


def test_dropout_sets_values_to_nothing_instead_of_moving_them() -> None:
    """Kept values grow by 1 / (1 - rate); without noise nothing is dropped."""
    module = _attention()
    query, context, _ = _inputs()
    plain = module(query, context, zero_noise)
    module.noise_form, module.dropout = "dropout", 0.25
    torch.testing.assert_close(module(query, context, zero_noise), plain)
    noise = torch.full((2, 1, DIM), 0.5, dtype=torch.float64)
    noise[:, :, ::2] = -2.0  # below the quantile: dropped
    dropped = module(query, context, lambda _: noise)
    keep = torch.ones(DIM, dtype=torch.float64)
    keep[::2] = 0.0
    module.noise_form = "none"
    with torch.no_grad():  # the same result from values that were masked by hand
        module.norm_value.weight.mul_(keep / 0.75)
        module.norm_value.bias.mul_(keep / 0.75)
    torch.testing.assert_close(module(query, context, _refuse), dropped)


def _refuse(shape: tuple[int, ...]) -> torch.Tensor:
    """Without noise none is asked for."""
    raise AssertionError(shape)


def test_dropout_drops_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = _dropout_mask(torch.randn(20_000, generator=generator), 0.2)
    assert (mask == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("form", ["token", "shared"])
def test_the_scale_multiplies_the_noise(form: str) -> None:
    """A draw at scale 3 is the draw at scale 1 of three times the noise."""
    query, context, noise = _inputs()
    given = noise if form == "token" else noise[:, :1]
    module = _attention()
    module.noise_form = form
    expected = module(query, context, lambda _: 3 * given)
    plain = module(query, context, lambda _: given)
    module.noise_scale = 3.0
    scaled = module(query, context, lambda _: given)
    torch.testing.assert_close(scaled, expected)
    assert not torch.allclose(scaled, plain)
    prepared = module.prepare(query, context)  # weighed before it is drawn, the same
    gathered = module.attend(module.gather(prepared), lambda _: given)
    torch.testing.assert_close(gathered, expected)


def test_a_scale_of_nothing_is_the_mean_of_all_draws() -> None:
    query, context, noise = _inputs()
    module = _attention()
    still = module(query, context, zero_noise)
    module.noise_scale = 0.0
    torch.testing.assert_close(module(query, context, lambda _: noise), still)


def test_the_scale_leaves_the_weights_of_the_keys() -> None:
    """Doubtful keys are penalised by their own variances, not by the values'."""
    query, context, _ = _inputs()
    module = _attention()
    weight = module.prepare(query, context).weight
    module.noise_scale = 10.0
    assert torch.equal(module.prepare(query, context).weight, weight)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_a_scale_below_nothing_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="expected a noise_scale of 0 or more, got"):
        ProbabilisticCrossAttention(DIM, noise_scale=scale)


@pytest.mark.parametrize("form", ["shared", "dropout", "none"])
def test_values_can_be_weighed_before_a_draw_moves_them_all_alike(form: str) -> None:
    query, context, _ = _inputs()
    module = ProbabilisticCrossAttention(DIM, heads=2, noise_form=form).double()
    prepared = module.prepare(query, context)
    gathered = module.gather(prepared)
    assert isinstance(gathered, Gathered)
    generator = torch.Generator().manual_seed(5)
    epsilon = torch.randn(2, 1, DIM, generator=generator, dtype=torch.float64)
    expected = module.attend(prepared, lambda _: epsilon)
    torch.testing.assert_close(module.attend(gathered, lambda _: epsilon), expected)
    still = module.attend(gathered, lambda _: 0 * epsilon)
    assert torch.allclose(still, expected) == (form == "none")


def test_values_that_move_each_by_itself_are_not_weighed_before() -> None:
    query, context, _ = _inputs()
    prepared = _attention().prepare(query, context)
    assert _attention().gather(prepared) is prepared


def test_a_variance_in_half_precision_is_torchs() -> None:
    raw = torch.linspace(-30, 30, 4001).bfloat16()
    _, variance = gaussian(torch.stack([raw, raw], dim=-1), torch.nn.Identity())
    expected = torch.nn.functional.softplus(raw) + VARIANCE_FLOOR
    assert torch.equal(variance[:, 0], expected)


def test_an_unknown_form_of_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of token, shared"):
        ProbabilisticCrossAttention(DIM, noise_form="loud")
