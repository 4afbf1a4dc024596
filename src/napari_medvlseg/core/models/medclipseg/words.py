"""Prompts of the 3D network: BERT's word pieces, and a small BERT that is installed.

MiniLM has the vocabulary of bert-base-uncased, which M3D-CLIP's text tower reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_medvlseg.core.backbones.text_encoders import (
    TEXT_ENCODERS,
    TextTokenizer,
    find_text_folder,
    load_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig

MINILM = "minilm"
BERT = "text_model.transformer."
"""What precedes BERT's names in the network."""


def bert_tokenizer(config: MedCLIPSegConfig) -> TextTokenizer:
    """Return what cuts prompts into the word pieces of bert-base-uncased.

    Raises
    ------
    CheckpointError
        If MiniLM is neither installed nor cached.
    """
    spec = TEXT_ENCODERS[MINILM]
    shape = replace(spec.shape, positions=config.text_shape.max_tokens)
    return TextTokenizer(replace(spec, shape=shape), find_text_folder(MINILM))


def minilm_weights() -> dict[str, Tensor]:
    """Return MiniLM's published weights, by the names that BERT gives.

    Raises
    ------
    CheckpointError
        If they are not there or damaged.
    """
    return load_weights(TEXT_ENCODERS[MINILM], find_text_folder(MINILM))
