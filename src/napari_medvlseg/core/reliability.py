"""Whether a probability and its uncertainty can be believed: calibration and ranking.

The error of a pixel is |p - g|, probability p against reference g (0 or 1). The union
is that of mask and reference: elsewhere nearly every pixel is easy. In Brier score and
calibration error every case weighs the same, whatever its size.

Of C classes that exclude one another, and a background, the error is 1 less the
probability of the right one, and the squared error half of the sum over all of them of
(p_c - 1 if c is right else 0)^2: with one class both are those of a yes/no question.
Calibration is then of the winning class: its probability against whether it is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from napari_medvlseg.core.types import doubt_of
from napari_medvlseg.core.uncertainty import MAX_BINARY_ENTROPY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

BINS = 15
"""Of the calibration error, equally wide."""
SAMPLED_PIXELS = 2000
"""At most, of each case's union, evenly spaced, for the correlation over a set."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What a region of one case contributes; all arrays belong to the region.

    Parameters
    ----------
    brier : float
        Mean squared error.
    bins : (BINS, 3)
        Share of the pixels in each bin of probability, and the shares' sums of
        probability and of reference; of classes the winning one's.
    """

    brier: float
    bins: Values


@dataclass(frozen=True, slots=True, eq=False)
class CaseReliability:
    """How one case's uncertainty relates to its error.

    Parameters
    ----------
    image, union : Pixels
        Of the whole picture; of the union of mask and reference, None if that is empty.
    sample : (3, N)
        Error, predictive entropy and mutual information of pixels of the union.
    entropy, information : float
        Sums of predictive entropy and mutual information over the union, in nats.
    doubt : float
        Predictive entropy of the picture, in nats a pixel that is expected to belong
        to the structure: one number a picture that needs no reference.
    most : float
        Nats: the largest entropy that there is.
    """

    image: Pixels
    union: Pixels | None
    sample: Values
    entropy: float
    information: float
    doubt: float
    most: float = MAX_BINARY_ENTROPY


def case_reliability(
    probability: npt.NDArray[np.floating[Any]],
    maps: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]],
    mask: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
) -> CaseReliability:
    """Compare the maps of one case with its reference.

    Parameters
    ----------
    probability : (*spatial)
        Mean over the draws.
    maps : two of (*spatial)
        Predictive entropy and mutual information, in nats.
    mask, reference : (*spatial) bool
    """
    p, g = probability.astype(np.float64), reference.astype(np.float64)
    error = np.abs(p - g)
    answers = _Answers(error, np.square(error), p, g)
    doubt = doubt_of(p, maps[0])
    return _compared(answers, maps, mask | reference, doubt, MAX_BINARY_ENTROPY)


def class_reliability(
    probability: npt.NDArray[np.floating[Any]],
    maps: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]],
    labels: npt.NDArray[np.integer[Any]],
    reference: npt.NDArray[np.integer[Any]],
) -> CaseReliability:
    """Compare the maps of classes that exclude one another with their reference.

    Parameters
    ----------
    probability : (C, *spatial)
        Of the classes 1 to C, mean over the draws; the background has the rest.
    maps : two of (*spatial)
        Predictive entropy and mutual information over all classes, in nats.
    labels, reference : (*spatial) int
        The class of each voxel, 0 for the background: found, and right.
    """
    foreground = probability.sum(axis=0, dtype=np.float64).clip(0, 1)
    best = right = 1 - foreground
    is_right = here = reference == 0
    squared = np.square(best - here)
    for number, p in enumerate(probability, start=1):  # one at a time: they are large
        here = reference == number
        right = np.where(here, p, right)
        squared += np.square(p - here)
        is_right = np.where(p > best, here, is_right)
        best = np.maximum(p, best)
    answers = _Answers(1 - right, squared / 2, best, is_right.astype(np.float64))
    union = (labels > 0) | (reference > 0)
    doubt = doubt_of(foreground, maps[0])
    return _compared(answers, maps, union, doubt, math.log(len(probability) + 1))


def case_figures(case: CaseReliability) -> dict[str, float | None]:
    """Return the numbers of one case; None where they are not defined."""
    error, entropy, information = case.sample
    union = case.union
    return {
        "brier": None if union is None else union.brier,
        "brier_image": case.image.brier,
        "ece": expected_calibration_error([] if union is None else [union.bins]),
        "ece_image": expected_calibration_error([case.image.bins]),
        "spearman": spearman(entropy, error),
        "spearman_mutual_information": spearman(information, error),
        "pearson": pearson(entropy, error),
        "pearson_mutual_information": pearson(information, error),
        "mutual_information_share": (
            case.information / case.entropy if case.entropy else None
        ),
        "doubt": case.doubt,
    }


def summarise_reliability(
    cases: Sequence[CaseReliability], dsc: Sequence[float]
) -> dict[str, Any]:
    """Return the figures of a set; None where they are not defined.

    Parameters
    ----------
    cases : sequence of CaseReliability
    dsc : sequence of float
        Of the same cases.

    Returns
    -------
    dict
        ``spearman``: rank correlation of each uncertainty with the error over the
        union, over the pixels of all cases and as the mean over cases; ``pearson``: the
        same, not of the ranks. ``brier`` and
        ``ece`` over union and whole image. ``calibration``: mean probability, frequency
        and share of the pixels in each bin of it, over whole images (over the union a
        frequency below one half cannot be told). ``error_by_entropy``: mean predictive
        entropy, mean error and share of the pixels in each bin of it, over the union.
        ``mutual_information_share`` in the predictive entropy of the union.
        ``ranking``: rank correlation of a picture's doubt with 1 - DSC.
    """
    unions = [case.union for case in cases if case.union is not None]
    images = [case.image for case in cases]
    entropy = math.fsum(case.entropy for case in cases)
    information = math.fsum(case.information for case in cases)
    return {
        "spearman": _correlations(cases, spearman),
        "pearson": _correlations(cases, pearson),
        "brier": {"union": _brier(unions), "image": _brier(images)},
        "ece": {
            "union": expected_calibration_error([p.bins for p in unions]),
            "image": expected_calibration_error([p.bins for p in images]),
        },
        "calibration": _curve([p.bins for p in images]),
        "error_by_entropy": _error_by_entropy(cases),
        "mutual_information_share": information / entropy if entropy else None,
        "ranking": spearman([case.doubt for case in cases], [1 - d for d in dsc]),
    }


def spearman(first: Iterable[float], second: Iterable[float]) -> float | None:
    """Return the rank correlation, ties sharing their mean rank; None if undefined."""
    a, b = (rankdata(np.fromiter(values, np.float64)) for values in (first, second))
    return pearson(a, b)


def pearson(first: Iterable[float], second: Iterable[float]) -> float | None:
    """Return the linear correlation; None if undefined."""
    a, b = (np.fromiter(values, np.float64) for values in (first, second))
    if len(a) < 2 or not (np.ptp(a) and np.ptp(b)):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def expected_calibration_error(bins: Sequence[Values]) -> float | None:
    """Return the mean distance of probability and frequency over the bins.

    Parameters
    ----------
    bins : arrays of (BINS, 3)
        One a case, each with the weight of its pixels, of their probability and of
        their reference.
    """
    if not bins:
        return None
    total = np.sum(bins, axis=0)
    return float(np.abs(total[:, 1] - total[:, 2]).sum() / total[:, 0].sum())


def _curve(bins: Sequence[Values]) -> list[list[float]]:
    """Return mean probability, frequency and share of each bin that is not empty."""
    total = np.sum(bins, axis=0) if bins else np.zeros((0, 3))
    return [
        [float(p / count), float(g / count), float(count / total[:, 0].sum())]
        for count, p, g in total
        if count
    ]


def _error_by_entropy(cases: Sequence[CaseReliability]) -> list[list[float]]:
    """Return the same of entropy and error, in `BINS` bins up to the largest."""
    rows = []
    for case in cases:
        error, entropy = case.sample[0], case.sample[1]
        number = np.minimum(entropy / case.most * BINS, BINS - 1)
        index = number.astype(np.int64)
        columns = (None, entropy, error)
        sums = [np.bincount(index, weights, BINS) for weights in columns]
        rows.append(np.stack(sums, axis=1) / max(1, len(error)))
    return _curve(rows)


class _Answers(NamedTuple):
    """What was said of each pixel, (*spatial) each: errors, and what is calibrated."""

    error: Values
    squared: Values
    probability: Values
    is_right: Values


def _compared(
    answers: _Answers,
    maps: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]],
    union: npt.NDArray[np.bool_],
    doubt: float,
    most: float,
) -> CaseReliability:
    """Sum up what was said of a case's pixels."""
    entropy, information = (values.astype(np.float64) for values in maps)
    inside = np.flatnonzero(union)
    chosen = inside[:: max(1, math.ceil(len(inside) / SAMPLED_PIXELS))]
    sampled = (answers.error, entropy, information)
    return CaseReliability(
        image=_pixels(answers, slice(None)),
        union=_pixels(answers, inside) if len(inside) else None,
        sample=np.stack([x.ravel()[chosen] for x in sampled]),
        entropy=float(entropy[union].sum()),
        information=float(information[union].sum()),
        doubt=doubt,
        most=most,
    )


