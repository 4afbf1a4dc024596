"""Measure a 3D model on labelled volumes: every class of every case."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import (
    dice_similarity_coefficient,
    surface_distances,
)
from napari_medvlseg.core.pipeline import segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.types import Image
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
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file, with the means over the classes."""
        found = [asdict(figures) for figures in self.classes.values()]
        means = {kind: _mean(each[kind] for each in found) for kind in KINDS}
        return {**asdict(self), **means}


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
        If labels are not on their image's grid, or have several channels.
    MedVLSegError
        If a file cannot be read, or the model cannot segment it.
    """
    for case in cases:
        image, labels = _read(case)
        found = segment(image, "all", predictor, **asdict(config))
        spacing = image.spacing_mm
        figures = {
            name: class_figures(mask, np.isin(labels, wanted), tolerance, spacing)
            for name, mask, wanted in zip(
                found.prompts, found.masks, predictor.spec.labels, strict=True
            )
        }
        yield VolumeResult(
            image=case.name,
            units="voxels" if spacing is None else "mm",
            classes=figures,
            mean_predictive_entropy=float(found.predictive_entropy.mean(dtype=float)),
            mean_mutual_information=float(found.mutual_information.mean(dtype=float)),
            seconds=float(found.provenance["seconds"]),
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
    """
    cases = [result.to_dict() for result in results]
    names = list(results[0].classes)
    units = sorted({result.units for result in results})
    return {
        **facts,
        "n": len(results),
        "units": units[0] if len(units) == 1 else "mixed",
        **{kind: _spread(case[kind] for case in cases) for kind in KINDS},
        "classes": {
            name: {
                kind: _spread(case["classes"][name][kind] for case in cases)
                for kind in KINDS
            }
            for name in names
        },
        "seconds": _spread(result.seconds for result in results),
        "cases": cases,
    }


def _read(case: VolumeCase) -> tuple[Image, npt.NDArray[Any]]:
    """Read a case's image, and its labels on the image's grid."""
    if len(case.images) != 1:
        msg = (
            f"{case.label}: expected one image, got {len(case.images)} channels, which "
            "cannot be segmented yet"
        )
        raise DatasetError(msg)
    image, labels = read(case.images[0]), read(case.label).voxels
    if labels.shape != image.spatial_shape:
        msg = (
            f"{case.label}: expected labels of the image's shape "
            f"{image.spatial_shape}, got {labels.shape}"
        )
        raise DatasetError(msg)
    return image, labels


def _spread(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, which one case does not have."""
    known = list(values)
    return {
        "mean": _mean(known),
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _mean(values: Iterable[float]) -> float:
    """Return the mean."""
    known = list(values)
    return math.fsum(known) / len(known)
