"""Overlapping windows."""

from __future__ import annotations

import pytest
import torch

from napari_medvlseg.core.preprocess.tiles import Tiling


@pytest.mark.parametrize("shape", [(64, 64), (100, 70), (30, 90), (8, 8), (65, 64)])
def test_windows_that_return_their_picture_give_it_back(shape: tuple[int, int]) -> None:
    pixels = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    tiling = Tiling(pixels, tile=64, overlap=0.25)
    for index in range(len(tiling.windows)):
        window = tiling.cut(index)
        assert window.shape == (3, 64, 64)
        tiling.add(index, window[:2])
    torch.testing.assert_close(tiling.merged(), pixels[:2])


def test_neighbours_overlap_by_the_share_asked_for() -> None:
    tiling = Tiling(torch.zeros(3, 64, 160), tile=64, overlap=0.25)
    assert [columns.start for _, columns in tiling.windows] == [0, 48, 96]


def test_where_no_window_was_added_the_result_is_zero() -> None:
    tiling = Tiling(torch.zeros(3, 64, 160), tile=64, overlap=0.0)
    tiling.add(0, torch.ones(2, 64, 64))
    merged = tiling.merged()
    assert (merged[:, :, :64] == 1).all()
    assert (merged[:, :, 64:] == 0).all()
