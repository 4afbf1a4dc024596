"""Tables 2 and 3 as settings: what each of them changes in a run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_medvlseg.core.io.class_sheet import find_sheet
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.training.bipvlseg.objective import (
    Objective,
    load_text_encoder,
    tokenize,
)
from napari_medvlseg.core.training.bipvlseg.run import train_volume_steps
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from tests.core.bipvlseg.conftest import TINY

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_medvlseg.core.training.bipvlseg.config import BiPVLTrainConfig

CHANGES: dict[str, dict[str, Any]] = {
    "whole": {},
    "twin": {"text": "none"},
    "late": {"fused_stages": (4,)},
    "unaligned": {"global_weight": 0.0, "local_weight": 0.0, "attention": "plain"},
    "only-global": {"local_weight": 0.0},
    "only-local": {"global_weight": 0.0},
    "names": {"text_format": "names"},
    "aggregated": {"text_format": "aggregated"},
    "ambiguous": {"text_format": "ambiguous", "text_training": "norms"},
    "overlapping": {"regions": "1,1+2", "average_decay": 0.0, "precision": "bfloat16"},
}
GLOBAL = [(1, 2, 128)] * 2
LOCAL = [(1, 2, 128), (1, 6, 2, 128)]
ASKED = {
    **dict.fromkeys(CHANGES, GLOBAL + LOCAL),
    "twin": [],
    "unaligned": [],
    "only-global": GLOBAL,
    "only-local": LOCAL,
    "names": GLOBAL,
    "aggregated": GLOBAL,
}
"""Noise that the alignments ask for: one image, 2 classes, 6 concepts."""


def _objective(config: BiPVLTrainConfig) -> Objective:
    """Build what a run builds, with weights of its own."""
    network = BiPVLSeg(config.network(2, 1))
    load_text_encoder(network, config)
    if config.text == "none":
        return Objective(network, config, None)
    sheet = find_sheet(config.sheet, ambiguous=config.text_format == "ambiguous")
    return Objective(network, config, tokenize(sheet, config.text_format, config.text))


def _alignment_noise(objective: Objective) -> list[tuple[int, ...]]:
    """Return the shapes that a pass asks for beside those of the attentions."""
    shapes: list[tuple[int, ...]] = []

    def noise(shape: tuple[int, ...]) -> Tensor:
        shapes.append(tuple(shape))
        return torch.zeros(shape)

    channels = 2 if objective.network.config.overlapping else 1
    image = torch.randn(1, 1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(1, channels, 32, 16, 16)
    loss = objective(image, label, noise, torch.float32)
    assert math.isfinite(float(loss.detach()))
    return [shape for shape in shapes if shape[-1] == 128]


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_has_just_the_parts_that_its_settings_name(
    tiny_volumes: Path, tmp_path: Path, name: str
) -> None:
    config = replace(TINY, **CHANGES[name], epochs=1, batch_size=4)
    (record,) = train_volume_steps(tiny_volumes, tmp_path, config)
    assert math.isfinite(record["loss"])
    trained = torch.load(tmp_path / CHECKPOINT, weights_only=True)["objective"]
    ours = _objective(config)
    ours.load_state_dict(trained)  # strictly: no part more, and none less
    fused = {key.split(".")[2] for key in trained if key.startswith("network.fusion.")}
    expected = {"twin": set(), "late": {"4"}}.get(name, {"1", "2", "3", "4"})
    assert fused == expected
    tasks = {"twin": None, "unaligned": 2}.get(name, 3)
    sigmas = trained.get("weights.log_sigma")
    assert (None if sigmas is None else len(sigmas)) == tasks
    assert any(key.startswith("network.text.") for key in trained) == (name != "twin")
    assert _alignment_noise(ours) == ASKED[name]


def test_the_formats_of_texts_are_other_words() -> None:
    found = {name: _objective(replace(TINY, **CHANGES[name])).texts for name in CHANGES}
    whole = found["whole"]
    assert whole is not None
    assert whole.present.tolist() == [[True] * 6] * 2
    for name in ("names", "aggregated"):
        texts = found[name]
        assert texts is not None
        assert texts.present.shape == (2, 1)  # one text a class
        assert texts.descriptions.ids.shape != whole.descriptions.ids.shape
    vague = found["ambiguous"]
    assert vague is not None
    assert not bool(vague.present.all())
    assert vague.descriptions.ids.shape != whole.descriptions.ids.shape
    assert found["twin"] is None


def test_classes_that_overlap_have_a_channel_each_and_no_background() -> None:
    network = BiPVLSeg(replace(TINY, **CHANGES["overlapping"]).network(2, 1))
    whole = BiPVLSeg(TINY.network(2, 1))
    assert network.config.overlapping
    assert (network.config.output_channels, whole.config.output_channels) == (2, 3)


def test_plain_attention_asks_for_no_noise() -> None:
    """The draws of a probabilistic one differ."""
    image = torch.randn(1, 1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, differs in (("unaligned", False), ("only-global", True)):
        objective = _objective(replace(TINY, **CHANGES[name])).eval()
        with torch.inference_mode():
            texts = objective.describe(torch.device("cpu"))
            assert texts is not None
            still = objective.network(image, texts[0], zero_noise).logits
            moved = objective.network(image, texts[0], torch.ones).logits
        assert bool((still != moved).any()) == differs
