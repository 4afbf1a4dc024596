"""Cross-attention whose keys and values are Gaussian (MedCLIPSeg, equations 4-13).

Symbols: B batch, Q query tokens, K context tokens, D channels, M heads, E = D / M.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medvlseg.core.config import NOISE_FORMS

NoiseSource: TypeAlias = Callable[[tuple[int, ...]], Tensor]
"""Returns standard normal noise of the shape asked for: (B, K, D) or (B, 1, D)."""

VARIANCE_FLOOR = 1e-6
SHARED_DEVIATION = 0.2
"""Where the values' standard deviation starts if noise is shared: nothing averages it
away, and the values themselves have a standard deviation of 1."""


def zero_noise(shape: tuple[int, ...]) -> Tensor:
    """Return zeros: the draw at the mean of every value."""
    return torch.zeros(shape)


class Prepared(NamedTuple):
    """What no noise touches of an attention."""

    weight: Tensor
    """(B, M, Q, K)"""
    mean: Tensor
    variance: Tensor
    """Of the values, (B, K, D) each."""
    kept: Tensor
    """What the gate mixes with, (B, Q, D)."""

    def expand(self, batch: int) -> Prepared:
        """Repeat what was prepared once for a batch of draws without copying it."""
        return Prepared(*(x.expand(batch, *x.shape[1:]) for x in self))


class Gathered(NamedTuple):
    """The same with the values already weighed, so that no draw sees a token."""

    mean: Tensor
    deviation: Tensor
    """Of the weighed values, (B, Q, D) each."""
    kept: Tensor

    def expand(self, batch: int) -> Gathered:
        """Repeat what was gathered once for a batch of draws without copying it."""
        return Gathered(*(x.expand(batch, *x.shape[1:]) for x in self))


class ProbabilisticCrossAttention(nn.Module):
    """Attend from a query sequence to a Gaussian context, behind a residual gate.

    The score of a key is its mean similarity less ``uncertainty_penalty`` standard
    deviations; the values are drawn from their distribution with the given noise.

    Parameters
    ----------
    dim : int
        Channels of query, context and result.
    heads : int
        1 is the paper's form.
    uncertainty_penalty : float
        The paper's beta, 2.35 there; 0 is ordinary attention.
    noise_form : str
        How draws differ. ``token``: every token's value moves by itself, the paper's
        form, which attention over many tokens averages away: with K equal weights its
        spread is sqrt(K) times smaller. ``shared``: a draw moves all tokens of the
        context along one direction, each by its own standard deviation. ``dropout``:
        a draw sets channels of the values to nothing (Monte Carlo dropout, to compare
        with). ``none``: not at all.
    dropout : float
        The probability with which ``dropout`` does that.
    noise_scale : float
        Factor of the values' standard deviations as they are drawn; 1 is the paper's
        form.

    References
    ----------
    Koleilat et al., MedCLIPSeg, section 3.2, equations 4 to 13.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 1,
        uncertainty_penalty: float = 2.35,
        noise_form: str = "token",
        dropout: float = 0.1,
        noise_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if noise_form not in NOISE_FORMS:
            msg = f"expected one of {', '.join(NOISE_FORMS)}, got {noise_form!r}"
            raise ValueError(msg)
        if not 0 <= noise_scale < math.inf:
            msg = f"expected a noise_scale of 0 or more, got {noise_scale!r}"
            raise ValueError(msg)
        self.noise_form = noise_form
        self.noise_scale = noise_scale
        self.dropout = dropout
        self.heads = heads
        self.uncertainty_penalty = uncertainty_penalty
        self.to_query = nn.Linear(dim, dim)
        self.to_key = nn.Linear(dim, 2 * dim)
        self.to_value = nn.Linear(dim, 2 * dim)
        self.to_output = nn.Linear(dim, dim)
        self.norm_key = nn.LayerNorm(dim)
        self.norm_value = nn.LayerNorm(dim)
        self.gate = nn.Parameter(torch.zeros(()))
        if noise_form == "shared":
            self.start_at(SHARED_DEVIATION)

    def start_at(self, deviation: float) -> None:
        """Set the values' standard deviation of an untrained attention.

        Parameters
        ----------
        deviation : float
            More than 0; the values themselves start with 1.
        """
        raw = math.log(math.expm1(deviation**2))  # softplus, undone
        bias = self.to_value.bias
        nn.init.constant_(bias[len(bias) // 2 :], raw)

    @property
    def is_quiet(self) -> bool:
        """Whether no draw moves the values, so that no noise is asked for."""
        return self.noise_form == "none" or self.noise_scale == 0

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        noise: NoiseSource,
        *,
        residual: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the gated mixture of the attended values and the residual.

        Parameters
        ----------
        query : (B, Q, D)
        context : (B, K, D)
        noise : callable
            Gives the noise of the values: (B, K, D) for tokens, else (B, 1, D).
        residual : (B, Q, D), optional
            What the gate mixes with; the query itself by default.
        context_mask : (B, K) bool, optional
            False where the context is padding.

        Returns
        -------
        (B, Q, D)
        """
        prepared = self.prepare(
            query, context, residual=residual, context_mask=context_mask
        )
        return self.attend(prepared, noise)

    def prepare(
        self,
        query: Tensor,
        context: Tensor,
        *,
        residual: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Prepared:
        """Return what no noise touches, for many draws of the same query and context.

        Parameters
        ----------
        query : (B, Q, D)
        context : (B, K, D)
        residual : (B, Q, D), optional
        context_mask : (B, K) bool, optional
        """
        q = self._split(self.to_query(query))  # (B, M, Q, E)
        key_mean, key_var = gaussian(self.to_key(context), self.norm_key)
        weight = self._weights(
            q, self._split(key_mean), self._split(key_var), context_mask
        )
        mean, variance = gaussian(self.to_value(context), self.norm_value)
        return Prepared(weight, mean, variance, query if residual is None else residual)

    def gather(self, prepared: Prepared) -> Prepared | Gathered:
        """Weigh the values before they are drawn, where that changes no draw.

        It does not where all tokens of a draw share their noise, or have none: the
        weighted mean of ``mean + deviation * noise`` is that of the means, and that
        of the deviations times the noise.
        """
        if self.noise_form == "token":
            return prepared
        weight, kept = prepared.weight, prepared.kept
        deviation = self._deviation(prepared)
        return Gathered(
            self._weighted(weight, prepared.mean),
            self._weighted(weight, deviation),
            kept,
        )

    def attend(self, prepared: Prepared | Gathered, noise: NoiseSource) -> Tensor:
        """Return one draw of what was prepared, (B, Q, D)."""
        if isinstance(prepared, Gathered):
            attended = self._values(prepared.mean, prepared.deviation, noise)
        else:
            value = self._values(prepared.mean, self._deviation(prepared), noise)
            attended = self._weighted(prepared.weight, value)
        gate = self.gate.sigmoid()
        mixed: Tensor = gate * self.to_output(attended) + (1 - gate) * prepared.kept
        return mixed

    def _deviation(self, prepared: Prepared) -> Tensor:
        """Return how far one standard deviation of the noise moves values."""
        deviation = prepared.variance.sqrt()
        return deviation if self.noise_scale == 1 else self.noise_scale * deviation

    def _weighted(self, weight: Tensor, value: Tensor) -> Tensor:
        """Return weighted means of the values (B, K, D), (B, Q, D)."""
        weighted: Tensor = weight @ self._split(value)
        return weighted.transpose(1, 2).flatten(2)

    def _values(self, mean: Tensor, deviation: Tensor, noise: NoiseSource) -> Tensor:
        """Return the values of a draw, (B, K, D) (equations 9 and 10)."""
        if self.is_quiet:
            return mean
        batch, tokens, dim = mean.shape
        shape = (batch, tokens if self.noise_form == "token" else 1, dim)
        epsilon = noise(shape).to(mean)
        if self.noise_form == "dropout":
            return mean * _dropout_mask(epsilon, self.dropout)
        return mean + deviation * epsilon

    def _weights(
        self, q: Tensor, key_mean: Tensor, key_var: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return softmax(S_mu - beta S_sigma), (B, M, Q, K) (equations 7 and 8)."""
        size = q.shape[-1]
        score = q @ key_mean.mT / math.sqrt(size)
        variance = q.square() @ key_var.mT / size
        score = score - self.uncertainty_penalty * (variance + VARIANCE_FLOOR).sqrt()
        if mask is not None:
            score = score.masked_fill(~mask[:, None, None, :], -torch.inf)
        weight: Tensor = score.softmax(dim=-1)
        return weight

    def _split(self, tokens: Tensor) -> Tensor:
        """Split the channels into heads: (B, T, D) to (B, M, T, E)."""
        split: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return split


def _dropout_mask(noise: Tensor, rate: float) -> Tensor:
    """Return 0 with probability `rate` and else 1 / (1 - rate); 1 without noise."""
    quantile = torch.special.ndtri(torch.tensor(rate)).item()
    kept = (noise > quantile).to(noise) / (1 - rate)
    return torch.where(noise == 0, 1.0, kept)


def gaussian(parameters: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Split a projection into a normalised mean and a positive variance."""
    mean, raw = parameters.chunk(2, dim=-1)
    return norm(mean), _softplus(raw) + VARIANCE_FLOOR


def _softplus(raw: Tensor) -> Tensor:
    """Return log(1 + exp(raw)); on a processor, torch's is slow in half precision."""
    if raw.device.type == "cpu":
        return functional.softplus(raw.float()).to(raw.dtype)
    return functional.softplus(raw)
