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
    from napari_medvlseg.core.models.medclipseg.config import MedCLIPSegConfig
    from napari_medvlseg.core.models.medclipseg.network import MedCLIPSeg

MINILM = "minilm"


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


def load_minilm(network: MedCLIPSeg) -> None:
    """Give a text tower of its size MiniLM's published weights.

    Raises
    ------
    CheckpointError
        If they are not there or damaged.
    """
    weights = load_weights(TEXT_ENCODERS[MINILM], find_text_folder(MINILM))
    network.text_model.transformer.load_state_dict(weights)
