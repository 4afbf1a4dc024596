"""Words for masks (Algorithm 1)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medvlseg.core.captions import (
    caption_case,
    describe,
    exchange_sides,
    location,
)
from napari_medvlseg.core.targets import TARGETS

POLYP = TARGETS["Kvasir"][0]
VESSELS = TARGETS["RetinaVessels"][0]
SIZE = 120


def _disk(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return np.asarray(inside)


@pytest.mark.parametrize(
    ("row", "column", "name"),
    [
        (10, 10, "top left"),
        (10, 60, "top"),
        (60, 60, "center"),
        (60, 110, "right"),
        (110, 110, "bottom right"),
        (110, 20, "bottom left"),
    ],
)
def test_places_are_ninths_of_the_image(row: float, column: float, name: str) -> None:
    assert location(row, column, SIZE, SIZE) == name
    assert describe(_disk(row, column, 8)).locations == (name,)


def test_components_are_counted_and_specks_are_not() -> None:
    mask = _disk(20, 20, 10) | _disk(100, 100, 10)
    mask[60, 60] = True
    attributes = describe(mask)
    assert attributes.number == 2
    assert attributes.locations == ("top left", "bottom right")


@pytest.mark.parametrize(
    ("radius", "size"), [(8, "small"), (20, "medium"), (40, "large")]
)
def test_size_is_the_share_of_the_image(radius: float, size: str) -> None:
    assert describe(_disk(60, 60, radius)).size == size


def test_shape_tells_round_from_oval_and_irregular() -> None:
    rows, columns = np.indices((SIZE, SIZE))
    oval = ((rows - 60) / 10) ** 2 + ((columns - 60) / 35) ** 2 <= 1
    star = np.zeros((SIZE, SIZE), dtype=bool)
    star[20:100, 55:65] = True
    star[55:65, 20:100] = True
    shapes = [describe(mask).shape for mask in (_disk(60, 60, 20), oval, star)]
    assert shapes == ["round", "oval", "irregular"]


def test_colour_is_named_in_colour_and_toned_in_grey() -> None:
    mask = _disk(60, 60, 20)
    picture = np.full((SIZE, SIZE, 3), (60, 160, 60), np.uint8)
    picture[mask] = (175, 60, 55)
    assert describe(mask, picture).colour == "red"
    grey = np.where(mask, 200, 50).astype(np.uint8)
    assert describe(mask, grey).colour == "bright"
    assert describe(mask, 255 - grey).colour == "dark"


def test_every_attribute_reaches_the_caption() -> None:
    mask = _disk(20, 20, 8) | _disk(100, 100, 8)
    picture = np.full((SIZE, SIZE, 3), (60, 160, 60), np.uint8)
    picture[mask] = (175, 60, 55)
    text = caption_case(mask, picture, POLYP)
    for words in ("two", "small", "red", "round", "polyps", "top left, bottom right"):
        assert words in text


def test_an_empty_mask_gets_a_normal_caption() -> None:
    text = caption_case(np.zeros((9, 9), dtype=bool), None, POLYP)
    assert text == "No polyp in the colonoscopy image."


def test_the_designs_of_a_normal_picture_differ_as_those_of_others_do() -> None:
    nothing = np.zeros((9, 9), dtype=bool)
    designs = ("original", "underdescriptive", "overdescriptive", "contradictory")
    for seed in range(6):
        plain, under, over, contrary = (
            caption_case(nothing, None, POLYP, design=design, seed=seed)
            for design in designs
        )
        assert len(under) < len(plain) < len(over)
        assert over.startswith(plain)
        assert contrary.count("polyp") == 2
        missing = caption_case(
            nothing, None, POLYP, design="missing_location", seed=seed
        )
        assert missing == plain


def test_designs_leave_out_or_turn_round_what_they_say() -> None:
    mask = _disk(20, 20, 8)
    write = {
        design: caption_case(mask, None, POLYP, design=design)
        for design in (
            *("original", "class_name", "underdescriptive", "missing_location"),
            *("contradictory", "overdescriptive"),
        )
    }
    assert "top left" in write["original"]
    assert write["class_name"] == "polyp"
    assert "small" not in write["underdescriptive"]
    assert "top" not in write["missing_location"]
    assert "small" in write["missing_location"]
    assert "bottom right" in write["contradictory"]
    assert "large" in write["contradictory"]
    assert write["overdescriptive"].startswith(write["original"])
    assert len(write["overdescriptive"]) > len(write["original"]) + 40


def test_what_is_always_many_is_not_counted() -> None:
    text = caption_case(_disk(60, 60, 20), None, VESSELS)
    assert "one" not in text.split()
    assert "retinal vessels" in text


def test_beside_the_patients_side_stands_no_side_of_the_image() -> None:
    left_lung = TARGETS["ChestXrayLungs"][1]
    text = caption_case(_disk(60, 100, 20), None, left_lung)
    assert "left lung" in text
    assert "right" not in text


def test_many_components_have_no_single_places() -> None:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for row in range(10, 110, 30):
        for column in range(10, 110, 30):
            mask |= _disk(row, column, 6)
    text = caption_case(mask, None, POLYP)
    assert "many" in text
    assert "located" not in text


def test_the_seed_chooses_the_template() -> None:
    mask = _disk(20, 20, 8)
    texts = {caption_case(mask, None, POLYP, seed=seed) for seed in range(8)}
    assert len(texts) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left lung, upper left", "Right lung, upper right"),
        ("rightmost, leftover", "leftmost, leftover"),
        ("right-sided mass, left_lung", "left-sided mass, right_lung"),
        ("polyp at 3 o'clock", "polyp at 9 o'clock"),
        ("polyp at 12 o'clock", "polyp at 12 o'clock"),
        ("from left to right", "from right to left"),
    ],
)
def test_sides_are_exchanged_for_the_mirrored_picture(text: str, expected: str) -> None:
    assert exchange_sides(text) == expected
    assert exchange_sides(exchange_sides(text)) == text


def test_top_and_bottom_are_exchanged_only_where_they_are_asked_for() -> None:
    text = "Upper left, bottom"
    assert exchange_sides(text, upright=False) == "Lower right, top"
    assert exchange_sides(text, across=False, upright=False) == "Lower left, top"
    assert exchange_sides(text, across=False) == text
    assert exchange_sides("at 1 o'clock", across=False, upright=False) == "at 5 o'clock"
