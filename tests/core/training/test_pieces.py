"""Healthy pieces of pictures with lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.training.pieces import cut_pieces, healthy_piece
from napari_medvlseg.core.training.samples import Sample

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


def test_only_the_share_asked_for_and_only_some_sets_are_cut() -> None:
    healthy, ill = _sample(100, lesion=None), _sample(90, lesion=slice(5, 25))
    other = _sample(100, lesion=slice(5, 25), dataset="Kvasir")
    chosen = [healthy, ill, other] * 100
    cut = cut_pieces(chosen, 0.2, _generator())
    taken = [not new.mask.any() for new in cut[1::3]]
    assert 8 < sum(taken) < 35
    assert all(new is healthy for new in cut[::3])
    assert all(new is other for new in cut[2::3])
    assert cut_pieces(chosen, 0.0, _generator()) == chosen
