"""What the bundles of all runs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_medvlseg.core.targets import TargetInfo

INTENDED_USE = "Research use only; not a medical device, not for diagnosis."
EXAMPLES = {
    "breast tumor": "breast tumor in the breast ultrasound image",
    "polyp": "one round polyp in the colonoscopy image",
    "skin lesion": "skin lesion in the dermatoscopy image",
    "brain tumor": "brain tumor in the contrast-enhanced brain MRI image",
    "lungs": "lungs in the chest X-ray image",
    "left lung": "left lung in the chest X-ray image",
    "right lung": "right lung in the chest X-ray image",
    "retinal vessels": "retinal vessels in the fundus photograph",
    "cell nuclei": "cell nuclei in the microscopy image",
    "white blood cell nucleus": "white blood cell nucleus in the blood smear image",
    "white blood cell cytoplasm": "white blood cell cytoplasm in the blood smear image",
}
"""A prompt that works for each class."""


def concept(
    info: TargetInfo,
    synonyms: Sequence[str] = (),
    *,
    tiling: str = "whole",
    min_foreground: float | None = None,
) -> dict[str, Any]:
    """Return what ``config.json`` says of something that a model was taught to find.

    Parameters
    ----------
    info : TargetInfo
    synonyms : sequence of str
    tiling : str
        How a large picture is best segmented, ``whole`` or ``tile``.
    min_foreground : float, optional
        Share of a picture below which it is not found.
    """
    plain = f"{info.class_name} in the {info.modality}"
    return {
        "name": info.class_name,
        "synonyms": list(synonyms),
        "modality": info.modality,
        "example": EXAMPLES.get(info.class_name, plain),
        "tiling": tiling,
        "min_foreground": min_foreground,
    }


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in half precision; counters stay."""
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
