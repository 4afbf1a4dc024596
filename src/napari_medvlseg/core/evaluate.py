"""Measure a model on a labelled data set: one case an image and target."""

from __future__ import annotations

import itertools
import math
import statistics
import zlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medvlseg.core.captions import caption_case
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import (
    dice_similarity_coefficient,
    normalized_surface_distance,
)
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.reliability import (
    CaseReliability,
    case_reliability,
    summarise_reliability,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image

TOLERANCE_PX = 2.0
"""Of the normalised surface distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """How one question about one image was answered."""

    image: str
    target: str
    prompt: str
    captioned: bool
    """Whether the prompt was written from the reference."""
    dsc: float
    nsd: float
    present: bool
    """Whether anything was found."""
    pixels: int
    reference_pixels: int
    mean_predictive_entropy: float
    """Over the whole image, in nats."""
    mean_mutual_information: float
    """Over the whole image, in nats."""
    doubt: float
    """Predictive entropy of the image, a pixel expected to belong to the target."""
    reliability: CaseReliability
    """For the figures of the set."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file, without the arrays."""
        names = [field.name for field in fields(self) if field.name != "reliability"]
        return {name: getattr(self, name) for name in names}


def evaluate_steps(
    cases: Sequence[Case], design: str, predictor: Predictor, config: SegmentConfig
) -> Iterator[CaseResult]:
    """Segment every case on its image's own grid and compare with its reference.

    Parameters
    ----------
    cases : sequence of Case
        Of `list_cases`; those of one image next to each other.
    design : str
        Of the prompts that have to be written, where no sheet tells them.
    predictor : Predictor
    config : SegmentConfig

    Raises
    ------
    DatasetError
        If a label does not fit its image.
    MedVLSegError
        If a file cannot be read.
    """
    for _, group in itertools.groupby(cases, key=lambda case: case.image_path):
        yield from _evaluate_image(list(group), design, predictor, config)


def caption_of(
    case: Case, image: Image, reference: npt.NDArray[np.bool_], design: str
) -> str:
    """Word a case's prompt from its reference; the same case gets the same words."""
    seed = zlib.crc32(f"{case.image_path.stem} {case.target}".encode())
    return caption_case(reference, image.voxels, case.info, design=design, seed=seed)


def read_case(case: Case) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Read a case's image, and its reference (H, W) on the image's grid.

    Raises
    ------
    DatasetError
        If they do not fit each other.
    UnsupportedFormatError
        If a file cannot be read.
    """
    image = read(case.image_path)
    reference = case.reference(read(case.label_path).voxels)
    if reference.shape != image.spatial_shape:
        msg = (
            f"{case.label_path}: expected a label of the image's shape "
            f"{image.spatial_shape}, got {reference.shape}"
        )
        raise DatasetError(msg)
    return image, reference


def summarise(
    results: Sequence[CaseResult], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the JSON tells of one set.

    Parameters
    ----------
    results : sequence of CaseResult
    facts : mapping
        Set, split, model, prompts, samples and so on; they come first.
    """
    summary: dict[str, Any] = {
        **facts,
        "nsd_tolerance_px": TOLERANCE_PX,
        **_figures(results),
        "reliability": summarise_reliability(
            [result.reliability for result in results],
            [result.dsc for result in results],
        ),
    }
    targets = dict.fromkeys(result.target for result in results)
    if len(targets) > 1:
        summary["targets"] = {
            target: _figures([r for r in results if r.target == target])
            for target in targets
        }
    return {**summary, "cases": [result.to_dict() for result in results]}


def join_sets(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the JSON of several sets: their own and the mean of their means."""
    names = ("dsc", "nsd")
    means = {name: [summary[name]["mean"] for summary in summaries] for name in names}
    return {
        "sets": [dict(summary) for summary in summaries],
        "mean": {name: _spread(values) for name, values in means.items()},
    }


def _evaluate_image(
    cases: list[Case], design: str, predictor: Predictor, config: SegmentConfig
) -> Iterator[CaseResult]:
    """Ask all questions about one image at once: they do not influence each other."""
    pairs = [read_case(case) for case in cases]
    prompts = [
        case.prompt or caption_of(case, image, reference, design)
        for case, (image, reference) in zip(cases, pairs, strict=True)
    ]
    image = pairs[0][0]
    found = segment(image, prompts, predictor, **asdict(config))
    for index, (case, mask) in enumerate(zip(cases, found.masks, strict=True)):
        reference = pairs[index][1]
        reliability = case_reliability(
            found.probability[index],
            (found.predictive_entropy[index], found.mutual_information[index]),
            mask,
            reference,
        )
        yield CaseResult(
            image=case.image_path.name,
            target=case.target,
            prompt=prompts[index],
            captioned=case.prompt is None,
            dsc=dice_similarity_coefficient(mask, reference),
            nsd=normalized_surface_distance(mask, reference, TOLERANCE_PX),
            present=bool(mask.any()),
            pixels=int(mask.sum()),
            reference_pixels=int(reference.sum()),
            mean_predictive_entropy=_mean(found.predictive_entropy[index]),
            mean_mutual_information=_mean(found.mutual_information[index]),
            doubt=reliability.doubt,
            reliability=reliability,
        )


def _figures(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return number, overlap, surface distance and share of absent answers."""
    return {
        "n": len(results),
        "dsc": _spread(result.dsc for result in results),
        "nsd": _spread(result.nsd for result in results),
        "absent": _spread(float(not result.present) for result in results)["mean"],
    }


def _spread(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, None where there are too few."""
    known = list(values)
    return {
        "mean": math.fsum(known) / len(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _mean(values: npt.NDArray[np.float32]) -> float:
    """Return the mean, summed in double precision."""
    return float(values.mean(dtype=np.float64))
