"""Which grey values become black and white."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.preprocess.intensity import (
    HINT,
    choose_greys,
    looks_like_ct,
)
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    import numpy.typing as npt


def ct_slice(dtype: npt.DTypeLike = np.int16) -> npt.NDArray[Any]:
    values = np.linspace(-1024, 3071, 64 * 64).round().reshape(64, 64)
    return values.astype(dtype)


def test_a_window_makes_its_ends_black_and_white_and_its_level_grey() -> None:
    image = Image(np.array([[-2000, 0, 40, 60, 80, 3000]], np.int16))
    greys = choose_greys(image, "L40W80", "auto")
    assert greys.limits == (0.0, 80.0)
    shown = to_network_range(image.voxels, greys.limits)[0, 0]
    assert shown.tolist() == [-1.0, -1.0, 0.0, 0.5, 1.0, 1.0]


def test_the_same_hounsfield_unit_is_the_same_grey_in_every_image() -> None:
    whole, part = ct_slice(), ct_slice()[10:40]
    for choice in ("brain", "bone"):
        limits = [choose_greys(Image(v), choice, "auto").limits for v in (whole, part)]
        assert limits[0] == limits[1]
    assert (
        choose_greys(Image(whole), "auto", "auto").limits
        != choose_greys(Image(part), "auto", "auto").limits
    )


def test_the_user_goes_before_the_card_and_the_card_before_the_default() -> None:
    image = Image(ct_slice())
    assert choose_greys(image, "lung", "brain").told() == {
        "choice": "lung",
        "from": "user",
        "black": -1350.0,
        "white": 150.0,
    }
    advised = choose_greys(image, "auto", "brain")
    assert (advised.source, advised.limits) == ("card", (0, 80))
    assert choose_greys(image, "auto", "auto").source == "default"


def test_eight_bits_keep_their_range_unless_told() -> None:
    image = Image(np.arange(50, 150, dtype=np.uint8).reshape(10, 10))
    assert choose_greys(image, "auto", "auto").limits == (0.0, 255.0)
    low, high = choose_greys(image, "percentile", "auto").limits
    np.testing.assert_allclose((low, high), np.percentile(image.voxels, (0.5, 99.5)))


def test_a_z_score_leaves_out_the_zeros_around_a_head() -> None:
    rng = np.random.default_rng(0)
    head = rng.normal(500, 50, (40, 40))
    around = np.zeros((80, 80))
    around[20:60, 20:60] = head
    low, high = choose_greys(Image(around), "zscore", "auto").limits
    assert low == pytest.approx(head.mean() - 3 * head.std())
    assert high == pytest.approx(head.mean() + 3 * head.std())
    nothing = choose_greys(Image(np.zeros((4, 4))), "zscore", "auto")
    assert (to_network_range(np.zeros((4, 4)), nothing.limits) == 0).all()


@pytest.mark.parametrize(
    ("voxels", "choice", "message"),
    [
        (np.full((5, 5), 900, np.int16), "brain", "0 to 80.*got 900 to 900"),
        (np.full((5, 5), np.nan), "brain", "finite"),
        (np.full((5, 5), np.nan), "zscore", "finite"),
        (np.zeros((5, 5), complex), "percentile", "dtype"),
    ],
)
def test_an_image_that_a_choice_cannot_show_is_refused(
    voxels: npt.NDArray[Any], choice: str, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        choose_greys(Image(voxels), choice, "auto")


def test_colours_have_no_hounsfield_units() -> None:
    with pytest.raises(ImageError, match="got colours; choose auto"):
        choose_greys(Image(np.ones((5, 5, 3), np.uint8), rgb=True), "lung", "auto")


def test_what_is_not_a_number_does_not_hide_the_rest() -> None:
    voxels = np.array([[np.nan, 20.0, np.inf]])
    assert choose_greys(Image(voxels), "brain", "auto").limits == (0, 80)


@pytest.mark.parametrize(
    ("image", "is_ct"),
    [
        (Image(ct_slice()), True),
        (Image(ct_slice(np.float32)), True),
        (Image(ct_slice(), facts={"modality": "MR"}), False),
        (Image(np.arange(25).reshape(5, 5), facts={"modality": "CT"}), True),
        (Image(ct_slice(np.float32) + 0.25), False),
        (Image(np.maximum(ct_slice(), 0)), False),
        (Image(np.random.default_rng(0).normal(0, 1, (9, 9))), False),
        (Image(np.zeros((5, 5, 3), np.uint8), rgb=True), False),
        (Image(np.zeros((5, 5), np.uint8), facts={"modality": "CT"}), False),
    ],
)
def test_ct_is_told_by_its_header_or_its_values(image: Image, *, is_ct: bool) -> None:
    assert looks_like_ct(image) is is_ct


def test_ct_gets_a_hint_and_no_window_that_nobody_chose() -> None:
    image = Image(ct_slice())
    plain = choose_greys(image, "auto", "auto")
    assert plain.hint == HINT
    facts = {"modality": "CT", "window_center": 40.0, "window_width": 350.0}
    told = choose_greys(Image(image.voxels, facts=facts), "auto", "auto").hint
    assert told == f"{HINT}; its header tells L40W350"
    expected = np.percentile(image.voxels, (0.5, 99.5))
    np.testing.assert_allclose(plain.limits, expected)
    assert choose_greys(image, "percentile", "auto").hint is None
    assert choose_greys(image, "auto", "brain").hint is None
