"""The quick look at validation cases after an epoch, on the network's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.models.probabilistic_attention import zero_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_medvlseg.core.backbones.clip_tokens import ClipTokens
    from napari_medvlseg.core.models.medclipseg import MedCLIPSeg
    from napari_medvlseg.core.training.medclipseg.data import Example

AT_ONCE = 8


class Asked:
    """Prompts to padded word pieces, each read once.

    Parameters
    ----------
    tokens : ClipTokens
    device : torch.device
    """

    def __init__(self, tokens: ClipTokens, device: torch.device) -> None:
        self._tokens, self._device = tokens, device
        self._known: dict[str, Tensor] = {}

    def __call__(
        self, prompts: Sequence[str], most: Callable[[int], int] = int
    ) -> Tensor:
        """Return ids (B, L), filled up with 0.

        Parameters
        ----------
        prompts : sequence of str
        most : callable, optional
            Takes how long the longest is, and returns how long they are to be.

        Raises
        ------
        PromptError
            If a prompt is longer than the text tower.
        """
        for prompt in prompts:
            if prompt not in self._known:
                self._known[prompt] = self._tokens.encode(prompt)
        rows = [self._known[prompt] for prompt in prompts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return functional.pad(ids, (0, most(ids.shape[1]) - ids.shape[1])).to(
            self._device
        )


def examples_dsc(
    network: MedCLIPSeg, asked: Asked, examples: Sequence[Example]
) -> float:
    """Return the mean DSC over pictures, without noise; both masks empty count 1.

    Parameters
    ----------
    network : MedCLIPSeg
    asked : Asked
    examples : sequence of Example
    """
    network.eval()
    device = network.logit_scale.device
    scores = []
    for start in range(0, len(examples), AT_ONCE):
        chunk = examples[start : start + AT_ONCE]
        ids = asked([each.prompt for each in chunk])
        pixels = torch.stack([each.picture for each in chunk]).to(device)
        with torch.inference_mode():
            image = network.encode_image(pixels.float() / 127.5 - 1)
            words, mask = network.encode_words(ids), network.word_mask(ids)
            logits = network.draw(image, words, mask, zero_noise).logits.float()
            logits = functional.interpolate(logits, image.input_size, mode="bilinear")
        for found, each in zip(logits > 0, chunk, strict=True):
            mask_of = found.cpu().numpy()
            scores.append(dice_similarity_coefficient(mask_of, each.mask.numpy()))
    return sum(scores) / len(scores)
