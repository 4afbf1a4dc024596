"""The figures of an evaluation as pictures: calibration, uncertainty, sample counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from napari_medvlseg.core.averages import headline
from napari_medvlseg.core.io.write import staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    Summaries = Sequence[Mapping[str, Any]]

LEAST_PROBABILITY, LEAST_ENTROPY = 1e-4, 0.005
"""Share of the pixels below which a bin is not drawn: it tells of too few."""
DPI = 110


def write_figures(summaries: Summaries, folder: Path) -> list[Path]:
    """Write ``reliability.png``, ``uncertainty.png`` and, if known, ``samples.png``.

    Parameters
    ----------
    summaries : sequence of mapping
        Of `summarise`, one a set.
    folder : Path
        Made if need be; earlier figures in it are replaced.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    drawn: dict[str, Callable[[Summaries], Figure]] = {
        "reliability.png": _reliability,
        "uncertainty.png": _uncertainty,
    }
    if any("sample_counts" in summary for summary in summaries):
        drawn["samples.png"] = _samples
    with staging_folder(folder) as staging:
        for name, draw in drawn.items():
            draw(summaries).savefig(staging / name, dpi=DPI)
        for name in drawn:
            (staging / name).replace(folder / name)
    return [folder / name for name in drawn]


def _reliability(summaries: Summaries) -> Figure:
    """Draw how often a pixel of a probability belongs to the target.

    Of classes that exclude one another, how often the winning one is right.
    """
    figure, (axis,) = _figure(1)
    words = _words(summaries)
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="calibrated")
    for summary, style in _styled(summaries):
        told = summary["reliability"]
        error = _told(told["ece"]["image"])
        style["label"] = f"{summary['set']} (ECE {error})"
        _draw_curve(axis, told["calibration"], LEAST_PROBABILITY, style)
    axis.set(
        title=f"Reliability, over whole {words.images}",
        xlabel=words.probability,
        ylabel=words.share,
        xlim=(0, 1),
        ylim=(0, 1),
    )
    _legend(figure, axis)
    return figure


def _uncertainty(summaries: Summaries) -> Figure:
    """Draw error against entropy, pixel by pixel and image by image."""
    figure, (left, right) = _figure(2)
    words = _words(summaries)
    has_doubt = False
    for summary, style in _styled(summaries):
        told = summary["reliability"]
        numbers = headline(summary)
        rank, linear = (_told(numbers[name], 2) for name in ("spearman", "pearson"))
        style["label"] = f"{summary['set']} (rank {rank}, Pearson {linear})"
        _draw_curve(left, told["error_by_entropy"], LEAST_ENTROPY, style)
        points = [point for case in summary["cases"] for point in _points(case)]
        doubt, dsc = np.array(points).reshape(-1, 2).T
        has_doubt |= bool((doubt > 0).any())
        ranking = _told(numbers["ranking"], 2)
        right.scatter(
            doubt,
            1 - dsc,
            s=9,
            alpha=0.6,
            color=style["color"],
            label=f"{summary['set']} (rank {ranking})",
        )
    left.set(
        title=f"{words.pixels.capitalize()} of mask and reference",
        xlabel="predictive entropy (nats)",
        ylabel=f"mean error {words.error}",
        ylim=(0, None),
    )
    right.set(
        title=words.points,
        xlabel=f"doubt (nats a {words.pixels[:-1]} expected to belong)",
        ylabel="1 - DSC",
        ylim=(-0.02, 1.02),
    )
    if has_doubt:
        right.set_xscale("log")
    for axis in (left, right):
        _legend(figure, axis)
    return figure


def _samples(summaries: Summaries) -> Figure:
    """Draw how accuracy and ranking change with the number of draws."""
    figure, axes = _figure(2)
    what = (("dsc", "DSC"), ("spearman", "rank correlation with the error"))
    for summary, style in _styled(summaries):
        told = [(one["samples"], headline(one)) for one in summary["sample_counts"]]
        for axis, (name, _) in zip(axes, what, strict=True):
            known = [(n, v[name]) for n, v in told if v[name] is not None]
            if known:
                counts, values = zip(*known, strict=True)
                label = f"{summary['set']} ({_told(values[-1])})"
                lines = {**style, "label": label}
                axis.plot(counts, np.array(values) - values[-1], **lines)
    most = max(one["samples"] for s in summaries for one in s["sample_counts"])
    for axis, (_, text) in zip(axes, what, strict=True):
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set(xlabel="draws", ylabel=f"{text}, less that of {most} draws")
        _legend(figure, axis)
    return figure


class _Words(NamedTuple):
    """What the axes are called."""

    images: str
    pixels: str
    points: str
    probability: str = "probability"
    share: str = "share that belongs to the target"
    error: str = "|p - g|"


def _words(summaries: Summaries) -> _Words:
    """Call pictures, volumes, and volumes whose classes exclude one another so."""
    if "classes" not in summaries[0]:
        return _Words("images", "pixels", "Images")
    if not summaries[0]["exclusive"]:
        return _Words("volumes", "voxels", "Classes of volumes")
    best, error = "probability of the winning class", "(1 - p of the right class)"
    return _Words(
        "volumes", "voxels", "Volumes", best, "share of it that is right", error
    )


def _points(case: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return doubt and DSC: of a picture, a volume, or each question about it."""
    if "classes" not in case:
        return [(case["doubt"], case["dsc"])]
    classes, questions = case["classes"], case["reliability"]
    if len(questions) < len(classes):
        return [(one["doubt"], case["dsc"]) for one in questions.values()]
    return [
        (one["doubt"], figures["dsc"])
        for one, figures in zip(questions.values(), classes.values(), strict=True)
    ]


def _figure(columns: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with axes side by side."""
    figure = Figure(figsize=(6.4 * columns, 4.6), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _styled(
    summaries: Summaries,
) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Return each set with a colour of its own; dashed where it is out of domain."""
    colours = colormaps["tab10" if len(summaries) <= 10 else "tab20"]
    return [
        (
            summary,
            {
                "color": colours(number),
                "marker": ".",
                "linewidth": 1.2,
                "linestyle": "--" if summary.get("domain") == "out" else "-",
            },
        )
        for number, summary in enumerate(summaries)
    ]


def _draw_curve(
    axis: Axes, rows: Sequence[Sequence[float]], least: float, style: dict[str, Any]
) -> None:
    """Draw the bins that hold enough pixels."""
    known = np.array([row[:2] for row in rows if row[2] > least]).reshape(-1, 2)
    axis.plot(*known.T, **style)


def _legend(figure: Figure, axis: Axes) -> None:
    """Name the sets, beside the axes where there are many."""
    handles, _ = axis.get_legend_handles_labels()
    if len(handles) > 6 and len(figure.axes) == 1:
        axis.legend(fontsize=7, frameon=False, bbox_to_anchor=(1.0, 1.0))
    elif handles:
        axis.legend(fontsize=7, frameon=False)


def _told(value: float | None, digits: int = 3) -> str:
    """Return a number as text."""
    return "-" if value is None else f"{value:.{digits}f}"
