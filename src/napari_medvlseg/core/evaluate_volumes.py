"""Measure a 3D model on labelled volumes: every class of every case.

The sample counts of one volume are prefixes of the same draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_medvlseg.core.averages import spread, wide_spread
from napari_medvlseg.core.io.channels import read_channels
from napari_medvlseg.core.io.labels import read_labels
from napari_medvlseg.core.metrics import (
    Confusion,
    confusion,
    pooled,
    surface_distances,
)
from napari_medvlseg.core.pipeline import segment_counts
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
KINDS = ("dsc", "nsd", "hd95", "sensitivity", "specificity")
CURVES = ("calibration", "error_by_entropy")
"""Of the reliability, which fewer draws do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """How one class of one volume was found."""

    dsc: float
    nsd: float
    hd95: float
    """In mm or voxels; the diagonal of the grid where one of the two is empty."""
    confusion: Confusion
    """Numbers of voxels."""

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found."""
        return self.confusion.sensitivity

    @property
    def specificity(self) -> float:
        """Share of the other voxels that were left alone."""
        return self.confusion.specificity

    @property
    def voxels(self) -> int:
        """How many were found."""
        return self.confusion.true_positive + self.confusion.false_positive

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for a JSON file or a row of CSV."""
        counts = self.confusion
        return {
            **{kind: getattr(self, kind) for kind in KINDS},
            "present": self.voxels > 0,
            "voxels": self.voxels,
            "reference_voxels": counts.true_positive + counts.false_negative,
        }


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
    """Draws that the answer is made of."""
    seconds: float
    """Of all draws, whatever the count."""
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
        classes = {name: figures.to_dict() for name, figures in self.classes.items()}
        believed = {n: case_figures(each) for n, each in self.reliability.items()}
        means = {kind: self.mean(kind) for kind in KINDS}
        return {**told, "classes": classes, "reliability": believed, **means}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of CSV for each class.

        Where the classes exclude one another, the figures of uncertainty are those of
        all of them together, in each row.
        """
        shared = {
            "units": self.units,
            "samples": self.samples,
            "mean_predictive_entropy": self.mean_predictive_entropy,
            "mean_mutual_information": self.mean_mutual_information,
            "seconds": self.seconds,
        }
        together = next(iter(self.reliability.values()))
        return [
            {
                "image": self.image,
                "target": name,
                **figures.to_dict(),
                **case_figures(self.reliability.get(name, together)),
                **shared,
            }
            for name, figures in self.classes.items()
        ]


class VolumeStore(Protocol):
    """Where the results of finished volumes are kept, to go on from."""

    def load(self, index: int) -> list[VolumeResult] | None:
        """Return what was kept of a volume, by its number."""
        ...

    def save(self, index: int, results: Sequence[VolumeResult]) -> None:
        """Keep the results of a volume."""
        ...


def evaluate_volumes(
    cases: Sequence[VolumeCase],
    predictor: VolumePredictor,
    config: SegmentConfig,
    counts: Sequence[int] = (),
    kept: VolumeStore | None = None,
) -> Iterator[VolumeResult]:
    """Segment every case on its own grid and compare each class with its labels.

    Parameters
    ----------
    cases : sequence of VolumeCase
    predictor : VolumePredictor
    config : SegmentConfig
    counts : sequence of int
        Fewer draws whose answers are measured as well.
    kept : VolumeStore, optional
        The results of each volume are kept there, and those that it holds are not made
        again. It must belong to a run of the same cases and settings.

    Yields
    ------
    VolumeResult
        Of each case one for every count and, last, for all draws.

    Raises
    ------
    DatasetError
        If labels are not on their image's grid, or no whole numbers.
    MedVLSegError
        If a file cannot be read, or the model cannot segment it.
    """
    for index, case in enumerate(cases):
        results = None if kept is None else kept.load(index)
        if results is None:
            results = list(_evaluate_volume(case, predictor, config, counts))
            if kept is not None:
                kept.save(index, results)
        yield from results


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
    counts = confusion(mask, reference)
    surfaces = surface_distances(mask, reference, spacing)
    return ClassFigures(
        dsc=counts.f1,
        nsd=surfaces.within(tolerance),
        hd95=surfaces.hd95(),
        confusion=counts,
    )


def summarise_volumes(
    results: Sequence[VolumeResult], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the JSON tells of one set.

    Parameters
    ----------
    results : sequence of VolumeResult
        At least one. Those of most draws give the figures; fewer draws get figures of
        their own in ``sample_counts``.
    facts : mapping
        Set, split, model, samples and so on; they come first.

    Returns
    -------
    dict
        Of each figure mean, standard deviation and quartiles over the cases, the mean
        of the classes and each class; ``pooled`` over the voxels of all cases, of a
        class or of all; ``reliability`` as `summarise_reliability` tells it, with the
        ``cases`` beside: volumes, or each class of one if classes may overlap.
    """
    counts = sorted({result.samples for result in results})
    by_count = {n: [one for one in results if one.samples == n] for n in counts}
    final = by_count[counts[-1]]
    units = sorted({result.units for result in final})
    summary = {
        **facts,
        "units": units[0] if len(units) == 1 else "mixed",
        **_figures(final),
        "seconds": wide_spread(result.seconds for result in final),
    }
    if len(counts) > 1:
        summary["sample_counts"] = [_at_count(by_count[count]) for count in counts]
    return {**summary, "cases": [result.to_dict() for result in final]}


