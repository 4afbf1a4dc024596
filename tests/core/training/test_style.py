"""Pictures that borrow the shading or the histogram of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.training.samples import Sample
from napari_medvlseg.core.training.style import (
    borrow_style,
    borrow_styles,
    exchange_shading,
    lenders_of,
)

SIZE = 64


def _picture(brightness: float, seed: int) -> npt.NDArray[np.uint8]:
    """Fine texture about a brightness."""
    grain = np.random.default_rng(seed).normal(0, 20, (SIZE, SIZE, 1))
    return np.repeat(brightness + grain, 3, axis=-1).clip(0, 255).astype(np.uint8)


def _sample(brightness: float, seed: int, dataset: str = "BUSI") -> Sample:
    case = Case(
        dataset=dataset,
        image_path=Path("a.png"),
        label_path=Path("b.png"),
        target="tumor",
        info=TARGETS["BUSI"][0],
        prompt=None,
    )
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[20:30, 20:30] = True
    return Sample(case, _picture(brightness, seed), mask)


def test_shading_is_the_others_and_texture_its_own() -> None:
    ours, theirs = _picture(80, 0), _picture(150, 1)
    mixed = exchange_shading(ours, theirs, 0.01)
    assert abs(mixed.mean() - theirs.mean()) < 2
    fine = [p[..., 0].astype(float) - p[..., 0].mean() for p in (ours, theirs, mixed)]
    assert np.corrcoef(fine[0].ravel(), fine[2].ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(fine[1].ravel(), fine[2].ravel())[0, 1]) < 0.2


def test_a_share_of_nothing_changes_nothing_and_the_mask_stays() -> None:
    ours, theirs = _sample(80, 0), _sample(150, 1)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        same = borrow_style(ours, theirs, 0.0, generator)
        np.testing.assert_array_equal(same.image, ours.image)
        whole = borrow_style(ours, theirs, 1.0, generator)
        assert abs(whole.image.mean() - theirs.image.mean()) < 3
        assert whole.mask is ours.mask
    assert ours.image.mean() < 90  # left as it was


def test_only_the_share_asked_for_and_only_some_sets_borrow() -> None:
    ours, other = _sample(80, 0), _sample(80, 0, "Kvasir")
    lenders = lenders_of([_sample(150, 1), other])
    assert {name: len(found) for name, found in lenders.items()} == {"BUSI": 1}
    generator = torch.Generator().manual_seed(0)
    changed = borrow_styles([ours, other] * 100, lenders, 0.3, generator)
    borrowed = [new is not ours for new in changed[::2]]
    assert 15 < sum(borrowed) < 45
    assert all(new is other for new in changed[1::2])
