"""Figures over several data sets: means, and in domain beside out of domain.

A set is out of domain if the model was not trained on it. The harmonic mean of the two
domains is that of their means over sets, as MedCLIPSeg reports it.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Figures = Mapping[str, Any]

PLACES: Mapping[str, tuple[str, ...]] = {
    "dsc": ("dsc", "mean"),
    "nsd": ("nsd", "mean"),
    "hd95": ("hd95", "mean"),
    "sensitivity": ("sensitivity", "mean"),
    "specificity": ("specificity", "mean"),
    "f1": ("pooled", "f1"),
    "brier": ("reliability", "brier", "union"),
    "ece": ("reliability", "ece", "union"),
    "spearman": ("reliability", "spearman", "predictive_entropy", "pixels"),
    "pearson": ("reliability", "pearson", "predictive_entropy", "pixels"),
    "ranking": ("reliability", "ranking"),
    **{
        f"{kind}_mutual_information": (
            *("reliability", kind),
            *("mutual_information", "pixels"),
        )
        for kind in ("spearman", "pearson")
    },
    "mutual_information_share": ("reliability", "mutual_information_share"),
}
"""Where a set's summary holds the one number of each figure."""
SHARED_MEANS = ("dsc", "nsd", "sensitivity", "specificity", "f1", "spearman", "pearson")
"""Figures of which more is better: they have a harmonic mean."""
DOMAINS = ("in", "out")


def headline(summary: Figures) -> dict[str, float | None]:
    """Return one number for each figure of a set; None where it has none.

    Parameters
    ----------
    summary : mapping
        Of `summarise`, of one of its targets, or of one of its sample counts.
    """
    return {name: _at(summary, place) for name, place in PLACES.items()}


def join_sets(summaries: Sequence[Figures]) -> dict[str, Any]:
    """Return the JSON of several sets.

    Parameters
    ----------
    summaries : sequence of mapping
        Of `summarise`; ``domain`` is ``"in"``, ``"out"`` or None for unknown.

    Returns
    -------
    dict
        ``sets``; ``mean``: mean and spread of the sets' figures; ``domains``, if both
        are there: the means of each and their harmonic mean; ``sample_counts``, if all
        sets have them: the same two for each number of draws.
    """
    joined = {"sets": [dict(summary) for summary in summaries], **_joined(summaries)}
    by_count = [
        {one["samples"]: one for one in summary.get("sample_counts", ())}
        for summary in summaries
    ]
    shared = set.intersection(*(set(counts) for counts in by_count))
    if shared:
        joined["sample_counts"] = [
            {
                "samples": count,
                **_joined(
                    [
                        {**summary, **counts[count]}
                        for summary, counts in zip(summaries, by_count, strict=True)
                    ]
                ),
            }
            for count in sorted(shared)
        ]
    return joined


def domain_of(
    name: str, out_of_domain: Sequence[str], trained_on: Sequence[str]
) -> str | None:
    """Return ``"in"``, ``"out"``, or None where nothing tells.

    Parameters
    ----------
    name : str
        Of a set.
    out_of_domain : sequence of str
        What the user says; if anything, it alone counts.
    trained_on : sequence of str
        What the model's card says.
    """
    if out_of_domain:
        return "out" if name in out_of_domain else "in"
    if trained_on:
        return "in" if name in trained_on else "out"
    return None


def spread(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, None where there are too few."""
    known = list(values)
    return {
        "mean": math.fsum(known) / len(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def wide_spread(values: Iterable[float]) -> dict[str, Any]:
    """Return what `spread` does, and the quartiles, None where there are too few."""
    known = list(values)
    several = len(known) > 1
    quartiles = statistics.quantiles(known, method="inclusive") if several else None
    return {**spread(known), "quartiles": quartiles}


def harmonic_mean(first: float | None, second: float | None) -> float | None:
    """Return 2 a b / (a + b); None where one is unknown or below 0."""
    if first is None or second is None or min(first, second) < 0:
        return None
    return statistics.harmonic_mean([first, second])


def _joined(summaries: Sequence[Figures]) -> dict[str, Any]:
    """Return the means over sets, and the domains if both are there."""
    numbers = [headline(summary) for summary in summaries]
    joined: dict[str, Any] = {
        "mean": {name: spread(_known(numbers, name)) for name in PLACES}
    }
    sides = {
        domain: [s for s in summaries if s.get("domain") == domain]
        for domain in DOMAINS
    }
    if all(sides.values()):
        joined["domains"] = _compared(sides)
    return joined


def _compared(sides: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """Return the means of both domains and the harmonic mean of these."""
    told: dict[str, Any] = {}
    for domain, summaries in sides.items():
        numbers = [headline(summary) for summary in summaries]
        means = {name: spread(_known(numbers, name))["mean"] for name in PLACES}
        told[domain] = {"sets": [s["set"] for s in summaries], **means}
    told["harmonic_mean"] = {
        name: harmonic_mean(*(told[domain][name] for domain in DOMAINS))
        for name in SHARED_MEANS
    }
    return told


def _known(numbers: Sequence[Figures], name: str) -> list[float]:
    """Return a figure of all sets that have it."""
    return [one[name] for one in numbers if one[name] is not None]


def _at(summary: Any, place: tuple[str, ...]) -> float | None:
    """Return what is at a place of nested mappings."""
    for name in place:
        summary = summary.get(name) if summary is not None else None
    return summary  # type: ignore[no-any-return]
