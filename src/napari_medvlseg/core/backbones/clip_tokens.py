"""Prompts to the numbers of CLIP's and BiomedBERT's word pieces."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from open_clip.tokenizer import SimpleTokenizer, basic_clean, whitespace_clean
from tokenizers import BertWordPieceTokenizer

from napari_medvlseg.core.errors import CheckpointError, PromptError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_medvlseg.core.backbones.tower_shapes import TextShape

VOCABULARY = "vocab.txt"
BERT_SOURCE = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"


class ClipTokens:
    """Token ids of prompts, for one text tower.

    Parameters
    ----------
    shape : TextShape
    vocabulary : Path, optional
        BERT's ``vocab.txt``; without it CLIP's vocabulary counts, which open_clip
        carries.
    padded : bool
        Whether ids are filled up with 0 to the tower's full length.

    Raises
    ------
    CheckpointError
        If the vocabulary is absent or larger than the tower's.
    """

    def __init__(
        self, shape: TextShape, vocabulary: Path | None, *, padded: bool
    ) -> None:
        self._shape, self._padded = shape, padded
        self._bert = None if vocabulary is None else _bert_tokenizer(vocabulary)
        size = _clip_tokenizer().vocab_size
        if self._bert is not None:
            size = self._bert.get_vocab_size()
        if size > shape.vocabulary:
            msg = (
                f"expected a vocabulary of at most {shape.vocabulary} word pieces, got "
                f"{size}; {VOCABULARY} belongs to another model"
            )
            raise CheckpointError(msg)

    def encode(self, prompt: str) -> Tensor:
        """Return the ids of a prompt, (L,).

        Raises
        ------
        PromptError
            If the prompt is longer than the tower.
        """
        ids = self._ids(whitespace_clean(basic_clean(prompt)))
        longest = self._shape.max_tokens
        if len(ids) > longest:
            msg = (
                f"expected a prompt of at most {longest} word pieces, got {len(ids)}; "
                "describe one structure in a sentence or two"
            )
            raise PromptError(msg)
        fill = [0] * (longest - len(ids)) if self._padded else []
        return torch.tensor(ids + fill)

    def _ids(self, text: str) -> list[int]:
        """Return the numbers of the word pieces, framed by the special ones."""
        if self._bert is not None:
            ids: list[int] = self._bert.encode(text).ids
            return ids
        clip = _clip_tokenizer()
        return [clip.sot_token_id, *clip.encode(text), clip.eot_token_id]


@cache
def _clip_tokenizer() -> Any:
    """Return CLIP's tokenizer."""
    return SimpleTokenizer()


def _bert_tokenizer(vocabulary: Path) -> Any:
    """Return the tokenizer of an uncased BERT with these word pieces."""
    if not vocabulary.is_file():
        msg = (
            f"{vocabulary}: expected the word pieces of the text tower, found none; "
            f"copy {VOCABULARY} of {BERT_SOURCE} (Hugging Face) there"
        )
        raise CheckpointError(msg)
    try:
        return BertWordPieceTokenizer.from_file(str(vocabulary), lowercase=True)
    except Exception as error:  # tokenizers raises nothing narrower
        msg = f"{vocabulary}: expected one word piece a line ({error})"
        raise CheckpointError(msg) from error
