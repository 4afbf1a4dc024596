"""Steps that are the same in any process, whenever they are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.data import DataLoader

from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.plans import Plans, part_of_run, step_seed
from napari_medvlseg.core.training.samples import Plan, load_samples, render

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(epochs=2, batch_size=2, sizes=(32, 64), weights={}, seed=3)


@pytest.fixture
def plans(tiny_set: Path) -> Plans:
    return Plans(load_samples(tiny_set / "Kvasir", "train"), CONFIG, range(2))


def same(first: Plan, second: Plan) -> bool:
    return (
        first.prompts == second.prompts
        and torch.equal(first.pictures, second.pictures)
        and torch.equal(first.transforms, second.transforms)
    )


def test_a_step_does_not_depend_on_the_steps_before_it(plans: Plans) -> None:
    assert len(plans) == 4
    in_turn = [plans[step] for step in range(4)]
    assert [plan.size for plan in in_turn] == [32, 32, 64, 64]
    assert all(same(plans[step], in_turn[step]) for step in (3, 1))
    assert not same(in_turn[0], in_turn[2])


def test_other_processes_prepare_the_same_steps(plans: Plans) -> None:
    loader = DataLoader(plans, batch_size=None, sampler=range(1, 4), num_workers=2)
    for step, plan in zip(range(1, 4), loader, strict=True):
        assert same(plan, plans[step])


def test_a_part_of_a_step_is_as_it_is_in_the_whole(plans: Plans) -> None:
    """Pictures and their first questions, and the further ones among its rows."""
    config = replace(CONFIG, batch_size=4, further_questions=0.75)
    rows = [range(4), range(1), range(1, 4)]
    whole, *parts = (Plans(plans.samples, config, each)[1] for each in rows)
    joined = [torch.cat([p.pictures for p in parts]), whole.pictures]
    assert torch.equal(*joined)
    assert torch.equal(torch.cat([p.transforms for p in parts]), whole.transforms)
    first = [prompt for p in parts for prompt in p.prompts[: len(p.pictures)]]
    further = [prompt for p in parts for prompt in p.prompts[len(p.pictures) :]]
    assert first + further == whole.prompts
    assert len(further) == 3


def test_another_seed_is_another_run(plans: Plans) -> None:
    other = Plans(plans.samples, replace(CONFIG, seed=4), range(2))
    assert not same(other[0], plans[0])
    assert len({step_seed(0, 1, "a"), step_seed(0, 2, "a"), step_seed(0, 1, "b")}) == 3


def test_an_appearance_repeats_with_its_seed(plans: Plans) -> None:
    first, again, other = (
        render(plans[0], SampleNoise.seeded([seed, seed + 1])).images
        for seed in (0, 0, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_entry_counts_for_an_equal_part() -> None:
    assert [part_of_run((1, 2, 3), step, 6) for step in range(6)] == [1, 1, 2, 2, 3, 3]
