"""The layers that equations are made of, in NumPy and float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.models.fusion import SelfAttention

    Array = npt.NDArray[np.float64]

_ERF = np.vectorize(math.erf)


def randomise(module: torch.nn.Module, seed: int = 1) -> None:
    """Give every parameter a random value, in float64."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = 0.5 * noise


def linear(layer: torch.nn.Module | None, tokens: Array) -> Array:
    """Apply a linear layer to the last axis."""
    assert isinstance(layer, torch.nn.Linear)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.asarray(tokens @ weight.T + bias)


def layer_norm(layer: torch.nn.Module | None, tokens: Array) -> Array:
    """Apply a layer norm to the last axis; an identity changes nothing."""
    if isinstance(layer, torch.nn.Identity):
        return tokens
    assert isinstance(layer, torch.nn.LayerNorm)
    mean = tokens.mean(-1, keepdims=True)
    deviation = np.sqrt(tokens.var(-1, keepdims=True) + layer.eps)
    gain, offset = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.asarray((tokens - mean) / deviation * gain + offset)


def softmax(scores: Array) -> Array:
    """Return the softmax of the last axis."""
    risen = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(risen / risen.sum(-1, keepdims=True))


def attention(module: SelfAttention, query: Array, context: Array) -> Array:
    """Multi-head attention of (Q, D) to (K, D), head by head."""
    q = linear(module.to_query, query)
    key, value = np.split(linear(module.to_key_value, context), 2, axis=-1)
    size = q.shape[-1] // module.heads
    heads = []
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        weight = softmax(q[:, part] @ key[:, part].T / np.sqrt(size))
        heads.append(weight @ value[:, part])
    return linear(module.to_output, np.concatenate(heads, axis=-1))


def mlp(module: torch.nn.Module, tokens: Array) -> Array:
    """Linear, GELU, linear."""
    assert isinstance(module, torch.nn.Sequential)
    inner = linear(module[0], tokens)
    return linear(module[2], 0.5 * inner * (1 + _ERF(inner / np.sqrt(2))))
