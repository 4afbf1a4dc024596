"""What a run begins with: the network, its towers' weights and its word pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from napari_medvlseg.core.backbones.clip_tokens import ClipTokens
from napari_medvlseg.core.backbones.minilm import HUB_ID, find_minilm
from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS, load_weights
from napari_medvlseg.core.backbones.vocabulary import (
    VOCABULARY,
    find_vocabulary,
    tokenizer_config,
    vocabulary_text,
)
from napari_medvlseg.core.bundle import WEIGHTS, model_card, verify
from napari_medvlseg.core.checkpoint_file import read_state
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.medclipseg import MedCLIPSeg, MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg.keys import WHOLE, own_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig

TOWERS = ("vision_model.", "text_model.")
_CLIP_PREFIXES = {
    "visual.": "vision_model.",
    "text_encoder.": "text_model.",
    "text.": "text_model.",
}
"""What CLIP's own files call the towers; OpenAI's text tower has no prefix there."""
_UNUSED = ("pooler.", "position_ids", "logit_scale", "logit_bias")
"""Parts of those files that no network here has."""
FILES = (".pt", ".pth", ".bin", ".safetensors")
NAMED = 4


class Start(NamedTuple):
    """The network of a run, as it begins."""

    network: MedCLIPSeg
    known: frozenset[str]
    """Keys of what did not start from random weights."""
    words: tuple[str, ...] | None
    """BERT's word pieces; None for CLIP's, which come with open_clip."""

    def freeze(self, train_encoders: bool | None) -> None:  # noqa: FBT001 - as the field
        """Let learn what is to: by default all that starts from random weights."""
        for name, parameter in self.network.named_parameters():
            tower = name.startswith(TOWERS)
            learns = not tower or (
                name not in self.known if train_encoders is None else train_encoders
            )
            parameter.requires_grad_(learns and name != "logit_scale")

    def tokens(self) -> ClipTokens:
        """Return what turns prompts into numbers."""
        config = self.network.config
        if self.words is None:
            return ClipTokens(config.text_shape, None, padded=config.compatible)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / VOCABULARY
            path.write_text(vocabulary_text(self.words), encoding="utf-8", newline="\n")
            return ClipTokens(config.text_shape, path, padded=config.compatible)


def begin(config: MedCLIPSegTrainConfig) -> Start:
    """Build the network of a run and give it the weights that it begins with.

    Raises
    ------
    CheckpointError
        If weights or a vocabulary are absent, damaged or another model's.
    """
    shape = MedCLIPSegConfig.from_dict(config.network())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = MedCLIPSeg(shape)
    known: set[str] = set()
    if config.backbone == "small":
        known |= _load(network, _minilm_state(), "MiniLM")
    if config.pretrained:
        given = _towers_of(config.pretrained)
        known |= _load(network, given, config.pretrained, whole=TOWERS)
    if config.start:
        given = _state_of(config.start)
        known |= _load(network, given, config.start, whole=("",))
    start = Start(network, frozenset(known), _words(config))
    start.freeze(config.train_encoders)
    return start


def word_file(config: MedCLIPSegTrainConfig) -> dict[str, Any]:
    """Return how a bundle of a run tells of its word pieces."""
    told = tokenizer_config(config.backbone)
    return told | {"hub_id": HUB_ID} if config.backbone == "small" else told


def _words(config: MedCLIPSegTrainConfig) -> tuple[str, ...] | None:
    """Return the word pieces of BERT, for the backbones that have it."""
    if config.backbone in ("clip", "pubmedclip"):
        return None
    if config.backbone == "small":
        tokenizer = Tokenizer.from_file(str(find_minilm() / "tokenizer.json"))
        numbers = tokenizer.get_vocab()
        return tuple(sorted(numbers, key=lambda word: numbers[word]))
    folder = Path(config.tokenizer) if config.tokenizer else None
    source = config.pretrained or config.start
    if folder is None and source and not Path(source).is_file():
        folder = model_card(source).path
    found = find_vocabulary(folder)
    if found is None:
        hub_id = tokenizer_config(config.backbone)["hub_id"]
        msg = (
            f"expected the word pieces of {hub_id} in the Hugging Face cache, found "
            f"none; copy its {VOCABULARY} to a folder and give it as --tokenizer"
        )
        raise CheckpointError(msg)
    return tuple(found)


def _minilm_state() -> dict[str, Tensor]:
    """Return MiniLM's weights under the names of the small pair's text tower."""
    state = load_weights(TEXT_ENCODERS["minilm"], find_minilm())
    return {f"text_model.transformer.{key}": value for key, value in state.items()}


def _towers_of(source: str) -> dict[str, Tensor]:
    """Return the towers of a file or a bundle."""
    state = _state_of(source)
    return {key: value for key, value in state.items() if key.startswith(TOWERS)}


def _state_of(source: str) -> dict[str, Tensor]:
    """Return the tensors of a file or a bundle under the network's names."""
    path = Path(source)
    if path.suffix == ".safetensors" and path.is_file():
        state = _read_safetensors(path)
    elif path.is_file():
        state = read_state(path)
    elif path.suffix in FILES:
        msg = f"{path}: expected a file of weights, found none; check the path"
        raise CheckpointError(msg)
    else:
        card = model_card(source)
        verify(card)
        state = _read_safetensors(card.path / WEIGHTS)
    return {
        _own_name(key): value
        for key, value in state.items()
        if not any(part in key for part in _UNUSED)
    }


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        msg = f"{path}: expected weights in the safetensors format ({error})"
        raise CheckpointError(msg) from error


def _own_name(key: str) -> str:
    """Return the network's name for a key of CLIP's file or of a checkpoint."""
    ours = (*TOWERS, "pvl_adapters.", "mask_head.", "upscale.")
    if key.startswith(ours):
        return key
    if key.startswith(WHOLE):
        return own_key(key)
    for theirs, name in _CLIP_PREFIXES.items():
        if key.startswith(theirs):
            return name + key.removeprefix(theirs)
    return f"text_model.{key}"  # OpenAI's


def _load(
    network: MedCLIPSeg,
    state: Mapping[str, Tensor],
    source: str,
    whole: Sequence[str] = (),
) -> set[str]:
    """Give a network what fits it, and return which keys that were.

    Parameters
    ----------
    network : MedCLIPSeg
    state : mapping
        Under the network's names; others are left out.
    source : str
        For messages.
    whole : sequence of str
        Beginnings of the names that must all be there.

    Raises
    ------
    CheckpointError
        If one is absent or of another shape.
    """
    wanted = network.state_dict()
    fitting = {
        key: value.float()
        for key, value in state.items()
        if key in wanted and value.shape == wanted[key].shape
    }
    lacking = [
        key
        for key in wanted
        if key.startswith(tuple(whole)) and key not in fitting and key != "logit_scale"
    ]
    if whole and lacking:
        more = len(lacking) - NAMED
        told = ", ".join(lacking[:NAMED]) + (f" and {more} more" if more > 0 else "")
        variant = network.config.variant
        msg = (
            f"{source}: expected the weights of {variant}, but {told} are absent or of "
            "another shape; choose the --backbone that they belong to"
        )
        raise CheckpointError(msg)
    network.load_state_dict(fitting, strict=False)
    return set(fitting)
