"""The letters at a picture's edges, against nibabel and by algebra."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from napari_medvlseg.core.orientation import edge_letters

if TYPE_CHECKING:
    import numpy.typing as npt

OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
ORIENTATIONS = [
    np.diag([*signs, 1.0])[[*order, 3]]
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]


@pytest.mark.parametrize("affine", ORIENTATIONS)
def test_the_letters_of_all_48_orientations_are_nibabels(
    affine: npt.NDArray[np.float64],
) -> None:
    _, down, right = aff2axcodes(affine)
    letters = edge_letters(3 * affine[:3, 2], 0.5 * affine[:3, 1])
    assert letters is not None
    assert (letters.right, letters.bottom) == (right, down)
    assert (letters.left, letters.top) == (OPPOSITE[right], OPPOSITE[down])


@pytest.mark.parametrize(
    ("degrees", "right"),
    [(0, "L"), (9, "L"), (11, "LA"), (44, "LA"), (46, "AL"), (79, "AL"), (81, "A")],
)
def test_an_oblique_edge_has_two_letters_the_nearer_one_first(
    degrees: float, right: str
) -> None:
    angle = np.radians(degrees)
    letters = edge_letters((-np.cos(angle), np.sin(angle), 0), (0, 0, -1))
    assert letters is not None
    assert letters.right == right
    assert letters.left == "".join(OPPOSITE[letter] for letter in right)
    assert (letters.top, letters.bottom) == ("S", "I")


def test_never_more_than_two_letters() -> None:
    letters = edge_letters((1, 1.1, 1.2), (1, 1, -2))
    assert letters is not None
    assert (letters.right, letters.bottom) == ("SA", "IR")


@pytest.mark.parametrize("way", [(0, 0, 0), (np.nan, 0, 1), (np.inf, 0, 0)])
def test_no_direction_has_no_letters(way: tuple[float, ...]) -> None:
    assert edge_letters(way, (0, 0, 1)) is None
    assert edge_letters((0, 0, 1), way) is None
