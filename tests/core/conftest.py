"""A predictor with random weights: for what does not depend on good ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save

from napari_medvlseg.core.bundle import read_card, write_bundle
from napari_medvlseg.core.models.compact import Compact
from napari_medvlseg.core.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "model_id": "random",
    "title": "Random",
    "summary": "Random weights.",
    "licence": "BSD-3-Clause",
    "intended_use": "Tests.",
    "concepts": [
        {
            "name": "polyp",
            "synonyms": ["colon polyp"],
            "modality": "colonoscopy image",
            "example": "polyp in the colonoscopy image",
            "tiling": "whole",
        },
        {
            "name": "retinal vessels",
            "synonyms": ["vessels"],
            "modality": "fundus photograph",
            "example": "retinal vessels in the fundus photograph",
            "tiling": "tile",
        },
    ],
    "input": {"size": 64, "tile": 64, "overlap": 0.25},
    "min_foreground": 0.0,
    "parameters": 1,
    "network": {"architecture": "compact", "config": {}},
}


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the compact network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = Compact()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    folder = tmp_path_factory.mktemp("bundles") / "random"
    write_bundle(
        folder, weights=save(state), config=CONFIG, card="# random\n", figures={}
    )
    return folder


@pytest.fixture(scope="session")
def predictor(random_bundle: Path) -> Predictor:
    """Return a model with random weights, in float32 on the CPU."""
    assert read_card(random_bundle).model_id == "random"
    return Predictor.load(str(random_bundle), device="cpu", precision="float32")
