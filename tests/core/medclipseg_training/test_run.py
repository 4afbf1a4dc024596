"""A tiny MedCLIPSeg run: seeded, resumable, in parts; what is frozen stays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_medvlseg.core.errors import CheckpointError, DatasetError
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.medclipseg import run as module
from napari_medvlseg.core.training.medclipseg.config import MedCLIPSegTrainConfig
from napari_medvlseg.core.training.medclipseg.run import (
    learning_rate,
    train_medclipseg_steps,
)
from napari_medvlseg.core.training.processes import ALONE
from tests.core.medclipseg_training.conftest import tiny

if TYPE_CHECKING:
    from pathlib import Path


def _one_step(data: Path, output: Path, **choices: Any) -> tuple[float, module._Run]:
    run = module._Run([data], output, tiny(**choices), ALONE)
    return run.one_step(0), run


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    squares: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, losses and weights alike."""
    monkeypatch.setattr(module._Run, "save_every", 2)
    first = train_medclipseg_steps([squares], tmp_path, tiny())
    for _ in range(2):
        next(first)
    first.close()  # type: ignore[attr-defined]
    rest = list(train_medclipseg_steps([squares], tmp_path, tiny()))
    assert [record["step"] for record in rest] == [3, 4, 5, 6]
    whole = torch.load(finished / CHECKPOINT, weights_only=True)
    resumed = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for ours, theirs in zip(resumed["log"], whole["log"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for name, value in whole["learnt"].items():
        torch.testing.assert_close(value, resumed["learnt"][name], msg=name)


def test_a_finished_run_has_nothing_to_do_and_fits_no_other(
    squares: Path, finished: Path
) -> None:
    assert not list(train_medclipseg_steps([squares], finished, tiny()))
    with pytest.raises(CheckpointError, match="same configuration"):
        next(train_medclipseg_steps([squares], finished, tiny(beta=1.0)))
    assert {path.name for path in finished.iterdir()} == {
        *("checkpoint.pt", "config.json", "curves.csv", "curves.png")
    }


@pytest.mark.parametrize("accumulate", [2, 3])
def test_parts_of_a_step_add_up_to_it(
    squares: Path, tmp_path: Path, accumulate: int
) -> None:
    """But for the contrastive loss, which compares pictures."""
    choices = {"contrastive_weight": 0.0, "batch_size": 10}
    whole, run = _one_step(squares, tmp_path / "a", **choices)
    parts, other = _one_step(squares, tmp_path / "b", **choices, accumulate=accumulate)
    assert parts == pytest.approx(whole, abs=1e-6)
    there = dict(other.network.named_parameters())
    for name, parameter in run.network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, there[name].grad, atol=1e-6, rtol=1e-3, msg=name
            )


@pytest.mark.parametrize("trains", [None, True, False])
def test_towers_learn_where_they_are_to(
    squares: Path, tmp_path: Path, *, trains: bool | None
) -> None:
    """From random weights they do by default."""
    run = module._Run([squares], tmp_path, tiny(train_encoders=trains), ALONE)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.one_step(0)
    moved = {
        name.split(".")[0]
        for name, value in run.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    parts = {"pvl_adapters", "mask_head", "upscale"}
    towers = {"vision_model", "text_model"}
    assert moved == (parts if trains is False else parts | towers)


def test_the_global_generator_is_left_alone(squares: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    _one_step(squares, tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_bfloat16_gives_nearly_the_same_loss(squares: Path, tmp_path: Path) -> None:
    exact, _ = _one_step(squares, tmp_path / "a")
    light, _ = _one_step(squares, tmp_path / "b", precision="bfloat16")
    assert light == pytest.approx(exact, rel=0.02)
    assert light != exact


def test_a_frozen_text_tower_drops_nothing_but_in_the_authors_code(
    squares: Path, tmp_path: Path
) -> None:
    run = module._Run([squares], tmp_path, tiny(train_encoders=False), ALONE)
    module._train_mode(run.network)
    assert not run.network.text_model.training
    run.network.config = replace(run.network.config, compatible=True)
    module._train_mode(run.network)
    assert run.network.text_model.training


def test_the_rate_is_a_cosine_that_rises_first_if_told_to() -> None:
    paper = MedCLIPSegTrainConfig()
    rates = [learning_rate(paper, step, 100, 10) for step in range(101)]
    assert rates[0] == 3e-4
    assert rates[50] == pytest.approx(1.5e-4)
    assert rates[100] == pytest.approx(0.0)
    warm = replace(paper, warmup=0.1)
    assert learning_rate(warm, 0, 100, 10) == pytest.approx(3e-5)
    assert learning_rate(warm, 40, 100, 10) == rates[40]


def test_the_authors_rate_falls_by_epochs_to_a_floor() -> None:
    authors = MedCLIPSegTrainConfig(compatible=True, epochs=10)
    rates = [learning_rate(authors, step, 40, 4) for step in range(40)]
    assert rates[4:8] == [rates[4]] * 4
    expected = 1e-4 + 1e-4 * (1 + math.cos(math.pi * 0.1))
    assert rates[4] == pytest.approx(expected)
    assert min(rates) > 1e-4


def test_two_sets_of_one_name_are_refused(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="each of a name of its own"):
        next(train_medclipseg_steps([squares, squares], tmp_path, tiny()))


@pytest.mark.slow
def test_the_loss_falls_and_the_overlap_rises(squares: Path, tmp_path: Path) -> None:
    """Squares whose side the prompt tells."""
    config = tiny(epochs=25, batch_size=10, learning_rate=3e-3, augmentation="none")
    records = list(train_medclipseg_steps([squares], tmp_path, config))
    losses = [record["loss"] for record in records]
    found = [record["validation"] or {} for record in records]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert found[-1]["Kvasir"] > max(0.6, found[0]["Kvasir"] + 0.2)
