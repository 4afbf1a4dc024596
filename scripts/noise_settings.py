"""The settings of `noise_forms.py`, and how each draws, starts and is trained.

Symbols: B batch, K tokens of the context, D channels, R directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_medvlseg.core.models.compact import Compact, CompactConfig, Pyramid
from napari_medvlseg.core.models.probabilistic_attention import (
    ProbabilisticCrossAttention,
    gaussian,
)
from napari_medvlseg.core.training.fold import depthwise_in_float32
from napari_medvlseg.core.training.losses import mixture_logits, segmentation_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLACES = 6
"""Cross-attentions, in the order of their calls: at each stride, coarse to fine, the
words look at the pixels and then the pixels at the words."""
OF_PIXELS, OF_WORDS = (0, 2, 4), (1, 3, 5)
"""Where the values that noise moves are those of pixels, and of words."""
PAPER_START = math.sqrt(math.log(2))
"""Standard deviation of a raw variance of 0."""
PRIOR_DEVIATION = 2.0
OLD_RATE = 0.2
"""Share of the learning rate of what is not made anew."""
WEIGHT_DECAY = 0.02
WARM_UP = 0.15
"""Share of the steps in which the learning rate rises."""
CLIP_NORM = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to make draws differ, and to train them."""

    label: str
    form: str = "shared"
    start: float = 0.2
    """Standard deviation of the values at first."""
    draws: int = 2
    """Of each picture a step."""
    apart: bool = False
    """Whether each draw is judged by itself instead of their mean probability."""
    places: tuple[int, ...] = tuple(range(PLACES))
    """Cross-attentions that get noise."""
    rank: int = 0
    """Directions along which a draw moves the tokens; 0 is as `form` says."""
    prior: float = 0.0
    """Weight of the divergence of the values from `PRIOR_DEVIATION`."""
    trained: bool = True
    renewed: bool = True
    """Whether the cross-attentions are made anew; else only their deviations are."""
    scale: float = 1.0
    """Of the noise when measured."""


SETTINGS = {
    "bundled": Setting(label="the bundled weights, noise as learnt", trained=False),
    "bundled-none": Setting(label="the same, one pass", form="none", trained=False),
    "bundled-4": Setting(label="the same, noise times 4", trained=False, scale=4.0),
    "bundled-10": Setting(label="the same, noise times 10", trained=False, scale=10.0),
    "bundled-10-words": Setting(
        label="the same, of words' values only",
        trained=False,
        scale=10.0,
        places=OF_WORDS,
    ),
    "bundled-10-pixels": Setting(
        label="the same, of pixels' values only",
        trained=False,
        scale=10.0,
        places=OF_PIXELS,
    ),
    "raised": Setting(
        label="the bundled weights, set to 2 and trained on", start=2.0, renewed=False
    ),
    "none": Setting(label="no noise, one pass", form="none", draws=1),
    "token-0.2": Setting(label="token, start 0.2", form="token"),
    "token": Setting(label="token, start 0.83", form="token", start=PAPER_START),
    "token-2": Setting(label="token, start 2", form="token", start=2.0),
    "start-0.05": Setting(label="shared, start 0.05", start=0.05),
    "shared": Setting(label="shared, start 0.2"),
    "start-0.5": Setting(label="shared, start 0.5", start=0.5),
    "start-0.83": Setting(label="shared, start 0.83", start=PAPER_START),
    "start-2": Setting(label="shared, start 2", start=2.0),
    "start-4": Setting(label="shared, start 4", start=4.0),
    "rank-4": Setting(label="rank 4, start 2", form="token", rank=4, start=2.0),
    "one-draw": Setting(label="shared, start 2, one draw a step", draws=1, start=2.0),
    "apart": Setting(label="shared, start 2, each draw judged", apart=True, start=2.0),
    "of-words": Setting(
        label="shared, start 2, words' values", places=OF_WORDS, start=2.0
    ),
    "of-pixels": Setting(
        label="shared, start 2, pixels' values", places=OF_PIXELS, start=2.0
    ),
    "coarse": Setting(label="shared, start 2, coarsest", places=(0, 1), start=2.0),
    "prior": Setting(label="shared, start 0.2, prior at 2", prior=0.02),
}
"""Those of other ranks, judgements and places start at 2: at 0.2 draws differ too
little to compare them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions about pictures that the encoder has seen."""

    pyramid: Pyramid
    """Of N pictures."""
    again: Tensor
    """Which of them the questions after the first N are about."""
    hidden: Tensor
    """(B, L, 384)"""
    words: Tensor
    """(B, L) bool"""
    masks: Tensor
    """(B, 1, H, W)"""
    weight: Tensor
    """(B,)"""


