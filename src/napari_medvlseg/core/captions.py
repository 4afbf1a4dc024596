"""Describe a mask in words: MedCLIPSeg's Algorithm 1, without a language model.

The attributes class, number, size, shape, colour and location are measured from the
mask and the image and filled into templates. Places are sides of the image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.measure import label, regionprops

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.targets import TargetInfo

    Mask = npt.NDArray[np.bool_]

SMALLEST_SHARE = 0.0005
"""Components below this share of the image are not counted."""
SMALL_SHARE, LARGE_SHARE = 0.05, 0.20
"""Share of the image below which a structure is small, above which large."""
MANY = 6
"""From so many components on, "many" without single places."""
NUMBERS = ("no", "one", "two", "three", "four", "five")
OPPOSITE = {
    "top": "bottom",
    "bottom": "top",
    "left": "right",
    "right": "left",
    "center": "bottom right corner",
    "small": "large",
    "large": "small",
    "medium": "tiny",
}
_OTHER_SIDE = {
    "left": "right",
    "right": "left",
    "top": "bottom",
    "bottom": "top",
    "upper": "lower",
    "lower": "upper",
}
_SIDE_ENDINGS = "(?:most|wards?|hand|sided)?"
_COLOURS = {
    "white": (235, 225, 220),
    "pink": (215, 150, 150),
    "red": (175, 60, 55),
    "brown": (130, 85, 60),
    "yellow": (215, 180, 110),
    "orange": (210, 120, 65),
    "purple": (125, 75, 150),
    "blue": (90, 110, 180),
    "black": (40, 30, 30),
    "gray": (130, 130, 130),
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What Algorithm 1 measures of a mask.

    Parameters
    ----------
    number : int
        Connected components, those of some size.
    size, shape, colour : str
        One word each.
    locations : tuple of str
        Of the largest components, from left to right, for instance ``"top left"``.
    """

    number: int
    size: str
    shape: str
    colour: str
    locations: tuple[str, ...]


def describe(mask: Mask, image: npt.NDArray[Any] | None = None) -> Attributes:
    """Measure the attributes of a mask (Algorithm 1, step 2).

    Parameters
    ----------
    mask : (H, W) bool
        May be empty.
    image : (H, W) or (H, W, 3 | 4), optional
        For the colour; without it that is empty.
    """
    regions = [
        region
        for region in regionprops(label(mask))
        if region.area >= SMALLEST_SHARE * mask.size
    ]
    regions.sort(key=lambda region: -region.area)
    if not regions:
        return Attributes(int(mask.any()), "small", "round", "", ())
    largest = regions[0]
    placed = sorted(regions[: MANY - 1], key=lambda region: region.centroid[1])
    locations = dict.fromkeys(location(*r.centroid, *mask.shape) for r in placed)
    return Attributes(
        number=len(regions),
        size=_size(sum(region.area for region in regions) / mask.size),
        shape=_shape(largest.eccentricity, largest.solidity),
        colour="" if image is None else _colour(mask, image),
        locations=tuple(locations),
    )


def location(row: float, column: float, height: int, width: int) -> str:
    """Name the ninth of the image where a point lies: ``"top left"``, ``"center"``."""
    vertical = _third(row / height, "top", "bottom")
    horizontal = _third(column / width, "left", "right")
    return " ".join(word for word in (vertical, horizontal) if word) or "center"


def exchange_sides(text: str, *, across: bool = True, upright: bool = True) -> str:
    """Exchange left and right (`across`), and top and bottom unless `upright`.

    That is what a prompt must say of the mirrored picture, also where the side is the
    patient's: a mirrored chest X-ray shows as its left lung what was the right one.
    """
    words = [*(("left", "right") if across else ())]
    words += [*(() if upright else ("top", "bottom", "upper", "lower"))]
    if not words:
        return text
    pattern = rf"(?<![a-z])({'|'.join(words)})(?={_SIDE_ENDINGS}(?![a-z]))"
    text = re.sub(pattern, _exchange, text, flags=re.IGNORECASE)
    return re.sub(r"\b(\d\d?)(?= o'clock)", partial(_turn_clock, across, upright), text)


def _exchange(match: re.Match[str]) -> str:
    """Return the other side's word, with the same capital."""
    other = _OTHER_SIDE[match[1].lower()]
    return other.capitalize() if match[1][0].isupper() else other


def _turn_clock(across: bool, upright: bool, match: re.Match[str]) -> str:  # noqa: FBT001
    """Return the hour that lies opposite."""
    hour = int(match[1])
    if across:
        hour = -hour % 12
    if not upright:
        hour = (6 - hour) % 12
    return str(hour or 12)


