"""Grey values and colours of any dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.preprocess.pixels import resize, to_network_range, value_range


def test_bytes_keep_their_range() -> None:
    picture = np.array([[0, 128, 255]], dtype=np.uint8)
    expected = torch.tensor([[-1.0, 128 / 127.5 - 1, 1.0]]).expand(3, -1, -1)
    torch.testing.assert_close(to_network_range(picture), expected)


def test_colours_keep_their_order_and_transparency_is_dropped() -> None:
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[..., 0] = 255
    picture[..., 3] = 7
    tensor = to_network_range(picture)
    assert tensor.shape == (3, 2, 2)
    assert tensor[:, 0, 0].tolist() == [1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int16, np.int64, np.float32, np.float64]
)
def test_wide_dtypes_are_stretched_between_percentiles(dtype: type) -> None:
    values: np.ndarray = np.arange(10_000).reshape(100, 100).astype(dtype)
    tensor = to_network_range(values)[0]
    assert float(tensor.min()) == -1.0
    assert float(tensor.max()) == 1.0
    low, high = np.percentile(values, (0.5, 99.5))
    expected = (5000 - low) / (high - low) * 2 - 1
    assert float(tensor[50, 0]) == pytest.approx(expected, abs=1e-3)


def test_what_is_not_finite_becomes_black_or_white() -> None:
    values = np.linspace(0, 1, 100).reshape(10, 10)
    values[0, :3] = [np.nan, np.inf, -np.inf]
    tensor = to_network_range(values)[0]
    assert tensor[0, :3].tolist() == [-1.0, 1.0, -1.0]
    assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("value", [0.0, -3.0, 1e9])
def test_a_constant_picture_is_mid_grey(value: float) -> None:
    assert (to_network_range(np.full((4, 4), value)) == 0).all()


def test_a_mask_is_black_and_white() -> None:
    tensor = to_network_range(np.array([[True, False]]))
    assert tensor[0].tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize(
    "voxels",
    [np.full((3, 3), np.nan), np.zeros((2, 2), complex), np.array([["a", "b"]])],
)
def test_what_cannot_be_shown_is_refused(voxels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        value_range(voxels)


def test_shrinking_averages() -> None:
    pixels = torch.zeros(3, 64, 64)
    pixels[:, ::2] = 1
    shrunk = resize(pixels, 8, 8)
    torch.testing.assert_close(shrunk, torch.full((3, 8, 8), 0.5), atol=0.05, rtol=0)
