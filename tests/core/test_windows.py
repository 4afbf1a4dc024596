"""CT windows by name, and how a choice is written."""

from __future__ import annotations

import pytest

from napari_medvlseg.core.bundle import InputSpec
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.windows import INTENSITIES, WINDOWS, Window, parse_intensity


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("L40W80", (40, 80)),
        ("w1500 l-600", (-600, 1500)),
        ("WW: 400, WL: 40", (40, 400)),
        ("wl=-37.5 ww=0.5", (-37.5, 0.5)),
        (" Lung ", (-600, 1500)),
    ],
)
def test_a_window_is_read_as_people_write_it(
    text: str, window: tuple[float, float]
) -> None:
    assert parse_intensity(text) == Window(*window)


@pytest.mark.parametrize("name", INTENSITIES)
def test_every_name_is_a_choice_of_a_run(name: str) -> None:
    assert SegmentConfig(intensity=name).intensity == name
    assert parse_intensity(name) == WINDOWS.get(name, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L40W0", "a width above 0"),
        ("L40W-80", "a width above 0"),
        ("40/80", "as in L40W80"),
        ("L40", "as in L40W80"),
        ("LnanW80", "as in L40W80"),
        ("brian", "brain, stroke"),
        ("", "brain, stroke"),
    ],
)
def test_what_is_no_window_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentConfig(intensity=text)
    with pytest.raises(ValueError, match=message):
        InputSpec(size=64, tile=64, overlap=0.25, intensity=text)


def test_a_card_s_spacing_is_lengths() -> None:
    def spec(spacing: object) -> InputSpec:
        return InputSpec(size=64, tile=64, overlap=0.25, spacing_mm=spacing)  # type: ignore[arg-type]

    assert spec([1, 2.5]).spacing_mm == (1.0, 2.5)
    for wrong in ([1], [1, 0], [1, 2, 3, 4], [1, float("nan")], [1, float("inf")]):
        with pytest.raises(ValueError, match="2 or 3 lengths above 0"):
            spec(wrong)