def _pixels(answers: _Answers, where: slice | npt.NDArray[np.intp]) -> Pixels:
    """Return squared error and bins of a region that is not empty."""
    p, g = answers.probability.ravel()[where], answers.is_right.ravel()[where]
    number = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    counts = [np.bincount(number, w, BINS) / p.size for w in (None, p, g)]
    squared = answers.squared.ravel()[where]
    return Pixels(float(squared.mean()), np.stack(counts, axis=1))


def _brier(regions: Sequence[Pixels]) -> float | None:
    """Return the mean over cases."""
    if not regions:
        return None
    return math.fsum(region.brier for region in regions) / len(regions)


def _correlations(
    cases: Sequence[CaseReliability],
    correlate: Callable[[Values, Values], float | None],
) -> dict[str, dict[str, float | None]]:
    """Correlate both uncertainties with the error, over all pixels and by case."""
    samples = [case.sample for case in cases if case.sample.size]
    rows = {"predictive_entropy": 1, "mutual_information": 2}
    if not samples:
        return {name: {"pixels": None, "cases": None} for name in rows}
    everything = np.concatenate(samples, axis=1)
    found = {}
    for name, row in rows.items():
        single = [correlate(sample[row], sample[0]) for sample in samples]
        known = [value for value in single if value is not None]
        found[name] = {
            "pixels": correlate(everything[row], everything[0]),
            "cases": math.fsum(known) / len(known) if known else None,
        }
    return found
