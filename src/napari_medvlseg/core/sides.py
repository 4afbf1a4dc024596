"""The patient's sides: which one a prompt names, and on which one a result lies.

Symbols: the midline is where left and right of the body meet, given as an index along
the image's axis that runs from one side to the other.
"""

from __future__ import annotations

import re
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.types import Midline

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.types import Image, Segmentation

    Array = npt.NDArray[Any]

SIDES = ("left", "right")
CLEAR_SHARE = 0.8
"""Share of a result's voxels beyond the midline that is called the other side."""
MARGIN = 0.02
"""Share of the image's width on each side of the midline that counts for neither."""
SMALLEST_WIDTH_MM = 110.0
"""Narrower images may show one half of the body only."""
SMALLEST_COSINE = np.cos(np.radians(20))
"""Of the angle between an axis of the image and the patient's left to right."""
SMALLEST_SYMMETRY = 0.75
"""Correlation of the image with its mirror image from which it has a midline."""
SEARCHED = (0.3, 0.7)
"""Part of the image's width in which the midline is searched."""
MAX_SAMPLES = (128, 48)
"""Voxels looked at along the axis from side to side, and along the others."""

PAIRED_WORDS = """
lung lungs pulmonary kidney kidneys renal adrenal adrenals hemithorax hemithoraces
pleura pleural pneumothorax breast breasts mammary ovary ovaries testis testes testicle
eye eyes eyeball orbit orbital globe optic hippocampus hippocampi hippocampal amygdala
thalamus caudate putamen pallidum hemisphere hemispheric cerebral psoas iliopsoas
parotid submandibular ureter ureters maxillary mastoid cochlea rib ribs clavicle hip
hips acetabulum iliac
"""
"""What the body has once on each side of its midline. Limbs are scanned one by one."""
LOBE_WORDS = "upper lower middle temporal frontal parietal occipital"
"""Before "lobe", these tell a lung or the brain; the liver's lobes cross the middle."""
UNPAIRED_WORDS = """
heart cardiac ventricle ventricular atrium atrial coronary aorta aortic myocardium
bundle liver hepatic colon colic gastric portal
"""
"""Their left and right parts do not lie left and right of the midline."""
BREAKING_WORDS = """
of in on at to and or from with by near the a an side sides half part corner edge border
hand image picture photo photograph frame view panel slice scan
"""
"""After "left", these end the name of what is left: it may be a place of the image."""
_PAIRED, _LOBES, _UNPAIRED, _BREAKS = (
    frozenset(words.split())
    for words in (PAIRED_WORDS, LOBE_WORDS, UNPAIRED_WORDS, BREAKING_WORDS)
)


def named_side(prompt: str) -> str | None:
    """Return the patient's side that a prompt names; None for both or none.

    Only named anatomy tells a side of the patient; "upper left of the image", or just
    "the left", is a side of the picture.

    Examples
    --------
    >>> named_side("a cyst in the left kidney"), named_side("right-sided effusion")
    ('left', 'right')
    >>> named_side("the lung at the left of the image") is None
    True
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    if re.search(r"\b(left|right) (and|or) (left|right)\b", " ".join(words)):
        return None
    named = {
        word
        for place, word in enumerate(words)
        if word in SIDES and _is_of_the_patient(words[:place], words[place + 1 :])
    }
    return named.pop() if len(named) == 1 else None


def _is_of_the_patient(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a side between these words is the patient's."""
    if after[:1] == ["sided"]:
        return not _UNPAIRED & set(after[1:4])
    name = list(takewhile(lambda word: word not in _BREAKS, after))[:4]
    if _UNPAIRED & set(name):
        return False
    whose = before[-2:] == ["patient", "s"] or list(after[:4]) == (
        ["side", "of", "the", "patient"]
    )
    just_before = takewhile(lambda word: word not in _BREAKS, before[:-4:-1])
    trailing = not after and bool(_PAIRED & set(just_before))
    lobes = any(
        kind in _LOBES and what in ("lobe", "lobes") for kind, what in pairwise(name)
    )
    return whose or trailing or lobes or bool(_PAIRED & set(name))


