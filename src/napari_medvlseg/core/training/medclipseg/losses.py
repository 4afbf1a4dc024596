"""What MedCLIPSeg's training minimises: equations 20 to 23, and their ablations.

Symbols: B batch, E embedding, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.losses.dice import DiceLoss
from torch.nn import functional

from napari_medvlseg.core.training.losses import DICE_SMOOTHING, soft_contrastive_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_medvlseg.core.models.medclipseg.head import BetaBelief
    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSegOutput
    from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig

KL_EPOCHS = 10
"""Epochs in which the evidential regulariser rises to its full weight (Sensoy)."""


def no_others(rows: Tensor) -> Tensor:
    """Return the rows: there are no other processes."""
    return rows


def medclipseg_loss(
    output: MedCLIPSegOutput,
    reference: Tensor,
    config: MedCLIPSegTrainConfig,
    epoch: int,
    *,
    weight: float = 1.0,
    gather: Callable[[Tensor], Tensor] = no_others,
) -> Tensor:
    """Return the weighted sum of Dice, cross-entropy and contrastive loss.

    Of one of several processes it returns what has the whole batch's loss as its mean
    over them.

    Parameters
    ----------
    output : MedCLIPSegOutput
        Maps of any size: they are enlarged to the reference's.
    reference : (B, 1, H, W)
        0 or 1.
    config : MedCLIPSegTrainConfig
    epoch : int
        From 0.
    weight : float, optional
        Of what is a mean over these rows alone.
    gather : callable, optional
        Takes embeddings of these rows and returns those of all processes.
    """
    size = (reference.shape[-2], reference.shape[-1])
    if output.belief is not None:
        belief = output.belief.enlarged(size)
        logits = belief.logits
        entropy = evidential_loss(belief, reference, min(1.0, epoch / KL_EPOCHS))
    else:
        logits = functional.interpolate(output.logits.float(), size, mode="bilinear")
        entropy = functional.binary_cross_entropy_with_logits(logits, reference)
    dice = rowwise_dice_loss if config.compatible else dice_loss
    segmented = dice(logits, reference) + entropy
    agreement = contrastive_loss(output, config, gather)
    weighted: Tensor = (
        weight * config.segmentation_weight * segmented
        + config.contrastive_weight * agreement
    )
    return weighted


def dice_loss(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the mean Dice loss of images (B, 1, H, W).

    Smoothed by a pixel, so that an empty reference rewards an empty answer.
    """
    dice = DiceLoss(sigmoid=True, smooth_nr=DICE_SMOOTHING, smooth_dr=DICE_SMOOTHING)
    loss: Tensor = dice(logits, reference)
    return loss


def rowwise_dice_loss(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the authors' Dice loss: of each row of pixels but the first.

    They hand (B, H, W) to a loss that takes the second axis for channels, of which the
    first is the background and left out.
    """
    dice = DiceLoss(include_background=False, sigmoid=True)
    loss: Tensor = dice(logits[:, 0], reference[:, 0])
    return loss


def contrastive_loss(
    output: MedCLIPSegOutput,
    config: MedCLIPSegTrainConfig,
    gather: Callable[[Tensor], Tensor] = no_others,
) -> Tensor:
    """Return how far pictures and prompts are from matching as prompts do.

    Parameters
    ----------
    output : MedCLIPSegOutput
    config : MedCLIPSegTrainConfig
    gather : callable, optional
        Takes embeddings of these rows and returns those of all processes.
    """
    vision = gather(output.vision_embedding.float())
    text = gather(output.text_embedding.float())
    if config.compatible and not config.hard_targets:
        return authors_contrastive_loss(vision, text, config.temperature)
    if not config.compatible:
        vision = functional.normalize(vision, dim=-1)
        text = functional.normalize(text, dim=-1)
    if config.hard_targets:
        return hard_contrastive_loss(vision, text, config.temperature)
    return soft_contrastive_loss(vision, text, config.temperature)


def hard_contrastive_loss(vision: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Return CLIP's loss: of all prompts of the batch only its own fits a picture.

    Parameters
    ----------
    vision, text : (B, E)
    temperature : float
    """
    own = torch.arange(len(vision), device=vision.device)
    logits = vision @ text.mT / temperature
    return 0.5 * (
        functional.cross_entropy(logits, own) + functional.cross_entropy(logits.mT, own)
    )


def authors_contrastive_loss(
    vision: Tensor, text: Tensor, temperature: float
) -> Tensor:
    """Return the soft contrastive loss as the authors' code has it.

    The text is not normalised; rows of the targets' logits are, so that the temperature
    cancels in them; and the two directions have each other's targets.

    Parameters
    ----------
    vision, text : (B, E)
    temperature : float
        tau.
    """
    with torch.no_grad():
        likeness = functional.normalize(text @ text.mT / temperature, dim=-1)
        target = likeness.softmax(dim=-1)
    from_vision = vision @ text.mT / temperature
    return 0.5 * (
        functional.cross_entropy(from_vision, target)
        + functional.cross_entropy(from_vision.mT, target.mT)
    )


def evidential_loss(belief: BetaBelief, reference: Tensor, kl_weight: float) -> Tensor:
    """Return the cross-entropy expected under the belief, and a price of errors.

    E[-ln p] = digamma(a + b) - digamma(own count); the price is the divergence from a
    uniform belief once the evidence for the right answer is taken away.

    Parameters
    ----------
    belief : BetaBelief
    reference : (B, 1, H, W)
        0 or 1.
    kl_weight : float
        Of the price.

    References
    ----------
    Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty,
    2018, equations 4 and 5. The paper's appendix S does not tell its loss.
    """
    support, against = belief.support, belief.against
    own = torch.where(reference > 0.5, support, against)
    expected = (support + against).digamma() - own.digamma()
    wrong = torch.where(reference > 0.5, against, support)
    # KL(Beta(wrong, 1) || Beta(1, 1)) = ln w + 1 / w - 1
    price = wrong.log() + 1 / wrong - 1
    loss: Tensor = (expected + kl_weight * price).mean()
    return loss
