"""A run of BiPVL-Seg as a bundle: written, listed, loaded, refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.core.bundle import (
    card_text,
    model_card,
    read_card,
    read_sums,
    sums_text,
)
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.io.class_sheet import find_sheet, write_class_sheet
from napari_medvlseg.core.models.bipvlseg.windows import BiPVLWindows
from napari_medvlseg.core.pipeline import load_predictor, segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.training.bipvlseg.export import export_volume_bundle
from napari_medvlseg.core.volume_predictor import VolumePredictor
from napari_medvlseg.core.volume_spec import VolumeSpec
from tests.core.bipvlseg.test_network import BACKBONES
from tests.volume_models import write_tiny_bundle, write_tiny_run

if TYPE_CHECKING:
    from pathlib import Path

    from napari_medvlseg.core.types import Image


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny-3d")


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> VolumePredictor:
    loaded = load_predictor(str(bundle), device="cpu", precision="float32")
    assert isinstance(loaded, VolumePredictor)
    return loaded


def test_the_bundle_says_what_the_model_takes_and_finds(bundle: Path) -> None:
    files = {path.name for path in bundle.iterdir()}
    expected = {"model.safetensors", "config.json", "card.md", "figures.json"}
    assert files == {*expected, "SHA256SUMS"}
    card = model_card(str(bundle))
    spec = card.volume
    assert spec is not None
    assert spec.names == ("Anterior hippocampus", "Posterior hippocampus")
    assert spec.sheet.classes[0].shape.startswith("Broad, rounded head")
    assert (spec.patch, spec.spacing_mm, spec.window) == ((32, 16, 16), None, None)
    assert spec.labels == ((1,), (2,))
    assert card.modalities == ("MR volume",)
    assert VolumeSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    text = card_text(str(bundle))
    assert "Research use only" in text
    assert "Volumes of whoever trained it; ask them." in text
    assert "Decathlon" not in text


def test_the_bundle_says_how_it_came_about_without_a_path(tmp_path: Path) -> None:
    begun = str(tmp_path / "secret" / "first")
    sheet = tmp_path / "secret" / "mine.csv"
    write_class_sheet(sheet, find_sheet("hippocampus-3d"))
    bundle = write_tiny_bundle(
        tmp_path / "second", flipped_draws="R", start=begun, sheet=str(sheet)
    )
    spec = model_card(str(bundle)).volume
    assert spec is not None
    assert spec.flips == "R"
    assert "30 epochs, `medvlseg train`, from the weights of the run first." in (
        card_text(str(bundle))
    )
    assert "secret" not in (bundle / "config.json").read_text(encoding="utf-8")


def test_a_loaded_bundle_answers_as_the_network_did(
    predictor: VolumePredictor, phantom: Image
) -> None:
    """Draw by draw, with the same noise, through the whole network at once."""
    windows = predictor.network
    assert isinstance(windows, BiPVLWindows)
    words = predictor.words(predictor.spec.sheet.descriptions())
    image = torch.randn(1, 1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = predictor.draw(
        predictor.look(image, words), 3, DrawNoise(0, range(3), Place(0, 0))
    )
    with torch.inference_mode():
        for draw in range(3):
            noise = DrawNoise(0, range(draw, draw + 1), Place(0, 0))
            whole = windows.network(image, words, noise).logits
            torch.testing.assert_close(drawn[draw], whole[0], atol=1e-4, rtol=1e-4)
    found = segment(phantom, "all", predictor, num_samples=2)
    assert found.probability.shape == (2, *phantom.spatial_shape)
    assert found.provenance["model"] == "tiny-3d"
    assert float(found.probability.sum(axis=0).max()) <= 1 + 1e-5


def test_bfloat16_draws_are_near(bundle: Path, phantom: Image) -> None:
    light = load_predictor(str(bundle), device="cpu", precision="bfloat16")
    exact = load_predictor(str(bundle), device="cpu", precision="float32")
    one, other = (segment(phantom, "all", p, num_samples=2) for p in (light, exact))
    np.testing.assert_allclose(one.probability, other.probability, atol=0.03)


def test_the_twin_without_text_and_overlapping_classes_are_bundles_too(
    tmp_path: Path, phantom: Image
) -> None:
    twin = write_tiny_bundle(tmp_path / "twin", text="none", regions="1,1+2")
    loaded = load_predictor(str(twin), device="cpu")
    assert isinstance(loaded, VolumePredictor)
    assert loaded.spec.labels == ((1,), (1, 2))
    found = segment(phantom, "anterior hippocampus", loaded)
    assert not found.exclusive
    assert found.provenance["num_samples"] == 1  # no draw differs


def test_overlapping_classes_by_name_are_found_whichever_are_asked_for(
    tmp_path: Path, phantom: Image
) -> None:
    """All of them are read each time: a subset is the whole without the rest."""
    bundle = write_tiny_bundle(tmp_path / "m", text_format="names", regions="1,1+2")
    loaded = load_predictor(str(bundle), device="cpu", precision="float32")
    assert isinstance(loaded, VolumePredictor)
    assert not loaded.spec.asks
    whole = segment(phantom, "all", loaded, num_samples=2)
    one = segment(phantom, "posterior hippocampus", loaded, num_samples=2)
    assert one.prompts == ("Posterior hippocampus",)
    np.testing.assert_array_equal(one.probability[0], whole.probability[1])
    assert np.abs(whole.probability[0] - whole.probability[1]).max() > 1e-3


def test_what_earlier_bundles_do_not_tell_is_known_from_the_rest(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    new = VolumeSpec.from_bundle(config)
    assert (new.asks, new.learnt_flips) == (False, "R")
    for name in ("asks", "learnt_flips"):
        del config["volume"][name]
    assert VolumeSpec.from_bundle(config) == new
    config["volume"].update(exclusive=False, orientation="SPL")
    config["network"]["architecture"] = "medclipseg"
    old = VolumeSpec.from_bundle(config)
    assert (old.asks, old.learnt_flips) == (True, "S")
    del config["training"]
    assert VolumeSpec.from_bundle(config).learnt_flips is None


@pytest.mark.parametrize("vision", ["swin-unetr-v2", "unetr", "unet++"])
def test_a_bundle_of_each_vision_model_answers(vision: str, tmp_path: Path) -> None:
    """Its weights are not made twice: the network is built without memory first."""
    backbone = BACKBONES[vision]
    bundle = write_tiny_bundle(tmp_path / "model", vision=vision, **backbone)
    loaded = load_predictor(str(bundle), device="cpu", precision="float32")
    assert isinstance(loaded, VolumePredictor)
    window = torch.ones(1, 1, *backbone["patch"])
    seen = loaded.look(window, loaded.words(loaded.spec.sheet.descriptions()))
    logits = loaded.draw(seen, 1, DrawNoise(0, [0], Place()))
    assert logits.shape == (1, 3, *backbone["patch"])
    assert bool(logits.isfinite().all())


def test_a_3d_bundle_is_no_model_of_pictures_nor_the_other_way(bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny-3d, which segments whole volumes"):
        Predictor.load(str(bundle))
    assert model_card("compact").volume is None
    assert isinstance(load_predictor("compact"), Predictor)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda config: config["volume"].pop("patch"), "'patch' is wrong"),
        (
            lambda config: config["volume"].update(patch=[32, 16]),
            "patch must be 3 numbers",
        ),
        (lambda config: config["volume"].update(window=[2, 1]), "window must be two"),
        (lambda config: config["volume"].update(colors=["red"]), "colors must be"),
        (lambda config: config["volume"].update(overlap=1.0), "overlap must be"),
        (lambda config: config["volume"].update(spacing_mm=[1]), "spacing_mm must"),
        (lambda config: config["volume"].update(text_format="x"), "text_format must"),
        (lambda config: config["volume"].update(asks=True), "asks must be false"),
        (lambda config: config["volume"].update(regions=[[1]]), "regions must be"),
        (lambda config: config["volume"]["classes"][0].update(odd=1), "odd"),
    ],
)
def test_a_damaged_configuration_is_told(
    bundle: Path, tmp_path: Path, change: object, told: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    assert callable(change)
    change(config)
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=told):
        read_card(copy)


def test_damaged_and_foreign_weights_are_refused(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged, install it again"):
        load_predictor(str(copy))
    shutil.copy(bundle / "model.safetensors", weights)
    for name, change, told in (
        ("network", {"architecture": "else"}, "update napari-medvlseg"),
        ("classes", {"classes": 3}, "3 channels for 2 classes"),
        ("widths", {"widths": [4, 4, 4, 8, 16]}, "weights of its network"),
    ):
        config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
        part = config["network"]
        (part if name == "network" else part["config"]).update(change)
        (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
        sums = {n: s for n, s in read_sums(bundle).items() if n != "config.json"}
        (copy / "SHA256SUMS").write_text(sums_text(sums), encoding="utf-8")
        with pytest.raises(CheckpointError, match=told):
            load_predictor(str(copy))


def test_a_run_that_is_not_finished_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="network of a finished run"):
        export_volume_bundle(tmp_path, tmp_path / "bundle")
    run = write_tiny_run(tmp_path / "run")
    (run / "classes.json").unlink()
    with pytest.raises(CheckpointError, match="expected a finished run"):
        export_volume_bundle(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
