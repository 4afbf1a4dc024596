"""Shares of the data, and batches whose words stay true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.core.datasets import fraction_cases
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.training.medclipseg.data import (
    MAX_DEGREES,
    Example,
    load_examples,
    make_batch,
)
from tests.core.medclipseg_training.conftest import write_pictures, write_sheet

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def _stems(root: Path, percent: int, seed: int = 0) -> list[str]:
    return [case.image_path.stem for case in fraction_cases(root, percent, seed)]


def test_the_authors_sheet_says_which_pictures_are_a_share(squares: Path) -> None:
    assert _stems(squares, 50) == _stems(squares, 50, 7)
    assert _stems(squares, 50) == ["01", "02", "05", "06", "09"]
    (first, *_) = fraction_cases(squares, 50, 0)
    assert first.prompt == "one square polyp, located in left of the image"


def test_without_a_sheet_the_seed_says_it(squares: Path) -> None:
    few, some = _stems(squares, 10), _stems(squares, 30)
    assert (len(few), len(some)) == (1, 3)
    assert set(few) < set(some)
    assert some == _stems(squares, 30)
    assert len({tuple(_stems(squares, 30, seed)) for seed in range(6)}) > 1
    assert len(_stems(squares, 100)) == 10


def test_a_sheet_of_other_pictures_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "Train_Folder", 2, 0)
    write_sheet(tmp_path / "Prompts_Folder" / "Train_text_25.xlsx", ["77"])
    with pytest.raises(DatasetError, match=r"Train_text_25\.xlsx to name pictures"):
        fraction_cases(tmp_path, 25, 0)


def test_the_authors_shares_are_those_of_their_paper(real_data: Path) -> None:
    """Table S1: 62, 156, 312 of 624; of Kvasir two pictures are not here."""
    counts = [len(fraction_cases(real_data / "BUSI", p, 0)) for p in (10, 25, 50)]
    assert counts == [62, 156, 312]
    assert len(fraction_cases(real_data / "Kvasir", 10, 0)) == 78


@pytest.mark.parametrize("compatible", [False, True])
def test_pictures_and_masks_come_in_the_networks_size(
    squares: Path, *, compatible: bool
) -> None:
    cases = fraction_cases(squares, 50, 0)
    examples = load_examples(cases, 16, compatible=compatible)
    assert [each.picture.shape for each in examples] == [(3, 16, 16)] * 5
    picture, mask = examples[0].picture.float(), examples[0].mask
    assert mask.shape == (1, 16, 16)
    assert mask.sum() == 6 * 7
    assert picture[:, mask[0]].mean() > picture[:, ~mask[0]].mean() + 90


def _square() -> Example:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 10:20, 2:12] = True
    picture = torch.where(mask, 255, 0).byte().expand(3, -1, -1)
    return Example("Kvasir", "polyp in the left of the image", False, picture, mask)


def test_half_the_pictures_are_turned_a_little() -> None:
    examples = [_square()] * 60
    batch = make_batch(examples, "rotation", range(60), CPU)
    again = make_batch(examples, "rotation", range(60), CPU)
    torch.testing.assert_close(batch.images, again.images, rtol=0, atol=0)
    assert batch.prompts == [examples[0].prompt] * 60
    still = batch.masks.flatten(1).eq(examples[0].mask.flatten()).all(dim=1)
    assert 15 < still.sum() < 45
    places = torch.stack([m[0].nonzero().float().mean(dim=0) for m in batch.masks])
    (row, column), (rows, columns) = places[still][0] - 15.5, (places - 15.5).T
    angle = torch.atan2(
        row * columns - column * rows, row * rows + column * columns
    ).abs()
    assert 0.1 < float(angle.max()) <= np.deg2rad(MAX_DEGREES) + 0.06


def test_full_augmentation_keeps_words_and_masks_together() -> None:
    batch = make_batch([_square()] * 40, "full", range(40), CPU)
    assert {"left", "right"} == {prompt.split()[3] for prompt in batch.prompts}
    for mask, prompt in zip(batch.masks, batch.prompts, strict=True):
        middle = float(mask[0].nonzero()[:, 1].float().mean())
        assert (middle < 16) == ("left" in prompt)
    sided = make_batch([_square()._replace(sided=True)] * 10, "full", range(10), CPU)
    assert set(sided.prompts) == {"polyp in the left of the image"}


def test_without_augmentation_pictures_are_as_they_are() -> None:
    batch = make_batch([_square()], "none", [0], CPU)
    expected = _square().picture.float() / 127.5 - 1
    torch.testing.assert_close(batch.images[0], expected)
