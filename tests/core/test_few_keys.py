"""Attention part by part is attention."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_medvlseg.core.models import few_keys
from napari_medvlseg.core.models.few_keys import attend

QUERIES = 300


def _inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, QUERIES, 8), (2, 4, 30, 8), (2, 4, 30, 8))
    return [3 * torch.randn(s, generator=generator).to(dtype) for s in shapes]


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_keys, "MANY_QUERIES", QUERIES)
    monkeypatch.setattr(few_keys, "AT_ONCE", 2 * 4 * 30 * 64)  # five parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_queries_get_the_answers_of_plain_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, key, value = _inputs(dtype)
    exact = functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double()
    )
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(functional, "scaled_dot_product_attention", None)  # not asked
        found = attend(query, key, value)
    assert found.dtype == dtype
    step = 1e-5 if dtype == torch.float32 else 2**-8  # the answer's own
    torch.testing.assert_close(found.double(), exact, rtol=step, atol=1e-5)
    assert found.transpose(1, 2).is_contiguous()  # for the heads' channels to join


def test_what_learns_or_is_masked_goes_torchs_way() -> None:
    query, key, value = _inputs(torch.float32)
    mask = torch.ones(2, 1, 1, 30, dtype=torch.bool)
    mask[..., 20:] = False
    query.requires_grad_()
    (gradient,) = torch.autograd.grad(attend(query, key, value).sum(), query)
    assert float(gradient.abs().max()) > 0
    with torch.inference_mode():
        found = attend(query, key, value, mask)
        fewer = attend(query, key[:, :, :20], value[:, :, :20])
    torch.testing.assert_close(found, fewer)