def caption_case(
    reference: Mask,
    image: npt.NDArray[Any] | None,
    target: TargetInfo,
    *,
    design: str = "original",
    seed: int = 0,
) -> str:
    """Write the caption of one image and structure (Algorithm 1, step 3).

    Parameters
    ----------
    reference : (H, W) bool
    image : (H, W) or (H, W, 3 | 4), optional
    target : TargetInfo
        The structure's name, its plural and the kind of picture.
    design : str
        ``original``, ``underdescriptive`` (the class alone in a sentence),
        ``overdescriptive``, ``contradictory`` (wrong size and place),
        ``missing_location`` or ``class_name``.
    seed : int
        Chooses among the templates.
    """
    attributes = describe(reference, image)
    if design == "class_name":
        return target.class_name
    if attributes.number == 0:
        text = _pick(_NORMAL_BY_DESIGN.get(design, _NORMAL), seed).format(
            name=target.class_name, plural=target.plural, modality=target.modality
        )
        return text + _OVER_NORMAL if design == "overdescriptive" else text
    return _fill(attributes, target, design, seed)


_NORMAL = (
    "No {name} in the {modality}.",
    "There is no {name} in the {modality}.",
    "A {modality} without {plural}.",
)
_NORMAL_BY_DESIGN = {
    "underdescriptive": ("No {name}.", "Without {plural}."),
    "contradictory": (
        "No {name} in the {modality}, with a visible {name}.",
        "A {modality} without {plural}, showing one {name}.",
    ),
}
_FULL = (
    "{what}, located in the {where} of the {place}",
    "{what} at the {where} in the {modality}",
    "{what} in the {where} of the {modality}",
    "{modality} showing {what} in the {where}",
)
_NO_PLACE = ("{what} in the {modality}", "{modality} showing {what}", "{what}")
_UNDER = (
    "{plain} in the {modality}",
    "{plain} in the image",
    "{modality} with {plain}",
)
_OVER = (
    " The border is visible and the surrounding tissue looks different from it; "
    "the rest of the picture shows nothing else of note."
)
_OVER_NORMAL = (
    " Everything looks regular and even throughout; the whole picture shows nothing of "
    "note anywhere."
)


def _fill(attributes: Attributes, target: TargetInfo, design: str, seed: int) -> str:
    """Fill a template with attributes that are there."""
    if design == "contradictory":
        attributes = _contradict(attributes)
    where = ", ".join(attributes.locations)
    without_place = (
        design == "missing_location"
        or not where
        or attributes.number >= MANY
        or names_a_side(target.class_name)
    )
    templates = _NO_PLACE if without_place else _FULL
    if design == "underdescriptive":
        templates = _UNDER
    text = _pick(templates, seed).format(
        what=_noun_phrase(attributes, target),
        plain=target.class_name if attributes.number == 1 else target.plural,
        where=where,
        place=target.place,
        modality=target.modality,
    )
    return f"{text}.{_OVER}" if design == "overdescriptive" else text


def names_a_side(class_name: str) -> bool:
    """Whether a name holds the patient's side, beside which the image's confuses."""
    return bool({"left", "right"} & set(class_name.split()))


def _noun_phrase(attributes: Attributes, target: TargetInfo) -> str:
    """Return for instance "two small round pink polyps"."""
    many = attributes.number >= MANY
    number = "many" if many else NUMBERS[attributes.number]
    noun = target.class_name if attributes.number == 1 else target.plural
    if target.class_name == target.plural:  # "lungs", "retinal vessels": no counting
        number = ""
    words = (number, attributes.size, attributes.colour, attributes.shape, noun)
    return " ".join(word for word in words if word)


def _contradict(attributes: Attributes) -> Attributes:
    """Turn size and places into their opposites."""
    return replace(
        attributes,
        size=OPPOSITE[attributes.size],
        locations=tuple(
            " ".join(OPPOSITE[word] for word in place.split())
            for place in attributes.locations
        ),
    )


def _pick(templates: tuple[str, ...], seed: int) -> str:
    """Choose a template."""
    return templates[seed % len(templates)]


def _third(position: float, low: str, high: str) -> str:
    """Name the outer thirds, and the middle one by nothing."""
    if position < 1 / 3:
        return low
    return high if position > 2 / 3 else ""


def _size(share: float) -> str:
    """Name the share of the image."""
    if share < SMALL_SHARE:
        return "small"
    return "large" if share > LARGE_SHARE else "medium"


def _shape(eccentricity: float, solidity: float) -> str:
    """Name the outline of a component."""
    if solidity < 0.85:
        return "irregular"
    return "round" if eccentricity < 0.75 else "oval"


def _colour(mask: Mask, image: npt.NDArray[Any]) -> str:
    """Name the colour, or in a grey image the tone relative to the background."""
    if image.ndim == 3:
        inside = image[mask][:, :3].astype(np.float64).mean(axis=0)
        rest = image[..., :3].reshape(-1, 3).astype(np.float64)
        if np.ptp(rest, axis=1).mean() > 2:
            return min(
                _COLOURS,
                key=lambda name: float(np.abs(inside - _COLOURS[name]).sum()),
            )
        image = image[..., 0]
    if mask.all():
        return ""
    inside_mean, outside_mean = image[mask].mean(), image[~mask].mean()
    return "bright" if inside_mean > outside_mean else "dark"
