"""Which grey values become black and white: CT windows, percentiles, z-score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.preprocess.pixels import (
    percentile_range,
    some_values,
    value_range,
)
from napari_medvlseg.core.windows import Window, parse_intensity

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.types import Image

DEVIATIONS = 3.0
"""Standard deviations from the mean to black and to white."""

AIR_HU = (-3100, -900)
"""Where the darkest value of a CT lies: air, or what scanners write outside."""

TISSUE_HU = 100
"""The brightest value of a CT is above soft tissue."""

HINT = (
    "this looks like CT, whose grey values were stretched as a whole; a window (brain, "
    "lung, abdomen, bone, ...) may show the structure better"
)


@dataclass(frozen=True, slots=True)
class Greys:
    """The values that become black and white, and why these."""

    black: float
    white: float
    choice: str
    """As it was written."""
    source: str
    """``"user"``, ``"card"`` or ``"default"``."""
    hint: str | None = None
    """What the user may want to know."""

    @property
    def limits(self) -> tuple[float, float]:
        """Black and white."""
        return self.black, self.white

    def told(self) -> dict[str, Any]:
        """Return what the provenance says."""
        return {
            "choice": self.choice,
            "from": self.source,
            "black": self.black,
            "white": self.white,
        }


def choose_greys(image: Image, wanted: str, advised: str) -> Greys:
    """Return black and white of an image; one choice for all slices of a volume.

    Parameters
    ----------
    image : Image
    wanted : str
        The user's choice; ``"auto"`` follows the model's card.
    advised : str
        The card's; ``"auto"`` keeps the range of eight-bit values, and stretches other
        values between percentiles.

    Raises
    ------
    ImageError
        If the values cannot be shown that way.
    """
    choice, source = (wanted, "user") if wanted != "auto" else (advised, "card")
    if choice == "auto":
        limits = value_range(image.voxels)
        return Greys(*limits, "auto", "default", _hint(image))
    parsed = parse_intensity(choice)
    if isinstance(parsed, Window):
        black, white = _window_range(image, parsed, choice)
    elif parsed == "zscore":
        black, white = zscore_range(image.voxels)
    else:
        black, white = percentile_range(image.voxels)
    return Greys(black, white, choice, source)


def zscore_range(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean ∓ `DEVIATIONS` standard deviations of what is finite and not 0.

    The zeros around a head in MR say nothing about it. A volume of nothing but zeros
    is not stretched.

    Raises
    ------
    ImageError
        If no value is finite or the dtype is not a number.
    """
    values = some_values(voxels)
    values = values[values != 0]
    if values.size == 0:
        return 0.0, 0.0
    mean, deviation = float(values.mean()), float(values.std())
    return mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation


def looks_like_ct(image: Image) -> bool:
    """Whether the header says CT, or says nothing and the values are like CT's.

    Such are whole numbers from that of air to above soft tissue, in Hounsfield units.
    Eight bits or colours are a picture that somebody has made of it.
    """
    if image.rgb or image.voxels.dtype in (np.uint8, np.bool_):
        return False
    modality = image.facts.get("modality")
    if modality:
        return str(modality).upper() == "CT"
    if image.voxels.dtype.kind not in "if":
        return False
    values = some_values(image.voxels)
    return bool(
        AIR_HU[0] <= values.min() <= AIR_HU[1]
        and values.max() > TISSUE_HU
        and (values == np.round(values)).all()
    )


def _hint(image: Image) -> str | None:
    """Return what to tell of a CT that nobody chose a window for."""
    if not looks_like_ct(image):
        return None
    level, width = (image.facts.get(f"window_{end}") for end in ("center", "width"))
    if level is None or width is None:
        return HINT
    return f"{HINT}; its header tells L{level:g}W{width:g}"


def _window_range(image: Image, window: Window, choice: str) -> tuple[float, float]:
    """Return a window's ends; refuse an image that it does not show."""
    if image.rgb:
        msg = (
            f"expected grey values for the window {choice!r}, got colours; choose auto"
        )
        raise ImageError(msg)
    black = window.level - window.width / 2
    white = window.level + window.width / 2
    some_values(image.voxels)  # refuses what is not a number
    low, high = (
        float(end.reduce(image.voxels, axis=None)) for end in (np.fmin, np.fmax)
    )
    if high <= black or low >= white:
        msg = (
            f"expected values within the window {choice!r} ({black:g} to {white:g}), "
            f"got {low:g} to {high:g}; choose another window, or auto"
        )
        raise ImageError(msg)
    return black, white