def find_midline(image: Image, prompts: Sequence[str]) -> Midline | None:
    """Return where the body's left and right meet, if the image tells it clearly.

    It is searched only for prompts that name a side of the patient. It needs a known
    orientation, an axis of the image that runs from side to side (within 20 degrees),
    110 mm of width, and a picture that is like its mirror image about some line near
    its middle. A single lung or a shoulder has none.
    """
    is_placed = image.facts.get("orientation", "unknown") != "unknown"
    is_asked = any(named_side(prompt) for prompt in prompts)
    if not is_asked or not is_placed or image.units != "mm":
        return None
    edges = image.affine[:3, : image.ndim]
    spacing = np.linalg.norm(edges, axis=0)
    across = edges[0] / spacing
    axis = int(np.abs(across).argmax())
    width = image.spatial_shape[axis]
    if abs(across[axis]) < SMALLEST_COSINE or width * spacing[axis] < SMALLEST_WIDTH_MM:
        return None
    rows, step = _sampled(image, axis)
    middle, likeness = _best_mirror(rows)
    if likeness < SMALLEST_SYMMETRY:
        return None
    return Midline(axis, middle * step, rightward=bool(across[axis] > 0))


def side_warnings(segmentation: Segmentation) -> tuple[str, ...]:
    """Return a sentence for each prompt whose result lies on the other side.

    It is empty where the prompt names no side of the patient, the midline is unknown,
    nothing was found, or less than `CLEAR_SHARE` of it lies clearly beyond the midline.
    """
    sides = [named_side(prompt) for prompt in segmentation.prompts]
    midline = segmentation.midline
    if midline is None or not any(sides):
        return ("",) * len(sides)
    masks = segmentation.masks
    return tuple(
        _warning(mask, side, midline) if side else ""
        for mask, side in zip(masks, sides, strict=True)
    )


def _warning(mask: npt.NDArray[np.bool_], side: str, midline: Midline) -> str:
    """Return a sentence where most of a mask lies opposite to a side."""
    others = tuple(axis for axis in range(mask.ndim) if axis != midline.axis)
    counts = mask.sum(axis=others)
    if not counts.any():
        return ""
    rightward = np.arange(len(counts)) - midline.index
    rightward = rightward if midline.rightward else -rightward
    beyond = rightward if side == "left" else -rightward
    share = counts[beyond > MARGIN * len(counts)].sum() / counts.sum()
    if share < CLEAR_SHARE:
        return ""
    other = SIDES[1 - SIDES.index(side)]
    return f"asked for the {side}, lies on the patient's {other} ({share:.0%} of it)"


def _sampled(image: Image, axis: int) -> tuple[Array, int]:
    """Return (positions along the axis, voxels) without outliers, and the step."""
    steps = [
        -(-size // MAX_SAMPLES[int(other != axis)])
        for other, size in enumerate(image.spatial_shape)
    ]
    few = image.voxels[tuple(slice(None, None, step) for step in steps)]
    grey = np.asarray(few, dtype=np.float32)
    grey = grey[..., :3].mean(axis=-1) if image.rgb else grey
    grey = np.nan_to_num(grey, posinf=0.0, neginf=0.0)
    low, high = np.percentile(grey, [1, 99])
    grey = np.moveaxis(grey.clip(low, high), axis, 0)
    return grey.reshape(len(grey), -1), steps[axis]


def _best_mirror(rows: Array) -> tuple[float, float]:
    """Return the place about which the rows are most like their mirror image."""
    last = len(rows) - 1
    best = (last / 2, 0.0)
    for double in range(int(2 * last * SEARCHED[0]), int(2 * last * SEARCHED[1]) + 1):
        half = min(double, 2 * last - double)  # in half rows, around double / 2
        part = rows[(double - half) // 2 : (double + half) // 2 + 1]
        likeness = _correlation(part, part[::-1])
        if likeness > best[1]:
            best = (double / 2, likeness)
    return best


def _correlation(one: Array, other: Array) -> float:
    """Pearson's, of two mirror images, which have one mean and one spread."""
    centred = one - one.mean()
    spread = float((centred**2).sum())
    return float((centred * (other - one.mean())).sum()) / spread if spread > 0 else 0.0