class Noise:
    """A setting's noise, of one seed; each draw calls it once a cross-attention."""

    def __init__(self, setting: Setting, seed: int, scale: float = 1.0) -> None:
        self.setting, self.scale = setting, scale
        self.generator = torch.Generator().manual_seed(seed)
        self.calls = 0

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Return noise of the values, (B, K, D) or (B, 1, D)."""
        place = self.calls % PLACES
        self.calls += 1
        if place not in self.setting.places:
            return torch.zeros(shape)
        rank = self.setting.rank
        if not rank:
            return self.scale * torch.randn(shape, generator=self.generator)
        batch, tokens, dim = shape
        directions = torch.randn(batch, rank, dim, generator=self.generator)
        factors = loadings(tokens, rank, is_square=place in OF_PIXELS)
        return self.scale * factors @ directions


def loadings(tokens: int, rank: int, *, is_square: bool) -> Tensor:
    """Return how far each direction moves each token, (K, R): smooth in position.

    The squares of a row sum to 1, so that every token's noise is standard normal; near
    tokens move alike.

    Parameters
    ----------
    tokens : int
        K; of a square grid, row by row, if `is_square`.
    rank : int
        R; a square number if `is_square`.
    is_square : bool
        Whether position has two axes.
    """
    sides = math.isqrt(tokens) if is_square else tokens
    waves = math.isqrt(rank) if is_square else rank
    place = (torch.arange(sides) + 0.5) / sides
    basis = torch.cos(math.pi * place[:, None] * torch.arange(waves))
    if is_square:
        basis = torch.kron(basis, basis)
    return functional.normalize(basis, dim=1)


class Deviations:
    """Listens to the standard deviations of the values of every cross-attention."""

    def __init__(self, model: Compact) -> None:
        self.heard: dict[int, Tensor] = {}
        self._sums = [0.0] * PLACES
        self._passes = [0] * PLACES
        for place, attention in enumerate(cross_attentions(model)):
            attention.to_value.register_forward_hook(partial(self._hear, place))

    def means(self) -> list[float]:
        """Return the mean over all passes, a place."""
        pairs = zip(self._sums, self._passes, strict=True)
        return [total / count for total, count in pairs]

    def divergence(self) -> Tensor:
        """Return the mean KL divergence of the last pass from a prior of equal mean."""
        ratios = torch.cat([x.flatten() for x in self.heard.values()]) / PRIOR_DEVIATION
        return ((ratios.square() - 1) / 2 - ratios.log()).mean()

    def _hear(self, place: int, _: nn.Module, __: object, output: Tensor) -> None:
        """Keep what a pass said."""
        deviation = gaussian(output.float(), nn.Identity())[1].sqrt()
        self.heard[place] = deviation
        self._sums[place] += float(deviation.detach().mean())
        self._passes[place] += 1


def network(form: str, weights: Mapping[str, Tensor]) -> Compact:
    """Return the bundled network with another form of noise, ready for a CPU."""
    model = Compact(CompactConfig(noise_form=form))
    model.load_state_dict(weights)
    depthwise_in_float32(model)
    model.eval().requires_grad_(requires_grad=False)
    return model.to(memory_format=torch.channels_last)


def cross_attentions(model: Compact) -> list[ProbabilisticCrossAttention]:
    """Return the probabilistic cross-attentions in the order of their calls."""
    return [m for m in model.modules() if isinstance(m, ProbabilisticCrossAttention)]


def renew(model: Compact, seed: int) -> None:
    """Make the cross-attentions anew, the same for every setting."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for attention in cross_attentions(model):
            for module in attention.modules():
                if isinstance(module, (nn.Linear, nn.LayerNorm)):
                    module.reset_parameters()
            nn.init.zeros_(attention.gate)


