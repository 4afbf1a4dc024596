"""Lesions in healthy pictures, and healthy pieces of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.training.samples import Sample
from napari_medvlseg.core.training.transplant import (
    donors_of,
    healthy_piece,
    transplant,
    vary,
)

SIZE = 96


def _sample(grey: int, *, lesion: slice | None, dataset: str = "BUSI") -> Sample:
    """Grey tissue; a lesion of half its brightness in rows 30 to 50."""
    case = Case(
        dataset=dataset,
        image_path=Path("a.png"),
        label_path=Path("b.png"),
        target="tumor",
        info=TARGETS["BUSI"][0],
        prompt="a sheet's words",
    )
    image = np.full((SIZE, SIZE, 3), grey, np.uint8)
    mask = np.zeros((SIZE, SIZE), np.bool_)
    if lesion is not None:
        mask[30:50, lesion] = True
        image[mask] = grey // 2
    return Sample(case, image, mask)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_transplanted_lesion_is_as_dark_beside_its_new_place_as_it_was() -> None:
    host, donor = _sample(100, lesion=None), _sample(80, lesion=slice(10, 40))
    made = transplant(host, donor, _generator())
    assert made.mask.sum() == donor.mask.sum()
    np.testing.assert_array_equal(made.mask.any(axis=1), donor.mask.any(axis=1))
    assert made.image.dtype == np.uint8
    middle = np.argwhere(made.mask).mean(axis=0).astype(int)
    assert made.image[tuple(middle)].mean() == pytest.approx(50, abs=2)
    far = np.ones_like(made.mask)
    rows, columns = np.argwhere(made.mask).min(axis=0), np.argwhere(made.mask).max(0)
    far[
        max(rows[0] - 20, 0) : columns[0] + 20, max(rows[1] - 20, 0) : columns[1] + 20
    ] = False
    np.testing.assert_array_equal(made.image[far], host.image[far])
    assert made.case.prompt is None  # the sheet speaks of another picture
    assert host.image.min() == 100  # left as it was


def test_lesions_are_moved_sideways_and_stay_whole() -> None:
    host, donor = _sample(100, lesion=None), _sample(100, lesion=slice(0, 12))
    made = [transplant(host, donor, _generator(seed)) for seed in range(20)]
    starts = {int(np.flatnonzero(one.mask.any(axis=0))[0]) for one in made}
    assert len(starts) > 8
    assert max(starts) > SIZE / 2
    assert {int(one.mask.sum()) for one in made} == {20 * 12}


def test_a_healthy_piece_is_the_wider_side_and_holds_nothing_of_the_lesion() -> None:
    sample = _sample(100, lesion=slice(10, 30))
    sample.image[:, 70:] = 140
    piece = healthy_piece(sample, _generator())
    assert piece is not None
    assert not piece.mask.any()
    assert piece.image.shape == sample.image.shape
    assert piece.image.min() >= 100
    assert piece.image[:, -1].min() == 140
    assert piece.case.prompt is None


def test_there_is_no_piece_beside_a_lesion_in_the_middle() -> None:
    assert healthy_piece(_sample(100, lesion=slice(25, 70)), _generator()) is None


def test_only_the_shares_asked_for_and_only_sets_with_donors_are_varied() -> None:
    healthy, ill = _sample(100, lesion=None), _sample(90, lesion=slice(5, 25))
    other = _sample(100, lesion=None, dataset="Kvasir")
    stranger = replace(other, case=replace(other.case, dataset="CardiacCine"))
    donors = donors_of([healthy, ill, other])
    assert {name: len(found) for name, found in donors.items()} == {"BUSI": 1}
    chosen = [healthy, ill, other, stranger] * 100
    varied = vary(chosen, donors, (0.4, 0.2), _generator())
    given = [new.mask.any() for new in varied[::4]]
    taken = [not new.mask.any() for new in varied[1::4]]
    assert 25 < sum(given) < 55
    assert 8 < sum(taken) < 35
    assert all(new is other for new in varied[2::4])
    assert all(new is stranger for new in varied[3::4])
    assert vary(chosen, {}, (1.0, 1.0), _generator()) == chosen
