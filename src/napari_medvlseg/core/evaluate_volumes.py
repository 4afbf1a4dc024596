"""Measure a 3D model on labelled volumes: every class of every case."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.averages import wide_spread
from napari_medvlseg.core.io.channels import read_channels
from napari_medvlseg.core.io.labels import read_labels
from napari_medvlseg.core.metrics import (
    dice_similarity_coefficient,
    surface_distances,
)
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.reliability import (
    CaseReliability,
    case_figures,
    case_reliability,
    class_reliability,
    summarise_reliability,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.types import Segmentation
    from napari_medvlseg.core.volume_predictor import VolumePredictor
    from napari_medvlseg.core.volume_sets import VolumeCase

    Mask = npt.NDArray[np.bool_]

TOLERANCE = 1.0
"""Of the normalised surface distance: a voxel of the hippocampus set, in mm."""
KINDS = ("dsc", "nsd", "hd95")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """How one class of one volume was found."""

    dsc: float
    nsd: float
    hd95: float
    """In mm or voxels; the diagonal of the grid where one of the two is empty."""
    voxels: int
    reference_voxels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeResult:
    """How one volume was segmented."""

    image: str
    units: str
    """Of distances: ``"mm"``, or ``"voxels"`` where the spacing is unknown."""
    classes: Mapping[str, ClassFigures]
    mean_predictive_entropy: float
    """Over the whole volume, in nats."""
    mean_mutual_information: float
    """Over the whole volume, in nats."""
    samples: int
    """Draws of each window, in the mean."""
    seconds: float
    reliability: Mapping[str, CaseReliability]
    """Of all classes together, which exclude one another, or of each by its name."""

    @property
    def overlap(self) -> list[float]:
        """Return the DSC that belongs to each entry of `reliability`."""
        if len(self.reliability) < len(self.classes):
            return [self.mean("dsc")]
        return [figures.dsc for figures in self.classes.values()]

    def mean(self, kind: str) -> float:
        """Return a figure's mean over the classes."""
        found = [getattr(figures, kind) for figures in self.classes.values()]
        return math.fsum(found) / len(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file, with the means over the classes."""
        names = [field.name for field in fields(self) if field.name != "classes"]
        told = {name: getattr(self, name) for name in names}
        classes = {name: asdict(figures) for name, figures in self.classes.items()}
        believed = {n: case_figures(each) for n, each in self.reliability.items()}
        means = {kind: self.mean(kind) for kind in KINDS}
        return {**told, "classes": classes, "reliability": believed, **means}


def evaluate_volumes(
    cases: Sequence[VolumeCase],
    predictor: VolumePredictor,
    config: SegmentConfig,
    tolerance: float = TOLERANCE,
) -> Iterator[VolumeResult]:
    """Segment every case on its own grid and compare each class with its labels.

    Parameters
    ----------
    cases : sequence of VolumeCase
    predictor : VolumePredictor
    config : SegmentConfig
    tolerance : float
        Of the surface distance, in mm, or voxels where the spacing is unknown.

    Raises
    ------
    DatasetError
        If labels are not on their image's grid, or no whole numbers.
    MedVLSegError
        If a file cannot be read, or the model cannot segment it.
    """
    for case in cases:
        image = read_channels(case.images)
        labels = read_labels(case.label, image)
        found = segment(image, "all", predictor, **asdict(config))
        references = {
            name: np.isin(labels, wanted)
            for name, wanted in zip(found.prompts, predictor.spec.labels, strict=True)
        }
        spacing = image.spacing_mm
        yield VolumeResult(
            image=case.name,
            units="voxels" if spacing is None else "mm",
            classes={
                name: class_figures(mask, reference, tolerance, spacing)
                for (name, reference), mask in zip(
                    references.items(), found.masks, strict=True
                )
            },
            mean_predictive_entropy=float(found.predictive_entropy.mean(dtype=float)),
            mean_mutual_information=float(found.mutual_information.mean(dtype=float)),
            samples=int(found.provenance["num_samples"]),
            seconds=float(found.provenance["seconds"]),
            reliability=_reliability(found, references),
        )


def class_figures(
    mask: Mask,
    reference: Mask,
    tolerance: float,
    spacing: Sequence[float] | None,
) -> ClassFigures:
    """Compare the mask of a class with its reference.

    Parameters
    ----------
    mask, reference : (I, J, K) bool
    tolerance : float
    spacing : three floats, optional
        In mm; without it distances are in voxels.
    """
    surfaces = surface_distances(mask, reference, spacing)
    return ClassFigures(
        dsc=dice_similarity_coefficient(mask, reference),
        nsd=surfaces.within(tolerance),
        hd95=surfaces.hd95(),
        voxels=int(mask.sum()),
        reference_voxels=int(reference.sum()),
    )


def summarise_volumes(
    results: Sequence[VolumeResult], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the JSON tells of one set.

    Parameters
    ----------
    results : sequence of VolumeResult
        At least one.
    facts : mapping
        Set, split, model, samples and so on; they come first.

    Returns
    -------
    dict
        Of each figure mean, standard deviation and quartiles over the cases, the mean
        of the classes and each class; ``reliability`` as `summarise_reliability` tells
        it, with the ``cases`` beside. If classes may overlap, each class of a volume
        is a case there.
    """
    cases = [result.to_dict() for result in results]
    names = list(results[0].classes)
    units = sorted({result.units for result in results})
    return {
        **facts,
        "n": len(results),
        "units": units[0] if len(units) == 1 else "mixed",
        **{kind: wide_spread(case[kind] for case in cases) for kind in KINDS},
        "classes": {
            name: {
                kind: wide_spread(case["classes"][name][kind] for case in cases)
                for kind in KINDS
            }
            for name in names
        },
        "reliability": _believed(results),
        "seconds": wide_spread(result.seconds for result in results),
        "cases": cases,
    }


def _reliability(
    found: Segmentation, references: Mapping[str, Mask]
) -> dict[str, CaseReliability]:
    """Compare the maps of a case with its reference: of all classes, or of each."""
    entropy, information = found.predictive_entropy, found.mutual_information
    if not found.exclusive:
        return {
            name: case_reliability(
                found.probability[row],
                (entropy[row], information[row]),
                found.masks[row],
                references[name],
            )
            for row, name in enumerate(found.prompts)
        }
    right = np.zeros(found.labels.shape, found.labels.dtype)
    for number, reference in enumerate(references.values(), start=1):
        right[reference] = number
    maps = entropy[0], information[0]
    return {"all": class_reliability(found.probability, maps, found.labels, right)}


def _believed(results: Sequence[VolumeResult]) -> dict[str, Any]:
    """Return whether the uncertainty of a set can be believed, with its spread."""
    each = [one for result in results for one in result.reliability.values()]
    overlap = [dsc for result in results for dsc in result.overlap]
    told = [case_figures(one) for one in each]
    return {
        **summarise_reliability(each, overlap),
        "cases": {
            name: wide_spread(value for one in told if (value := one[name]) is not None)
            for name in told[0]
        },
    }