class Trainer:
    """Trains all but the image encoder of a network; its statistics stay.

    The cross-attentions, or only their deviations, are made anew first.

    Parameters
    ----------
    model : Compact
    setting : Setting
    seed : int
        Of the new weights, the order and the noise.
    steps : int
    rate : float
        Peak of the learning rate of the cross-attentions.
    """

    def __init__(
        self, model: Compact, setting: Setting, *, seed: int, steps: int, rate: float
    ) -> None:
        self.model, self.setting, self.steps = model, setting, steps
        if setting.renewed:
            renew(model, seed)
        for attention in cross_attentions(model):
            attention.start_at(setting.start)
        self.noise = Noise(setting, seed)
        self.order = torch.Generator().manual_seed(seed)
        self.deviations = Deviations(model)
        self.groups = _groups(model, rate)
        self.optimizer = torch.optim.AdamW(self.groups, weight_decay=WEIGHT_DECAY)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [group["lr"] for group in self.groups],
            steps + 1,
            pct_start=WARM_UP,
        )

    def train(self, batches: Sequence[Batch]) -> None:
        """Show all batches in turn, in a new order each time."""
        left: list[int] = []
        for _ in range(self.steps):
            left = left or torch.randperm(len(batches), generator=self.order).tolist()
            self._step(batches[left.pop()])

    def _step(self, batch: Batch) -> None:
        """Take one step of the optimiser."""
        with sdpa_kernel(SDPBackend.MATH):  # its backward pass is quicker on a CPU
            loss = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.groups:
            nn.utils.clip_grad_norm_(group["params"], CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()

    def _loss(self, batch: Batch) -> Tensor:
        """Judge the mean probability of the draws, or each draw."""
        logits = draw_logits(self.model, batch, self.setting.draws, self.noise)
        parts = logits if self.setting.apart else mixture_logits(logits)[None]
        losses = [segmentation_loss(part, batch.masks, batch.weight) for part in parts]
        loss = torch.stack(losses).mean()
        if self.setting.prior:
            loss = loss + self.setting.prior * self.deviations.divergence()
        return loss


def _groups(model: Compact, rate: float) -> list[dict[str, Any]]:
    """Return the parameters that learn: what is new, and the rest more slowly."""
    model.requires_grad_()
    for part in (model.encoder, model.lateral, model.position):
        part.requires_grad_(requires_grad=False)
    new = [p for attention in cross_attentions(model) for p in attention.parameters()]
    known = {id(p) for p in new}
    old = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": new, "lr": rate}, {"params": old, "lr": rate * OLD_RATE}]


def draw_logits(model: Compact, batch: Batch, draws: int, noise: Noise) -> Tensor:
    """Return the logits of some draws on the input's grid, (S, B, 1, H, W)."""
    with torch.autocast("cpu", torch.bfloat16):
        pyramid = batch.pyramid.and_again(batch.again).repeat(draws)
        words = model.encode_words(batch.hidden).repeat(draws, 1, 1)
        output = model.draw(pyramid, words, batch.words.repeat(draws, 1), noise)
    size = batch.masks.shape[-2:]
    logits = functional.interpolate(output.logits.float(), size, mode="bilinear")
    apart: Tensor = logits.unflatten(0, (draws, -1))
    return apart
