"""Bundles on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core import bundle
from napari_medvlseg.core.errors import CheckpointError, OutputError
from napari_medvlseg.core.models.build import build_network

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def copy(random_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(random_bundle, folder)
    return folder


def _rewrite(folder: Path, **changes: object) -> None:
    """Change fields of the configuration and keep its hash true."""
    path = folder / bundle.CONFIG
    config = {**json.loads(path.read_text()), **changes}
    before = bundle.sha256_of(path)
    path.write_text(json.dumps(config))
    sums = folder / bundle.SUMS
    sums.write_text(sums.read_text().replace(before, bundle.sha256_of(path)))


def test_the_bundled_model_is_listed_with_its_card() -> None:
    cards = {card.model_id: card for card in bundle.list_models()}
    assert "compact" in cards
    compact = cards["compact"]
    bundle.verify(compact)
    assert "colonoscopy image" in compact.modalities
    assert "research use only" in bundle.card_text("compact").lower()
    assert compact.parameters <= 7e6
    assert (compact.path / bundle.WEIGHTS).stat().st_size <= 16e6


def test_a_folder_is_as_good_as_an_id(random_bundle: Path) -> None:
    assert bundle.model_card(str(random_bundle)).title == "Random"


def test_an_installed_bundle_is_found_by_its_id(
    random_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(random_bundle, tmp_path / "models" / "mine")
    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path))
    assert bundle.model_card("mine").path == tmp_path / "models" / "mine"


def test_a_damaged_model_does_not_hide_the_others(
    random_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("damaged", "whole", ".half-copied"):
        shutil.copytree(random_bundle, tmp_path / "models" / name)
    (tmp_path / "models" / "damaged" / bundle.CONFIG).write_text("{")
    monkeypatch.setenv("MEDVLSEG_CACHE", str(tmp_path))
    found = [card.path.name for card in bundle.list_models()]
    assert found == ["compact", "cardiac-3d", "hippocampus-3d", "whole"]
    assert "damaged" in caplog.text


@pytest.mark.parametrize("model", ["", "nothing", "../compact", "/"])
def test_an_unknown_model_is_refused_with_the_known_ones(model: str) -> None:
    with pytest.raises(CheckpointError, match="compact"):
        bundle.model_card(model)


def test_a_model_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    model = "medclipseg-unimedclip-busi"
    with pytest.raises(CheckpointError, match=f"models fetch {model}"):
        bundle.model_card(model)
    (tmp_path / "busi.zip").touch()
    with pytest.raises(CheckpointError, match=r"models import .*busi\.zip"):
        bundle.model_card(str(tmp_path / "busi.zip"))


def test_the_longest_name_in_a_prompt_decides_the_concept(random_bundle: Path) -> None:
    card = bundle.read_card(random_bundle)
    found = card.concept_of("Retinal VESSELS near a polyp")
    assert found is not None
    assert found.name == "retinal vessels"
    assert card.concept_of("liver") is None


def test_what_a_prompt_names_may_have_its_own_smallest_size(
    random_bundle: Path,
) -> None:
    read = bundle.read_card(random_bundle)
    polyp, vessels = read.concepts
    card = replace(
        read,
        min_foreground=0.001,
        concepts=(replace(polyp, min_foreground=0.01), vessels),
    )
    assert card.min_foreground_of(["a round polyp"]) == 0.01
    assert card.min_foreground_of(["liver"]) == 0.001
    assert card.min_foreground_of(["polyp", "vessels"]) == 0.001
    assert card.min_foreground_of([]) == 0.001


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_weights_are_refused(copy: Path, keep: float) -> None:
    path = copy / bundle.WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep != 0.5 else len(data) / 2)])
    with pytest.raises(CheckpointError, match="damaged"):
        build_network(bundle.read_card(copy))


def test_foreign_tensors_with_a_true_hash_are_refused(copy: Path) -> None:
    path = copy / bundle.WEIGHTS
    before = bundle.sha256_of(path)
    path.write_bytes(b"\x80\x04not safetensors")
    sums = copy / bundle.SUMS
    sums.write_text(sums.read_text().replace(before, bundle.sha256_of(path)))
    with pytest.raises(CheckpointError, match="expected the weights"):
        build_network(bundle.read_card(copy))


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    _rewrite(copy, network={"architecture": "compact", "config": {"dim": 64}})
    with pytest.raises(CheckpointError, match="expected the weights"):
        build_network(bundle.read_card(copy))


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    _rewrite(copy, network={"architecture": "other", "config": {}})
    with pytest.raises(CheckpointError, match=r"compact.*update napari-medvlseg"):
        build_network(bundle.read_card(copy))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (bundle.CONFIG, "{"),
        (bundle.CONFIG, "[1]"),
        (bundle.CONFIG, '{"format": 99}'),
        (bundle.CONFIG, '{"format": 1}'),
        (bundle.SUMS, "nothing here\n"),
        (bundle.FIGURES, "\xff"),
    ],
)
def test_a_damaged_file_is_named(copy: Path, name: str, text: str) -> None:
    (copy / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="expected"):
        bundle.read_card(copy)


def test_an_absent_file_is_named(copy: Path) -> None:
    (copy / bundle.SUMS).unlink()
    with pytest.raises(CheckpointError, match=bundle.SUMS):
        bundle.read_card(copy)


def test_a_bundle_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="expected"):
        bundle.write_bundle(blocked / "x", weights=b"", config={}, card="", figures={})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writing_again_replaces_the_bundle(tmp_path: Path) -> None:
    for card in ("old", "new"):
        bundle.write_bundle(
            tmp_path / "b", weights=b"w", config={}, card=card, figures={}
        )
    assert (tmp_path / "b" / bundle.CARD).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
