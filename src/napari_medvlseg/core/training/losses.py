"""What training minimises: overlap, likelihood and agreement of image and text.

Symbols: B batch, D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

DICE_SMOOTHING = 1.0
"""In pixels: an empty reference then rewards an empty prediction."""
SEGMENTATION_WEIGHT = 0.5
"""Of Dice and of BCE each (MedCLIPSeg's lambda_Seg)."""
HARDEST_SHARE = 0.01
"""Of the pixels: the likeliest ones where nothing is to be found."""
ABSENCE_WEIGHT = 0.5
"""Of their BCE."""


def segmentation_loss(
    logits: Tensor,
    reference: Tensor,
    weight: Tensor | None = None,
    likelihood_weight: float = 1.0,
) -> Tensor:
    """Return image-wise overlap loss and BCE, half of each.

    For a reference of 0 and 1 the overlap loss is the Dice loss. For one between them
    it is least where the probability equals it, which the Dice loss is not: the
    "Dice semimetric loss" of Wang et al. (MICCAI 2023). Where nothing is to be found,
    the BCE of the likeliest pixels counts too, for the Dice loss there is flat.

    Parameters
    ----------
    logits, reference : (B, 1, H, W)
    weight : (B,), optional
        Of each image; 1 by default. The sum is divided by B, not by the weights.
    likelihood_weight : float
        Of BCE, beside 1 for the overlap.
    """
    found, there = logits.sigmoid().flatten(1), reference.flatten(1)  # (B, H W)
    both, apart = (found + there).sum(dim=1), (found - there).abs().sum(dim=1)
    overlap = 1 - (both - apart + DICE_SMOOTHING) / (both + DICE_SMOOTHING)
    pixelwise = functional.binary_cross_entropy_with_logits(
        logits, reference, reduction="none"
    ).flatten(1)
    likelihood = pixelwise.mean(dim=1) * likelihood_weight
    count = max(1, round(HARDEST_SHARE * pixelwise.shape[1]))
    hardest = pixelwise.topk(count, dim=1).values.mean(dim=1)
    empty = (there.amax(dim=1) == 0).float()
    loss = overlap + likelihood + ABSENCE_WEIGHT * empty * hardest
    if weight is not None:
        loss = loss * weight
    return SEGMENTATION_WEIGHT * loss.mean()


def soft_contrastive_loss(vision: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return MedCLIPSeg's soft patch-level contrastive loss (equations 20 to 22).

    Parameters
    ----------
    vision, text : (B, D)
        L2-normalised.
    temperature : float
        tau.
    """
    target = (text.detach() @ text.detach().mT / temperature).softmax(dim=-1)
    text_to_vision = text @ vision.mT / temperature
    vision_to_text = vision @ text.mT / temperature
    return 0.5 * (
        functional.cross_entropy(text_to_vision, target)
        + functional.cross_entropy(vision_to_text, target.mT)
    )


def mixture_logits(logits: Tensor) -> Tensor:
    """Return the logits of the mean probability of some draws.

    A loss on them is a proper score of the mixture: unlike the mean loss of single
    draws it does not punish draws that differ where the answer is uncertain.

    Parameters
    ----------
    logits : (M, B, 1, H, W)

    Returns
    -------
    (B, 1, H, W)
    """
    # The 1 / M of both means cancels in the difference.
    inside = functional.logsigmoid(logits).logsumexp(dim=0)
    outside = functional.logsigmoid(-logits).logsumexp(dim=0)
    return inside - outside
