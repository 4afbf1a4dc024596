"""The figures of an evaluation as rows: for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Protocol

from napari_medvlseg.core.averages import PLACES, headline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Figures = Mapping[str, Any]
    Row = tuple[str, ...]

OVERLAP = (
    *("set", "target", "n", "DSC", "NSD 2 px", "HD95 px"),
    *("sens.", "spec.", "F1", "absent"),
)
"""Columns of `overlap_rows`."""
BELIEF = ("set", "Brier", "ECE", "Spearman", "Pearson", "ranking")
"""Columns of `belief_rows`."""
COUNTED = ("set", "samples", "DSC", "NSD 2 px", "Brier", "ECE", "Spearman")
"""Columns of `count_rows`."""
COUNTED_3D = ("set", "samples", "DSC", "NSD", "Brier", "ECE", "Spearman")
"""The same for volumes, whose tolerance is another."""
COMPARED = ("what", "sets", "DSC", "NSD 2 px", "sens.", "spec.", "F1", "Spearman")
"""Columns of `domain_rows`."""
COMPARED_3D = ("what", "sets", "DSC", "NSD", "sens.", "spec.", "F1", "Spearman")
MEAN = "mean of sets"
DOMAIN_NAMES = {
    "in": "in domain",
    "out": "out of domain",
    "harmonic_mean": "harmonic mean",
}
_FACTS = ("split", "model", "prompts", "samples")
_CASE_FACTS = ("set", "split", "model", "prompts")
_DEVIATIONS = ("dsc", "nsd", "hd95", "sensitivity", "specificity")


class Measured(Protocol):
    """The result of a case, of a picture or a volume."""

    def rows(self) -> list[dict[str, Any]]:
        """Return its rows of CSV."""
        ...


def overlap_rows(summaries: Sequence[Figures], joined: Figures) -> list[Row]:
    """Return a row for each set, for its targets, and for the mean of the sets."""
    rows: list[Row] = []
    for summary in summaries:
        rows.append((summary["set"], "", *_overlap(summary)))
        for target, figures in summary.get("targets", {}).items():
            rows.append(("", target, *_overlap(figures)))
    if "mean" in joined:
        mean = joined["mean"]
        pooled = {"f1": mean["f1"]["mean"]}
        means = {"n": len(summaries), "absent": None, **mean, "pooled": pooled}
        rows.append((MEAN, "", *_overlap(means)))
    return rows


def belief_rows(summaries: Sequence[Figures], joined: Figures) -> list[Row]:
    """Return a row for each set and for their mean: how far doubt can be believed.

    Brier score and calibration error over the union of mask and reference, correlation
    of the predictive entropy with the error there.
    """
    names = ("brier", "ece", "spearman", "pearson", "ranking")
    return _rows(summaries, joined, names)


def count_rows(summaries: Sequence[Figures], joined: Figures) -> list[Row]:
    """Return a row for each set and number of draws, and for the mean of the sets."""
    rows: list[Row] = []
    names = ("dsc", "nsd", "brier", "ece", "spearman")
    for summary in summaries:
        for one in summary.get("sample_counts", ()):
            told = headline(one)
            cells = [_number(told[name], 4) for name in names]
            rows.append((summary["set"], str(one["samples"]), *cells))
    for one in joined.get("sample_counts", ()) if "mean" in joined else ():
        cells = [_number(one["mean"][name]["mean"], 4) for name in names]
        rows.append((MEAN, str(one["samples"]), *cells))
        if "domains" in one:
            means = one["domains"]["harmonic_mean"]
            cells = [_number(means.get(name), 4) for name in names]
            label = DOMAIN_NAMES["harmonic_mean"]
            rows.append((label, str(one["samples"]), *cells))
    return rows


def domain_rows(joined: Figures) -> list[Row]:
    """Return a row for either domain and for their harmonic mean, if both are there."""
    names = ("dsc", "nsd", "sensitivity", "specificity", "f1", "spearman")
    return [
        (
            label,
            ", ".join(joined["domains"][domain].get("sets", ())),
            *(_number(joined["domains"][domain][name]) for name in names),
        )
        for domain, label in DOMAIN_NAMES.items()
        if "domains" in joined
    ]


def sets_csv(summaries: Sequence[Figures], joined: Figures) -> str:
    """Return a row for each set, target, sample count, and mean, as CSV.

    Of volumes each class is a row, also for each sample count.
    """
    rows: list[dict[str, Any]] = []
    for summary in summaries:
        facts = {name: summary[name] for name in ("set", *_FACTS, *_units(summary))}
        rows.append({"row": "set", **facts, **_numbers(summary)})
        rows += _target_rows(summary, facts)
        for one in summary.get("sample_counts", ()):
            counted = {**facts, **_numbers(one)}
            rows.append({"row": "sample count", **counted})
            at = {**facts, "samples": one["samples"]}
            rows += _target_rows(one, at)
    if "mean" in joined:
        shared = {name: summaries[0][name] for name in _FACTS}
        for one in (joined, *joined.get("sample_counts", ())):
            at = {**shared, "samples": one.get("samples", shared["samples"])}
            rows += [{**row, **at} for row in _mean_rows(one)]
    names = ["row", "set", "target", *_FACTS, "n", *PLACES, "hd95_mm", "absent"]
    names += [f"{name}_std" for name in _DEVIATIONS]
    names += _units(summaries[0])
    return _csv(names, rows)


def cases_csv(sets: Iterable[tuple[Figures, Sequence[Measured]]]) -> str:
    """Return a row for each case, class of a volume, and sample count, as CSV.

    Parameters
    ----------
    sets : iterable of (mapping, sequence of CaseResult or VolumeResult)
        Each set's summary and results.
    """
    rows = [
        {**{name: summary[name] for name in _CASE_FACTS}, **row}
        for summary, results in sets
        for result in results
        for row in result.rows()
    ]
    return _csv(list(rows[0]) if rows else [], rows)


def _units(summary: Figures) -> list[str]:
    """Return the column that volumes have besides: what their distances are in."""
    return ["units"] if "units" in summary else []


def _target_rows(figures: Figures, facts: Figures) -> list[dict[str, Any]]:
    """Return a row for each target of pictures, or class of volumes."""
    return [
        {"row": kind, **facts, "target": name, **_numbers(told)}
        for kind, place in (("target", "targets"), ("class", "classes"))
        for name, told in figures.get(place, {}).items()
    ]


def _overlap(figures: Figures) -> Row:
    """Return the cells of one row of `OVERLAP`, but for its names."""
    absent = figures["absent"]
    return (
        str(figures["n"]),
        _spread(figures["dsc"], 4),
        _spread(figures["nsd"], 4),
        _spread(figures["hd95"], 1),
        _number(figures["sensitivity"]["mean"]),
        _number(figures["specificity"]["mean"]),
        _number(figures["pooled"]["f1"]),
        "" if absent is None else f"{absent:.1%}",
    )


def _rows(
    summaries: Sequence[Figures], joined: Figures, names: Sequence[str]
) -> list[Row]:
    """Return a row of some figures for each set and for their mean."""
    rows = []
    for summary in summaries:
        told = headline(summary)
        rows.append((summary["set"], *(_number(told[name]) for name in names)))
    if "mean" in joined:
        means = joined["mean"]
        rows.append((MEAN, *(_number(means[name]["mean"]) for name in names)))
    return rows


def _numbers(figures: Figures) -> dict[str, Any]:
    """Return the numbers of one row of CSV."""
    numbers: dict[str, Any] = {"n": figures["n"], "absent": figures["absent"]}
    numbers |= headline(figures)
    numbers |= {f"{name}_std": figures[name]["std"] for name in _DEVIATIONS}
    if "hd95_mm" in figures:
        numbers["hd95_mm"] = figures["hd95_mm"]["mean"]
    if "samples" in figures:
        numbers["samples"] = figures["samples"]
    return numbers


def _mean_rows(joined: Figures) -> list[dict[str, Any]]:
    """Return the rows of the mean over sets and of the domains."""
    mean = joined["mean"]
    deviations = {f"{name}_std": mean[name]["std"] for name in _DEVIATIONS}
    means = {name: mean[name]["mean"] for name in PLACES}
    rows: list[dict[str, Any]] = [{"row": MEAN, **means, **deviations}]
    for domain, label in DOMAIN_NAMES.items():
        if "domains" in joined:
            told = dict(joined["domains"][domain])
            told.pop("sets", None)
            rows.append({"row": label, **told})
    return rows


def _csv(names: Sequence[str], rows: Sequence[Figures]) -> str:
    """Return rows as CSV; what is not known stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _spread(value: Mapping[str, float | None], digits: int) -> str:
    """Return mean and standard deviation as text."""
    mean, std = value["mean"], value["std"]
    text = _number(mean, digits)
    return text if std is None else f"{text} ± {std:.{digits}f}"


def _number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, a dash if it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"
