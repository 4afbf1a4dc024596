"""What a run begins with: weights from CLIP's files, checkpoints and bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from napari_medvlseg.core.backbones.minilm import find_minilm
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.models.medclipseg import MedCLIPSegConfig
from napari_medvlseg.core.training.medclipseg.config import (
    BACKBONES,
    MedCLIPSegTrainConfig,
)
from napari_medvlseg.core.training.medclipseg.start import begin
from tests.core.medclipseg_training.conftest import tiny
from tests.small_checkpoint import save_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def _towers(backbone: str, tokenizer: str = "") -> dict[str, Tensor]:
    """Return towers of other random weights than a run begins with."""
    start = begin(tiny(backbone=backbone, tokenizer=tokenizer, seed=9))
    return {
        name: value
        for name, value in start.network.state_dict().items()
        if name.startswith(("vision_model.", "text_model."))
    }


def _as_clip(state: dict[str, Tensor], text: str) -> dict[str, Tensor]:
    """Return the names of CLIP's own files."""
    return {
        name.replace("vision_model.", "visual.").replace("text_model.", text): value
        for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("backbone", "text"),
    [("clip", ""), ("biomedclip", "text."), ("unimedclip", "text_encoder.")],
)
def test_the_towers_of_clips_own_file_are_taken_and_frozen(
    tmp_path: Path, backbone: str, text: str
) -> None:
    words = str(save_vocabulary(tmp_path / "words"))
    towers = _towers(backbone, words)
    unused = {
        "logit_scale": torch.tensor(4.6),
        f"{text}transformer.pooler.x": torch.ones(2),
    }
    held = {**_as_clip(towers, text), **unused}
    path = tmp_path / "clip.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in held.items()}}, path)
    start = begin(tiny(backbone=backbone, pretrained=str(path), tokenizer=words))
    state = start.network.state_dict()
    for name, value in towers.items():
        torch.testing.assert_close(state[name], value, msg=name)
    learning = {
        name.split(".")[0]
        for name, p in start.network.named_parameters()
        if p.requires_grad
    }
    assert learning == {"pvl_adapters", "mask_head", "upscale"}
    encoded = start.tokens().encode("word3 polyp")
    assert (encoded[:2].tolist() == [2, 8]) == (backbone != "clip")


def test_weights_of_another_clip_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    towers = _towers("clip")
    towers["vision_model.proj"] = torch.zeros(3, 3)
    save_file({k: v.contiguous() for k, v in towers.items()}, path)
    with pytest.raises(
        CheckpointError, match=r"weights of clip, but vision_model\.proj"
    ):
        begin(tiny(pretrained=str(path)))
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="safetensors format"):
        begin(tiny(pretrained=str(path)))
    with pytest.raises(CheckpointError, match="a file of weights, found none"):
        begin(tiny(pretrained="absent.pt"))


def test_without_word_pieces_it_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"copy its vocab\.txt .* --tokenizer"):
        begin(tiny(backbone="unimedclip"))


def test_the_small_pair_reads_with_minilm_and_learns_to_see() -> None:
    start = begin(BACKBONES["small"])
    learning = [n for n, p in start.network.named_parameters() if p.requires_grad]
    towers = {n for n in learning if n.startswith(("vision_model.", "text_model."))}
    vision = {n for n, _ in start.network.named_parameters() if n.startswith("vision")}
    assert towers == vision | {"text_model.proj.0.weight", "text_model.proj.2.weight"}
    prompt = "One polyp, in the left"
    theirs = Tokenizer.from_file(str(find_minilm() / "tokenizer.json"))
    theirs.no_padding()
    assert start.tokens().encode(prompt).tolist() == theirs.encode(prompt).ids


def test_the_defaults_are_the_papers() -> None:
    config = MedCLIPSegTrainConfig()
    network = MedCLIPSegConfig.from_dict(config.network())
    assert network == MedCLIPSegConfig().as_paper()
    assert (config.batch_size, config.epochs, config.learning_rate) == (24, 100, 3e-4)
    assert (config.segmentation_weight, config.contrastive_weight) == (0.5, 0.1)
    assert (config.temperature, config.hard_targets) == (0.2, False)


@pytest.mark.parametrize(
    ("choices", "changed"),
    [
        ({"compatible": True}, {"compatible": True}),
        ({"adapters": False}, {"adapters": False}),
        ({"layers": (2, 3)}, {"layers": (2, 3)}),
        ({"adapter_dim": 64}, {"adapter_dim": 64}),
        ({"cross_attention": False}, {"cross_attention": False}),
        ({"deterministic": True}, {"deterministic": True}),
        ({"weighting": "scaling"}, {"attention": "scaling"}),
        ({"weighting": "none"}, {"attention": "none"}),
        ({"beta": 1.0}, {"beta": 1.0}),
        ({"gate": False}, {"gate": False}),
        ({"gate_start": 0.5}, {"gate_start": 0.5}),
        ({"adapt_vision": False}, {"adapt_vision": False}),
        ({"adapt_text": False}, {"adapt_text": False}),
        ({"order": "text_first"}, {"order": "text_first"}),
        ({"upscale_blocks": 3}, {"upscale_blocks": 3}),
        ({"pooling": "cls"}, {"pooling": "cls"}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"head": "evidential"}, {"head": "evidential", "deterministic": True}),
    ],
    ids=str,
)
def test_an_ablation_changes_what_it_names_and_nothing_else(
    choices: dict[str, Any], changed: dict[str, Any]
) -> None:
    plain = MedCLIPSegConfig.from_dict(MedCLIPSegTrainConfig().network()).to_dict()
    config = MedCLIPSegTrainConfig(**choices)
    found = MedCLIPSegConfig.from_dict(config.network()).to_dict()
    differing = {k: v for k, v in found.items() if v != plain[k]}
    if "layers" in differing:
        differing["layers"] = tuple(differing["layers"])
    assert differing == changed


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"backbone": "resnet"}, "backbone must be one of unimedclip"),
        ({"fraction": 0}, "fraction must be from 1 to 100"),
        ({"accumulate": 25}, "accumulate must be from 1 to 24"),
        ({"layers": (12,)}, "layers must be from 0 to"),
        ({"pretrained": "a", "start": "b"}, "give one"),
    ],
)
def test_what_cannot_be_is_refused(choices: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MedCLIPSegTrainConfig(**choices)
