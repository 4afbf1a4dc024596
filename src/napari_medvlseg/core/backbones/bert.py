"""BERT's encoder in plain torch, with the parameter names of its published weights.

Transformers has it too, but importing that takes seconds and 240 MB, a fifth of what
a whole segmentation needs.

Symbols: B batch, L word pieces, D channels, M heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """The sizes of a BERT."""

    dim: int
    layers: int
    heads: int
    hidden_dim: int
    vocabulary: int = 30522
    positions: int = 512
    token_types: int = 2
    norm_eps: float = 1e-12


class Bert(nn.Module):
    """Encode word pieces, each in the light of the others.

    References
    ----------
    Devlin et al., BERT, 2019; Vaswani et al., Attention is all you need, 2017.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = _Layers(shape)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states.

        Parameters
        ----------
        ids : (B, L) int
        mask : (B, L) bool
            False at padding.

        Returns
        -------
        (B, L, D)
        """
        hidden: Tensor = self.embeddings(ids)
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask)
        return hidden


class _Embeddings(nn.Module):
    """Sum what a word piece is, where it stands and (always 0) which text it is of."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.dim)
        self.position_embeddings = nn.Embedding(shape.positions, shape.dim)
        self.token_type_embeddings = nn.Embedding(shape.token_types, shape.dim)
        self.LayerNorm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) to (B, L, D)."""
        place = torch.arange(ids.shape[1], device=ids.device)
        total = (
            self.word_embeddings(ids)
            + self.position_embeddings(place)
            + self.token_type_embeddings.weight[0]
        )
        normalised: Tensor = self.LayerNorm(total)
        return normalised


class _Layers(nn.Module):
    """The layers, under the name that the weights give them."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))


class _Layer(nn.Module):
    """Self-attention and an MLP, each added to what came in and then normalised."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        self.intermediate = _Intermediate(shape)
        self.output = _AddAndNorm(shape.hidden_dim, shape)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        hidden = self.attention(hidden, mask)
        mixed: Tensor = self.output(self.intermediate(hidden), hidden)
        return mixed


class _Attention(nn.Module):
    """Multi-head self-attention with its projection, sum and norm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.self = _Heads(shape)
        self.output = _AddAndNorm(shape.dim, shape)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        mixed: Tensor = self.output(self.self(hidden, mask), hidden)
        return mixed


class _Heads(nn.Module):
    """Scaled dot products of queries and keys weigh the values."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key = nn.Linear(shape.dim, shape.dim)
        self.value = nn.Linear(shape.dim, shape.dim)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to the same shape; `mask` (B, L) is False at padding."""
        query, key, value = (
            project(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # (B, M, L, D / M)
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        return attended.transpose(1, 2).flatten(2)


class _Intermediate(nn.Module):
    """The widening half of the MLP."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.dim, shape.hidden_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, D) to (B, L, `hidden_dim`)."""
        return functional.gelu(self.dense(hidden))


class _AddAndNorm(nn.Module):
    """Project back to D channels, add what came in, normalise."""

    def __init__(self, dim: int, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, shape.dim)
        self.LayerNorm = nn.LayerNorm(shape.dim, eps=shape.norm_eps)

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        """(B, L, `dim`) and (B, L, D) to (B, L, D)."""
        normalised: Tensor = self.LayerNorm(self.dense(new) + old)
        return normalised
