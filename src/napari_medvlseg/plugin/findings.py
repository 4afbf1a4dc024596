"""What a segmentation says about each prompt, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medvlseg.core.palette import label_color
from napari_medvlseg.core.postprocess import to_labels
from napari_medvlseg.core.sides import side_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.types import Segmentation


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one prompt was found, and how much of it."""

    label: int
    prompt: str
    is_present: bool
    size: str
    is_doubtful: bool
    max_probability: float
    side_warning: str = ""
    color: str = ""
    """Of the label, as ``#rrggbb``."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """A segmentation with what it says about each prompt."""

    segmentation: Segmentation
    each: tuple[Finding, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """The prompts that were not found."""
        return tuple(one.prompt for one in self.each if not one.is_present)


def find(segmentation: Segmentation) -> Findings:
    """Count each prompt's pixels."""
    count = len(segmentation.prompts)
    # By parts: each is counted as numbers of 64 bits, of a volume half a gigabyte.
    parts = (np.bincount(p.ravel(), minlength=count + 1) for p in segmentation.labels)
    pixels = sum(parts, np.zeros(count + 1, np.int64))
    each = [
        Finding(
            label,
            prompt,
            present,
            _size(segmentation, int(pixels[label])),
            doubtful,
            float(segmentation.probability[label - 1].max()),
            warning,
            label_color(label, segmentation.colors),
        )
        for label, (prompt, present, doubtful, warning) in enumerate(
            zip(
                segmentation.prompts,
                segmentation.present,
                segmentation.doubtful,
                side_warnings(segmentation),
                strict=True,
            ),
            start=1,
        )
    ]
    return Findings(segmentation, tuple(each))


def relabel(segmentation: Segmentation, threshold: float) -> Findings:
    """Label anew from the probability, without the model."""
    labels = to_labels(
        segmentation.probability,
        threshold,
        segmentation.min_foreground,
        segmentation.slice_axis,
    )
    return find(replace(segmentation, labels=labels, threshold=threshold))


def hints(findings: Findings | None, first: Sequence[str] = ()) -> list[str]:
    """Return what is to be told about a run, as sentences; the core's come last."""
    told = findings.segmentation.provenance if findings else {}
    every = dict.fromkeys([*first, *told.get("hints", ())])  # a sentence told twice
    return [f"{hint[:1].upper()}{hint[1:]}." for hint in every]


def drawn(findings: Findings | None, wanted: int) -> str:
    """Return how many samples there were, also where fewer were enough."""
    told = findings.segmentation.provenance if findings else {}
    counts = told.get("samples_drawn") or [wanted]
    mean = sum(counts) / len(counts)
    noun = "sample" if wanted == 1 else "samples"
    if mean >= wanted:
        return f"{wanted} {noun}"
    return f"{mean:.3g} of {wanted} {noun} drawn, which were enough,"


def _size(segmentation: Segmentation, pixels: int) -> str:
    """Return a share of the image and, where the spacing is known, mm2 or mL."""
    share = f"{pixels / segmentation.labels.size:.1%}"
    if segmentation.units != "mm":
        return share
    edges = segmentation.affine[:3, :3]
    if segmentation.labels.ndim == 3:
        volume_ml = pixels * abs(float(np.linalg.det(edges))) / 1000
        return f"{share}, {_plainly(volume_ml)} mL"
    area_mm2 = pixels * float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1])))
    return f"{share}, {_plainly(area_mm2)} mm²"


def _plainly(amount: float) -> str:
    """Return a number with at least three digits that count, and no power of ten.

    >>> _plainly(16943.2), _plainly(38.61), _plainly(0.00001)
    ('16943', '38.6', 'less than 0.001')
    """
    if amount >= 100:
        return f"{amount:.0f}"
    return f"{amount:.3g}" if amount >= 0.001 else "less than 0.001"
