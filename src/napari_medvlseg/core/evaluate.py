"""Measure a model on a labelled data set: one case an image, target and sample count.

The sample counts of one case are prefixes of the same draws.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_medvlseg.core.averages import spread
from napari_medvlseg.core.captions import caption_case
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import (
    Confusion,
    confusion,
    hd95,
    pooled,
    surface_distances,
)
from napari_medvlseg.core.pipeline import segment, segment_counts
from napari_medvlseg.core.reliability import (
    CaseReliability,
    case_reliability,
    summarise_reliability,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Image, Segmentation

    Mask = npt.NDArray[np.bool_]

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
    samples: int
    """Draws that the answer is made of."""
    dsc: float
    nsd: float
    hd95: float
    """In pixels."""
    hd95_mm: float | None
    """None where the image does not tell its spacing."""
    sensitivity: float
    specificity: float
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
    brier_union: float | None
    """Over the union of mask and reference; None where that is empty."""
    brier_image: float
    confusion: Confusion
    """For the figures of the set, as the next one."""
    reliability: CaseReliability

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file, without the arrays."""
        left_out = ("reliability", "confusion")
        names = [field.name for field in fields(self) if field.name not in left_out]
        return {name: getattr(self, name) for name in names}

    def rows(self) -> list[dict[str, Any]]:
        """Return the one row of CSV."""
        return [self.to_dict()]


class ResultStore(Protocol):
    """Where the results of finished images are kept, to go on from."""

    def load(self, index: int) -> list[CaseResult] | None:
        """Return what was kept of an image, by its number."""
        ...

    def save(self, index: int, results: Sequence[CaseResult]) -> None:
        """Keep the results of an image."""
        ...


def evaluate_steps(
    cases: Sequence[Case],
    design: str,
    predictor: Predictor,
    config: SegmentConfig,
    counts: Sequence[int] = (),
    kept: ResultStore | None = None,
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
    counts : sequence of int
        Fewer draws whose answers are measured as well.
    kept : ResultStore, optional
        The results of each image are kept there, and those that it holds are not made
        again. It must belong to a run of the same questions and settings.

    Yields
    ------
    CaseResult
        Of each case one for every count and, last, for all draws.

    Raises
    ------
    DatasetError
        If a label does not fit its image.
    MedVLSegError
        If a file cannot be read.
    """
    images = itertools.groupby(cases, key=lambda case: case.image_path)
    for index, (_, group) in enumerate(images):
        results = None if kept is None else kept.load(index)
        if results is None:
            asked = _ask(list(group), design)
            results = list(_evaluate_image(asked, predictor, config, counts))
            if kept is not None:
                kept.save(index, results)
        yield from results


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
        Those of most draws give the figures; fewer draws get figures of their own in
        ``sample_counts``.
    facts : mapping
        Set, split, model, prompts, samples and so on; they come first.
    """
    counts = sorted({result.samples for result in results})
    final = [result for result in results if result.samples == max(counts)]
    summary: dict[str, Any] = {
        **facts,
        "nsd_tolerance_px": TOLERANCE_PX,
        **_figures(final),
        "reliability": _reliability(final),
    }
    targets = dict.fromkeys(result.target for result in final)
    if len(targets) > 1:
        summary["targets"] = {
            target: _figures([r for r in final if r.target == target])
            for target in targets
        }
    if len(counts) > 1:
        summary["sample_counts"] = [
            _at_count([r for r in results if r.samples == count]) for count in counts
        ]
    return {**summary, "cases": [result.to_dict() for result in final]}


@dataclass(frozen=True, slots=True)
class _Question:
    """A case with its prompt, image and reference."""

    case: Case
    prompt: str
    image: Image
    reference: Mask


def _ask(cases: Sequence[Case], design: str) -> list[_Question]:
    """Read the cases of one image and word their prompts."""
    questions = []
    for case in cases:
        image, reference = read_case(case)
        prompt = case.prompt or caption_of(case, image, reference, design)
        questions.append(_Question(case, prompt, image, reference))
    return questions


def _evaluate_image(
    questions: Sequence[_Question],
    predictor: Predictor,
    config: SegmentConfig,
    counts: Sequence[int],
) -> Iterator[CaseResult]:
    """Ask all questions about one image at once; their maps are each its own."""
    image, prompts = questions[0].image, [question.prompt for question in questions]
    samples = config.num_samples
    if counts:
        every = sorted({*counts, samples})
        found = dict(segment_counts(image, prompts, predictor, config, every))
    else:
        found = {samples: segment(image, prompts, predictor, **asdict(config))}
    for index, question in enumerate(questions):
        for count, segmentation in found.items():
            yield _compare(question, segmentation, index, count)


def _compare(
    question: _Question, found: Segmentation, index: int, samples: int
) -> CaseResult:
    """Compare one mask of a segmentation with its reference."""
    case, reference, mask = question.case, question.reference, found.masks[index]
    maps = (found.predictive_entropy[index], found.mutual_information[index])
    reliability = case_reliability(found.probability[index], maps, mask, reference)
    counts, surfaces = confusion(mask, reference), surface_distances(mask, reference)
    spacing = question.image.spacing_mm
    return CaseResult(
        image=case.image_path.name,
        target=case.target,
        prompt=question.prompt,
        captioned=case.prompt is None,
        samples=samples,
        dsc=counts.f1,
        nsd=surfaces.within(TOLERANCE_PX),
        hd95=surfaces.hd95(),
        hd95_mm=None if spacing is None else hd95(mask, reference, spacing),
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        present=bool(mask.any()),
        pixels=int(mask.sum()),
        reference_pixels=int(reference.sum()),
        mean_predictive_entropy=_mean(maps[0]),
        mean_mutual_information=_mean(maps[1]),
        doubt=reliability.doubt,
        brier_union=None if reliability.union is None else reliability.union.brier,
        brier_image=reliability.image.brier,
        confusion=counts,
        reliability=reliability,
    )


def _at_count(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the figures of one number of draws, without the curves."""
    curves = ("calibration", "error_by_entropy")
    told = _reliability(results).items()
    return {
        "samples": results[0].samples,
        **_figures(results),
        "reliability": {name: value for name, value in told if name not in curves},
    }


def _reliability(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return whether the uncertainty of some results can be believed."""
    return summarise_reliability(
        [result.reliability for result in results], [result.dsc for result in results]
    )


def _figures(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return number, overlap, surface distances and share of absent answers."""
    together = pooled(result.confusion for result in results)
    millimetres = [result.hd95_mm for result in results if result.hd95_mm is not None]
    return {
        "n": len(results),
        "dsc": spread(result.dsc for result in results),
        "nsd": spread(result.nsd for result in results),
        "hd95": spread(result.hd95 for result in results),
        **({"hd95_mm": spread(millimetres)} if millimetres else {}),
        "sensitivity": spread(result.sensitivity for result in results),
        "specificity": spread(result.specificity for result in results),
        "pooled": {
            "sensitivity": together.sensitivity,
            "specificity": together.specificity,
            "f1": together.f1,
        },
        "absent": spread(float(not result.present) for result in results)["mean"],
    }


def _mean(values: npt.NDArray[np.float32]) -> float:
    """Return the mean, summed in double precision."""
    return float(values.mean(dtype=np.float64))
