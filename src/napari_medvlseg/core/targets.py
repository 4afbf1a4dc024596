"""What the data sets mark: words for every structure, and masks from their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInfo:
    """One structure that a data set marks, and the words for it."""

    name: str
    """Of the target within its set, for tables and JSON."""
    class_name: str
    """What a prompt calls it."""
    plural: str
    """What a prompt calls several of it; the same word where there are always many."""
    modality: str
    """The kind of picture, as it follows "in the"."""
    place: str = "image"
    """What places are sides of, as it follows "of the"."""


_BREAST = TargetInfo(
    name="tumor",
    class_name="breast tumor",
    plural="breast tumors",
    modality="breast ultrasound image",
)
_XRAY = "chest X-ray image"
_BLOOD = "blood smear microscopy image"

TARGETS: Mapping[str, tuple[TargetInfo, ...]] = {
    "BUSI": (_BREAST,),
    "BUSBRA": (_BREAST,),
    "Kvasir": (
        TargetInfo(
            name="polyp",
            class_name="polyp",
            plural="polyps",
            modality="colonoscopy image",
        ),
    ),
    "ISIC": (
        TargetInfo(
            name="lesion",
            class_name="skin lesion",
            plural="skin lesions",
            modality="dermatoscopy image",
        ),
    ),
    "BrainTumorT1C": (
        TargetInfo(
            name="tumor",
            class_name="brain tumor",
            plural="brain tumors",
            modality="contrast-enhanced brain MRI image",
        ),
    ),
    "ChestXrayLungs": (
        TargetInfo(
            name="both lungs", class_name="lungs", plural="lungs", modality=_XRAY
        ),
        TargetInfo(
            name="left lung", class_name="left lung", plural="left lung", modality=_XRAY
        ),
        TargetInfo(
            name="right lung",
            class_name="right lung",
            plural="right lung",
            modality=_XRAY,
        ),
    ),
    "RetinaVessels": (
        TargetInfo(
            name="vessels",
            class_name="retinal vessels",
            plural="retinal vessels",
            modality="fundus photograph",
        ),
    ),
    "Nuclei": (
        TargetInfo(
            name="nuclei",
            class_name="cell nuclei",
            plural="cell nuclei",
            modality="microscopy image",
        ),
    ),
    "WhiteBloodCells": (
        TargetInfo(
            name="nucleus",
            class_name="white blood cell nucleus",
            plural="white blood cell nuclei",
            modality=_BLOOD,
        ),
        TargetInfo(
            name="cytoplasm",
            class_name="white blood cell cytoplasm",
            plural="white blood cell cytoplasm",
            modality=_BLOOD,
        ),
    ),
}
"""The structures of every known data set, by folder name."""

_LUNGS = ("lungs", "left lung", "right lung")
_CELLS = ("cell nuclei", "white blood cell nucleus", "white blood cell cytoplasm")
MISMATCHED: Mapping[str, tuple[str, ...]] = {
    "BUSI": (
        "polyp",
        "skin lesion",
        "brain tumor",
        *_LUNGS,
        "retinal vessels",
        *_CELLS,
    ),
    "BUSBRA": (
        *("polyp", "skin lesion", "brain tumor", *_LUNGS, "retinal vessels", *_CELLS),
    ),
    "Kvasir": (
        *("breast tumor", "skin lesion", "brain tumor", *_LUNGS, "retinal vessels"),
        *_CELLS,
    ),
    "ISIC": (
        *("breast tumor", "polyp", "brain tumor", *_LUNGS, "retinal vessels", *_CELLS),
    ),
    "BrainTumorT1C": (
        *("breast tumor", "polyp", "skin lesion", *_LUNGS, "retinal vessels", *_CELLS),
    ),
    "ChestXrayLungs": (
        *("breast tumor", "polyp", "skin lesion", "brain tumor", "retinal vessels"),
        *_CELLS,
    ),
    "RetinaVessels": (
        *("breast tumor", "polyp", "skin lesion", "brain tumor", *_LUNGS, *_CELLS),
    ),
    "Nuclei": (
        *("breast tumor", "polyp", "skin lesion", "brain tumor", *_LUNGS),
        "retinal vessels",
    ),
    "WhiteBloodCells": (
        *("breast tumor", "polyp", "skin lesion", "brain tumor", *_LUNGS),
        "retinal vessels",
    ),
}
"""Class names of other sets that no image of a set shows: a cell is a cell in both."""


def foreign_names(dataset: str) -> tuple[str, ...]:
    """Return the class names that no image of a set shows; all, for other sets."""
    every = (info.class_name for infos in TARGETS.values() for info in infos)
    return MISMATCHED.get(dataset) or tuple(dict.fromkeys(every))


HELD_OUT: Mapping[str, tuple[str, ...]] = {
    "breast tumor": ("breast lump", "lump in the breast"),
    "polyp": ("growth in the bowel", "bowel polyp"),
    "skin lesion": ("mole", "birthmark on the skin"),
    "brain tumor": ("cancer in the head", "cerebral tumor"),
    "lungs": ("pulmonary fields", "lung tissue"),
    "left lung": ("left pulmonary field",),
    "right lung": ("right pulmonary field",),
    "retinal vessels": ("arteries and veins", "vascular tree"),
    "cell nuclei": ("cell cores", "nuclear bodies"),
    "white blood cell nucleus": ("core of the white blood cell",),
    "white blood cell cytoplasm": ("body of the white blood cell",),
}
"""Plain words that training never shows, to measure what was learnt."""


MADE_UP = (
    *("florbitis", "wumpus", "grenkel", "snorfle", "quibberish", "brillig"),
    *("borogove", "frumious bandersnatch", "jabberwock", "zorple"),
)
"""Words that mean nothing, and that training does not make up."""


def targets_of(dataset: str) -> tuple[TargetInfo, ...]:
    """Return what a set marks; a set that is not known marks lesions."""
    lesion = TargetInfo(
        name="target", class_name="lesion", plural="lesions", modality="image"
    )
    return TARGETS.get(dataset, (lesion,))


def reference_mask(dataset: str, target: str, label: npt.NDArray[Any]) -> Mask:
    """Where a target lies.

    Parameters
    ----------
    dataset, target : str
        A data set's folder name and a target's name.
    label : (H, W) or (H, W, colours)
        Voxels of a label file.

    Returns
    -------
    (H, W) bool
    """
    grey = label if label.ndim == 2 else label[..., :3].max(axis=-1)
    return _SELECTIONS.get((dataset, target), _foreground)(grey)


def split_lungs(mask: Mask) -> tuple[Mask, Mask]:
    """Part a frontal chest X-ray's mask into the patient's left and right lung.

    The patient's left lies on the image's right. Lungs that touch are cut at the
    emptiest column near the middle.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    left, right : (H, W) bool
        Disjoint; together they are `mask`.
    """
    from skimage.measure import label, regionprops

    pieces = label(mask)
    regions = sorted(regionprops(pieces), key=lambda region: -region.area)
    cut = _emptiest_column(mask)
    columns = [float(region.centroid[1]) for region in regions]
    apart = (
        len(regions) > 1
        and regions[1].area > regions[0].area / 4
        and abs(columns[0] - columns[1]) > np.ptp(np.flatnonzero(mask.any(axis=0))) / 3
    )
    middle = (columns[0] + columns[1]) / 2 if apart else cut
    on_right_side = np.arange(mask.shape[1]) >= middle
    left = np.zeros_like(mask)
    for region, column in zip(regions, columns, strict=True):
        piece = pieces == region.label
        share = float(piece[:, on_right_side].sum() / region.area)
        if not apart and min(share, 1 - share) > 0.15:
            left |= piece & on_right_side
        elif column >= middle:
            left |= piece
    return left, mask & ~left


def _foreground(label: npt.NDArray[Any]) -> Mask:
    """Where a mask of 0 and 255, or of 0 and 1, is on."""
    on: Mask = label > (127 if label.max(initial=0) > 127 else 0)
    return on


def _nucleus(label: npt.NDArray[Any]) -> Mask:
    """Where a white blood cell's label is 255, of 0, 128 and 255."""
    on: Mask = label >= 192
    return on


def _cytoplasm(label: npt.NDArray[Any]) -> Mask:
    """Where a white blood cell's label is 128, of 0, 128 and 255."""
    on: Mask = (label >= 64) & (label < 192)
    return on


_SELECTIONS: Mapping[tuple[str, str], Callable[[npt.NDArray[Any]], Mask]] = {
    ("WhiteBloodCells", "nucleus"): _nucleus,
    ("WhiteBloodCells", "cytoplasm"): _cytoplasm,
    ("ChestXrayLungs", "left lung"): lambda label: split_lungs(_foreground(label))[0],
    ("ChestXrayLungs", "right lung"): lambda label: split_lungs(_foreground(label))[1],
}


def _emptiest_column(mask: Mask) -> int:
    """Return the column of the middle third with the least mask, near the middle."""
    width = mask.shape[1]
    columns = np.arange(width // 3, width - width // 3)
    off_middle = np.abs(columns - (width - 1) / 2)
    order = np.lexsort((off_middle, mask.sum(axis=0)[columns]))
    return int(columns[order[0]])
