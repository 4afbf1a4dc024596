"""Generators of draws."""

from __future__ import annotations

import itertools

import pytest
import torch

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.sampling import (
    DrawNoise,
    Place,
    draw_batches,
    draw_generator,
    flip_views,
    is_mirrored,
)


def test_every_seed_draw_slice_and_tile_has_its_own_noise() -> None:
    names = itertools.product((0, 1), (0, 1), (0, 1), (0, 1))
    noises = [
        tuple(
            torch.randn(
                4, generator=draw_generator(seed, draw, Place(plane, tile))
            ).tolist()
        )
        for seed, draw, plane, tile in names
    ]
    assert len(set(noises)) == 16


def test_a_batch_is_its_draws_one_by_one() -> None:
    batch = DrawNoise(7, [3, 5], Place(1, 2))
    singles = [DrawNoise(7, [draw], Place(1, 2)) for draw in (3, 5)]
    for shape in ((2, 4, 3), (2, 6)):  # two calls, as a network makes them
        together = batch(shape)
        apart = torch.cat([single((1, *shape[1:])) for single in singles])
        assert torch.equal(together, apart)


def test_a_view_is_every_choice_of_axes_once() -> None:
    assert flip_views("") == [()]
    assert set(flip_views("RAS")) == {(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)} | {
        (0, 1, 2)
    }
    with pytest.raises(ValueError, match="letters RAS"):
        SegmentConfig(flips="AA")


def test_noise_is_standard_normal() -> None:
    noise = DrawNoise(0, [0], Place())((1, 100_000))
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_the_global_generator_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    DrawNoise(0, [0], Place())((1, 8))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("samples", "size", "lengths"),
    [(1, 4, [1]), (5, 4, [1, 4]), (6, 4, [1, 4, 1]), (30, 100, [1, 29])],
)
def test_the_first_batch_is_a_preview_and_none_is_lost(
    samples: int, size: int, lengths: list[int]
) -> None:
    groups = draw_batches(samples, size)
    assert all(len(group) == 1 for group in groups)
    assert [len(batch) for (batch,) in groups] == lengths
    assert [draw for (batch,) in groups for draw in batch] == list(range(samples))


@pytest.mark.parametrize(("samples", "size"), [(1, 4), (2, 4), (7, 2), (30, 4)])
def test_mirrored_draws_come_by_turns_in_batches_of_their_own(
    samples: int, size: int
) -> None:
    groups = draw_batches(samples, size, views=2)
    assert groups[0] == [range(1)]
    done: list[int] = []
    for group in groups:
        for batch in group:
            assert 0 < len(batch) <= size
            assert len({is_mirrored(draw) for draw in batch}) == 1
            done += batch
        assert sorted(done) == list(range(len(done)))  # the first ones, always
    assert len(done) == samples


@pytest.mark.parametrize("views", [1, 2, 8])
def test_batches_end_where_a_count_is_wanted(views: int) -> None:
    stops = (5, 10, 20)
    groups = draw_batches(30, 4, views=views, stops=stops)
    ends: list[int] = []
    done: list[int] = []
    for group in groups:
        for batch in group:
            assert 0 < len(batch) <= 4
            done += batch
        assert sorted(done) == list(range(len(done)))
        ends.append(len(done))
    assert {*stops, 30} <= set(ends)
    assert draw_batches(30, 4, views=views, stops=(30,)) == draw_batches(
        30, 4, views=views
    )
