"""The 3D models that come with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medvlseg.core.bundle import card_text, model_card, verify
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.training.bipvlseg.card import card_markdown
from napari_medvlseg.core.types import Image
from napari_medvlseg.core.volume_sets import volume_cases

if TYPE_CHECKING:
    from collections.abc import Callable

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
    assert card.volume.learnt_flips == card.volume.flips
    assert not card.volume.asks
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


def _ball(shape: tuple[int, ...], radius: float, *, at: float = 0.5) -> Any:
    """Return where a ball is, of the same extent along each axis in millimetres."""
    sides = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    centre = [at * shape[0], *(size / 2 for size in shape[1:])]
    steps = (1, 1, 6 if shape[2] < 20 else 1)
    far = sum(((x - c) * s) ** 2 for x, c, s in zip(sides, centre, steps, strict=True))
    return np.sqrt(far) < radius


def _heart() -> Image:
    """Draw a short-axis heart: a bright cavity in a dark ring, another beside it."""
    voxels = np.full((150, 170, 9), 60.0, np.float32)
    voxels[_ball(voxels.shape, 32, at=0.33)] = 200.0  # right ventricle: image's left
    voxels[_ball(voxels.shape, 30)] = 30.0
    voxels[_ball(voxels.shape, 20)] = 220.0
    noise = np.random.default_rng(0).normal(0, 6, voxels.shape)
    return Image(voxels + noise.astype(np.float32), slice_axis=2)


def _head() -> Image:
    """Draw a grey body in a darker crop."""
    voxels = np.full((35, 50, 36), 60.0, np.float32)
    voxels[_ball(voxels.shape, 10)] = 100.0
    noise = np.random.default_rng(0).normal(0, 4, voxels.shape)
    return Image(voxels + noise.astype(np.float32), slice_axis=2)


@pytest.mark.parametrize(
    ("model", "draw", "names"),
    [
        ("hippocampus-3d", _head, ("Anterior hippocampus", "Posterior hippocampus")),
        (
            "cardiac-3d",
            _heart,
            ("Right ventricle", "Myocardium of the left ventricle", "Left ventricle"),
        ),
    ],
)
def test_a_bundle_answers_on_the_grid_of_a_drawn_volume(
    model: str, draw: Callable[[], Image], names: tuple[str, ...]
) -> None:
    image = draw()
    found = segment(image, "all", model, num_samples=1, device="cpu")
    assert found.prompts == names
    assert found.exclusive
    assert found.labels.shape == image.spatial_shape
    assert found.probability.shape == (len(names), *image.spatial_shape)
    assert set(np.unique(found.labels)) <= set(range(len(names) + 1))
    total = found.probability.sum(axis=0)
    assert 0.0 <= float(total.min()) <= float(total.max()) <= 1 + 1e-3
    winner = found.probability.argmax(axis=0) + 1
    inside = found.labels > 0
    assert inside.any()
    np.testing.assert_array_equal(found.labels[inside], winner[inside])
    most = np.log(len(names) + 1)
    assert 0 <= float(found.predictive_entropy.max()) <= most + 1e-5
    one = segment(image, names[-1].lower(), model, num_samples=1, device="cpu")
    np.testing.assert_allclose(one.probability[0], found.probability[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "model"),
    [("Hippocampus", "hippocampus-3d"), ("CardiacCine", "cardiac-3d")],
)
def test_a_volume_of_the_validation_is_found_as_well_as_the_card_says(
    real_data: Path, name: str, model: str
) -> None:
    """With one draw, on the mean of the classes."""
    case = volume_cases(real_data / name, "val")[0]
    found = segment(case.images[0], "all", model, num_samples=1, device="cpu")
    reference = read(case.label).voxels
    scores = [
        dice_similarity_coefficient(found.labels == n, reference == n)
        for n in range(1, len(found.prompts) + 1)
    ]
    assert np.mean(scores) > 0.8


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
