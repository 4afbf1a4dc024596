"""From adapted tokens to a mask: upscaled patches meet the text's vector.

Symbols: B batch, E shared channels, h x w patches, or in 3D (`spatial`) one axis more.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class ScaleBlock(nn.Module):
    """Double the grid of patches along each of its 2 or 3 axes."""

    def __init__(self, dim: int, axes: int = 2) -> None:
        super().__init__()
        flat = axes == 2
        doubling = nn.ConvTranspose2d if flat else nn.ConvTranspose3d
        smoothing = nn.Conv2d if flat else nn.Conv3d
        self.conv1 = doubling(dim, dim, kernel_size=2, stride=2)
        self.conv2 = smoothing(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, E, *spatial) to twice as many along each axis."""
        doubled = self.conv2(functional.gelu(self.conv1(patches)))
        normed: Tensor = self.norm(doubled.movedim(1, -1)).movedim(-1, 1)
        return normed


def enlarge(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring logits (B, C, *spatial) to the input's size: bilinear, or trilinear."""
    if logits.shape[2:] == size:
        return logits
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(logits, size, mode=mode, align_corners=False)


def mask_head(dim: int, outputs: int) -> nn.Sequential:
    """Return the MLP from the text's vector (B, E) to `outputs` of a kind (B, -1)."""
    return nn.Sequential(
        nn.Linear(dim, dim),
        nn.GELU(),
        nn.Linear(dim, dim),
        nn.GELU(),
        nn.Linear(dim, outputs * dim),
    )


class BetaBelief(NamedTuple):
    """What an evidential head believes of every pixel: a Beta distribution.

    References
    ----------
    Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty,
    2018; the paper's appendix S.
    """

    against: Tensor
    """Pseudo-counts of background, 1 without evidence."""
    support: Tensor
    """Pseudo-counts of what the prompt names, 1 without evidence."""

    @classmethod
    def of(cls, logits: Tensor) -> BetaBelief:
        """Return the belief that two evidential logits (B, 2, *spatial) stand for."""
        counts = functional.softplus(logits.float()) + 1
        return cls(counts[:, :1], counts[:, 1:])

    def enlarged(self, size: tuple[int, ...]) -> BetaBelief:
        """Return the belief on a finer grid, its counts interpolated."""
        return BetaBelief(enlarge(self.against, size), enlarge(self.support, size))

    @property
    def probability(self) -> Tensor:
        """The mean, (B, 1, *spatial)."""
        return self.support / (self.support + self.against)

    @property
    def vacuity(self) -> Tensor:
        """The share of belief without evidence, 0 to 1."""
        return 2 / (self.support + self.against)

    @property
    def logits(self) -> Tensor:
        """The log odds of the mean, (B, 1, *spatial)."""
        return self.support.log() - self.against.log()

    @property
    def expected_entropy(self) -> Tensor:
        """The mean entropy in nats of a probability drawn from the belief."""
        total = self.support + self.against
        share = self.probability
        return (total + 1).digamma() - (
            share * (self.support + 1).digamma()
            + (1 - share) * (self.against + 1).digamma()
        )
