"""What training minimises: overlap, likelihood and agreement of image and text.

Symbols: B batch, D embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.losses.dice import DiceLoss
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

DICE_SMOOTHING = 1.0
"""In pixels: an empty reference then rewards an empty prediction."""
SEGMENTATION_WEIGHT = 0.5
"""Of Dice and of BCE each (MedCLIPSeg's lambda_Seg)."""


def segmentation_loss(
    logits: Tensor, reference: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return image-wise Dice loss and BCE, in equal parts.

    Parameters
    ----------
    logits, reference : (B, 1, H, W)
    weight : (B,), optional
        Of each image; 1 by default. The sum is divided by B, not by the weights.
    """
    dice = DiceLoss(
        sigmoid=True,
        smooth_nr=DICE_SMOOTHING,
        smooth_dr=DICE_SMOOTHING,
        reduction="none",
    )
    overlap = dice(logits, reference).flatten(1).mean(dim=1)  # (B,)
    likelihood = functional.binary_cross_entropy_with_logits(
        logits, reference, reduction="none"
    )
    loss: Tensor = overlap + likelihood.flatten(1).mean(dim=1)
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