def _evaluate_volume(
    case: VolumeCase,
    predictor: VolumePredictor,
    config: SegmentConfig,
    counts: Sequence[int],
) -> Iterator[VolumeResult]:
    """Segment a volume once, and compare what each number of draws gave."""
    image = read_channels(case.images)
    labels = read_labels(case.label, image)
    fewer = counts if predictor.network.samples else ()  # else all draws are alike
    every = sorted({*fewer, config.num_samples})
    for count, found in segment_counts(image, ["all"], predictor, config, every):
        references = {
            name: np.isin(labels, wanted)
            for name, wanted in zip(found.prompts, predictor.spec.labels, strict=True)
        }
        spacing = image.spacing_mm
        yield VolumeResult(
            image=case.name,
            units="voxels" if spacing is None else "mm",
            classes={
                name: class_figures(mask, reference, TOLERANCE, spacing)
                for (name, reference), mask in zip(
                    references.items(), found.masks, strict=True
                )
            },
            mean_predictive_entropy=float(found.predictive_entropy.mean(dtype=float)),
            mean_mutual_information=float(found.mutual_information.mean(dtype=float)),
            samples=count if fewer else int(found.provenance["num_samples"]),
            seconds=float(found.provenance["seconds"]),
            reliability=_reliability(found, references),
        )


def _figures(results: Sequence[VolumeResult]) -> dict[str, Any]:
    """Return overlap, distances and reliability of volumes, of each class as well."""
    classes = {
        name: [result.classes[name] for result in results]
        for name in results[0].classes
    }
    each = [figures for of_class in classes.values() for figures in of_class]
    return {
        "n": len(results),
        **{kind: wide_spread(one.mean(kind) for one in results) for kind in KINDS},
        **_counted(each),
        "classes": {
            name: {
                "n": len(of_class),
                **{k: wide_spread(getattr(one, k) for one in of_class) for k in KINDS},
                **_counted(of_class),
            }
            for name, of_class in classes.items()
        },
        "reliability": _believed(results),
    }


def _counted(each: Sequence[ClassFigures]) -> dict[str, Any]:
    """Return what the voxels of all cases together tell, and how often none was."""
    together = pooled(figures.confusion for figures in each)
    return {
        "pooled": {
            "sensitivity": together.sensitivity,
            "specificity": together.specificity,
            "f1": together.f1,
        },
        "absent": spread(float(not figures.voxels) for figures in each)["mean"],
    }


def _at_count(results: Sequence[VolumeResult]) -> dict[str, Any]:
    """Return the figures of one number of draws, without the curves."""
    told = _figures(results)
    believed = told["reliability"].items()
    kept = {name: value for name, value in believed if name not in CURVES}
    return {"samples": results[0].samples, **told, "reliability": kept}


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
