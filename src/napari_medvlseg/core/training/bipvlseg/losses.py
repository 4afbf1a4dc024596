"""What BiPVL-Seg's training minimises: equations 1 and 3 to 15.

Symbols: B images, N classes, K concepts of a class, E embedding, C channels of the
logits (N, and one for the background if the classes exclude one another).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from napari_medvlseg.core.models.probabilistic_attention import NoiseSource
    from napari_medvlseg.core.training.bipvlseg.config import AlignmentSettings

NEVER = -1e4
"""Whose exponential is 0, without the NaN that -inf has in some gradients."""


def segmentation_loss(
    logits: Tensor, reference: Tensor, *, overlapping: bool = False
) -> Tensor:
    """Return Dice plus cross-entropy (equations 1, 11 to 13).

    Parameters
    ----------
    logits : (B, C, *spatial)
    reference : (B, 1, *spatial) or (B, C, *spatial)
        Labels, 0 the background; for overlapping classes a mask of 0 and 1 each.
    overlapping : bool
        Whether classes may overlap.
    """
    if overlapping:
        dice = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=0.0)
        entropy = functional.binary_cross_entropy_with_logits(logits, reference)
        both: Tensor = dice(logits, reference) + entropy
        return both
    dice = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True)
    entropy = functional.cross_entropy(logits, reference[:, 0].long())
    total: Tensor = dice(logits, reference) + entropy
    return total


def class_embedding_loss(
    class_maps: Tensor, logits: Tensor, *, overlapping: bool = False
) -> Tensor:
    """Return how far the encoder's class maps are from the decoder's (equation 3).

    The decoder's logits are the teacher: they are averaged down to the grid of the
    maps, and no gradient flows back into them.

    Parameters
    ----------
    class_maps : (B, C, i, j, k)
    logits : (B, C, I, J, K)
    overlapping : bool
    """
    one, two, three = class_maps.shape[2:]
    coarse = functional.adaptive_avg_pool3d(logits.detach(), (one, two, three))
    if overlapping:
        return functional.binary_cross_entropy_with_logits(class_maps, coarse.sigmoid())
    return functional.cross_entropy(class_maps, coarse.softmax(dim=1))


def aggregate(seen: Tensor, said: Tensor, present: Tensor) -> Tensor:
    """Weigh each class's concepts by their likeness to its image (equation 4).

    Parameters
    ----------
    seen : (B, N, E)
        V', L2-normalised.
    said : (N, K, E)
        t', L2-normalised. The equation's sum has the unprojected t_k, which could not
        be compared with V in equation 5.
    present : (N, K) bool
        False where a class lacks a concept.

    Returns
    -------
    (B, N, E)
        T
    """
    likeness = torch.einsum("bne,nke->bnk", seen, said)
    weight = likeness.masked_fill(~present, -torch.inf).softmax(dim=-1)
    return torch.einsum("bnk,nke->bne", weight, said)


def info_nce(similarity: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of -log softmax of the diagonal (equation 6).

    Parameters
    ----------
    similarity : (..., N, N)
    temperature : float
    """
    own = torch.diagonal(similarity, dim1=-2, dim2=-1) / temperature
    return ((similarity / temperature).logsumexp(dim=-1) - own).mean()


def hard_info_nce(
    similarity: Tensor, settings: AlignmentSettings, rows: Tensor | None = None
) -> Tensor:
    """Return the loss against the most similar wrong classes (equation 7).

    Parameters
    ----------
    similarity : (..., N, N)
        The right class is on the diagonal.
    settings : AlignmentSettings
    rows : (..., N) bool, optional
        Rows that count, and columns that are no negatives where False; all by default.
    """
    size = similarity.shape[-1]
    wrong = ~torch.eye(size, dtype=torch.bool, device=similarity.device)
    if rows is not None:
        wrong = wrong & rows[..., None, :]
    scaled = similarity / settings.temperature
    others = scaled.masked_fill(~wrong, NEVER)
    hardest = others.topk(min(settings.negatives, size - 1), dim=-1).values
    own = torch.diagonal(scaled, dim1=-2, dim2=-1)
    if settings.positive_in_sum:
        hardest = torch.cat([hardest, own[..., None]], dim=-1)
    counts = wrong.any(dim=-1).expand(own.shape)
    if rows is not None:
        counts = counts & rows
    if not bool(counts.any()):
        return similarity.new_zeros(())
    return (hardest.logsumexp(dim=-1) - own)[counts].mean()


def alignment_loss(
    seen: Tensor,
    said: Tensor,
    present: Tensor,
    settings: AlignmentSettings,
    noise: NoiseSource,
) -> Tensor:
    """Return the global and the local alignment, weighted (equations 4 to 9).

    Parameters
    ----------
    seen : (B, N, E)
        V', L2-normalised.
    said : (N, K, E)
        t', L2-normalised.
    present : (N, K) bool
    settings : AlignmentSettings
    noise : callable
        Asked for (B, N, E) twice by the global alignment and for (B, N, E) and
        (B, K, N, E) by the local one.
    """
    total = seen.new_zeros(())
    if settings.global_weight:
        image = _perturbed(seen, settings, noise)
        text = _perturbed(aggregate(seen, said, present), settings, noise)
        similarity = _cosines(image, text)  # (B, N, N), V to T
        both = info_nce(similarity, settings.temperature)
        both = both + info_nce(similarity.mT, settings.temperature)
        total = total + settings.global_weight * 0.5 * both
    if settings.local_weight:
        local = _local_loss(seen, said, present, settings, noise)
        total = total + settings.local_weight * local
    return total


def _local_loss(
    seen: Tensor,
    said: Tensor,
    present: Tensor,
    settings: AlignmentSettings,
    noise: NoiseSource,
) -> Tensor:
    """Average both directions over the concepts (equation 8)."""
    image = _perturbed(seen, settings, noise)[:, None]  # (B, 1, N, E)
    concepts = said.transpose(0, 1).expand(len(seen), -1, -1, -1)  # (B, K, N, E)
    text = _perturbed(concepts, settings, noise)
    similarity = _cosines(text, image)  # (B, K, N, N), t_k to V
    losses = []
    for concept in range(said.shape[1]):
        one, rows = similarity[:, concept], present[:, concept].expand(len(seen), -1)
        there = hard_info_nce(one, settings, rows)
        losses.append(0.5 * (there + hard_info_nce(one.mT, settings, rows)))
    return torch.stack(losses).mean()


class TaskWeights(nn.Module):
    """Balances the tasks by their homoscedastic uncertainty (equation 15)."""

    def __init__(self, tasks: int = 3) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses: Tensor) -> Tensor:
        """Return sum of L_i / (2 sigma_i^2) + log sigma_i of losses (tasks,)."""
        weights = 0.5 * torch.exp(-2 * self.log_sigma)
        total: Tensor = (weights * losses + self.log_sigma).sum()
        return total


def _perturbed(
    embeddings: Tensor, settings: AlignmentSettings, noise: NoiseSource
) -> Tensor:
    """Add a little noise, so that embeddings do not become sure too early."""
    if not settings.noise:
        return embeddings
    added = noise(tuple(embeddings.shape)).to(embeddings)
    return embeddings + settings.noise * added


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosine of each row with each column (equation 5)."""
    unit = functional.normalize(rows, dim=-1)
    return unit @ functional.normalize(columns, dim=-1).mT
