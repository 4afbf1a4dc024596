"""The 3D models that come with the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_medvlseg.core.bundle import card_text, model_card, verify
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.training.bipvlseg.card import card_markdown
from napari_medvlseg.core.volume_sets import volume_cases

PAGE = Path(__file__).parents[3] / "docs" / "bipvlseg.md"
FLOORS = {"hippocampus-3d": 0.885, "cardiac-3d": 0.84}
SOURCES = {"hippocampus-3d": "Decathlon, Task04", "cardiac-3d": "ACDC, CC BY-NC-SA"}
MEGABYTES = 15


@pytest.mark.parametrize("model", FLOORS)
def test_a_bundle_is_whole_small_and_as_good_as_it_says(model: str) -> None:
    card = model_card(model)
    verify(card)
    assert (card.path / "model.safetensors").stat().st_size < MEGABYTES * 1e6
    figures = json.loads((card.path / "figures.json").read_text(encoding="utf-8"))
    (measured,) = figures["sets"]
    assert measured["weights_sha256"] == card.sha256
    assert measured["samples"] == 30
    assert card.volume is not None
    assert measured["flips"] == card.volume.flips != ""
    mean, spread = measured["dsc"]["mean"], measured["dsc"]["std"]
    assert mean >= FLOORS[model]
    told = f"{mean:.3f} ± {spread:.3f}"
    assert told in card_text(model)
    assert told in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("model", FLOORS)
def test_a_card_says_what_the_configuration_and_the_figures_do(model: str) -> None:
    path = model_card(model).path
    config, figures = (
        json.loads((path / name).read_text(encoding="utf-8"))
        for name in ("config.json", "figures.json")
    )
    assert card_text(model) == card_markdown(config, figures)
    assert SOURCES[model] in card_text(model)


def test_hippocampi_are_found_offline(real_data: Path) -> None:
    """In volumes of the validation split, with one draw."""
    cases = volume_cases(real_data / "Hippocampus", "val")[:2]
    for case in cases:
        found = segment(read(case.images[0]), "all", "hippocampus-3d", num_samples=1)
        reference = read(case.label).voxels
        for label in (1, 2):
            dsc = dice_similarity_coefficient(found.labels == label, reference == label)
            assert dsc > 0.75
        assert np.isfinite(found.predictive_entropy).all()
    many = segment(read(cases[0].images[0]), "all", "hippocampus-3d", num_samples=4)
    share = many.mutual_information.sum() / many.predictive_entropy.sum()
    assert share > 0.003  # without flipped views it is a hundred times less
