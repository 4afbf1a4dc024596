"""`medvlseg evaluate` and `bench` for 3D models: figures of each class, seconds."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_evaluation import (
    check_evaluation,
    first_output,
    go_on_from,
    tells_what_is_left,
    write_outputs,
)
from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import (
    last_result,
    progress,
    say,
    show_table,
    tell,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_medvlseg.core.bench_volumes import VolumeBenchResult
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.evaluate_volumes import VolumeResult
    from napari_medvlseg.core.reports.kept import KeptVolumes
    from napari_medvlseg.core.volume_predictor import VolumePredictor
    from napari_medvlseg.core.volume_sets import VolumeCase

    Evaluated = list[tuple[dict[str, Any], list[VolumeResult]]]

_logger = logging.getLogger(__name__)
COLUMNS = (
    *("set", "class", "n", "DSC", "quartiles of DSC", "NSD", "HD95"),
    *("sens.", "spec.", "F1", "absent"),
)
ALIKE = (
    "the draws of this model are all alike, so it is asked once a view, and "
    "--sample-counts tells nothing"
)
BELIEF = ("set", "what", "cases", "quartiles", "set as a whole")
BELIEVED = {
    "brier": "Brier score",
    "ece": "calibration error",
    "spearman": "Spearman, entropy and error",
    "spearman_mutual_information": "Spearman, mutual information and error",
    "pearson": "Pearson, entropy and error",
    "pearson_mutual_information": "Pearson, mutual information and error",
    "mutual_information_share": "share of mutual information",
    "ranking": "Spearman, a case's doubt and 1 - DSC",
}
"""What is told of the uncertainty, by its name in the JSON."""
MEAN = "mean of sets"
BENCHED = ("what", "by the clock", "of the processor")


def run_evaluate(options: argparse.Namespace) -> int:
    """Measure a 3D model on folders of labelled volumes, one row a set and class."""
    if options.prompts != "original":
        msg = (
            f"--prompts belongs to models of pictures, got it with the 3D model "
            f"{options.model}; leave it out"
        )
        raise UsageError(msg)
    config, sets = segment_config(options), _cases(options)
    names = [root.resolve().name for root in sets]
    check_evaluation(options, names, config.num_samples)
    from napari_medvlseg.core.volume_predictor import VolumePredictor

    predictor = VolumePredictor.load(
        options.model, device=config.device, precision=config.precision
    )
    if options.sample_counts and not predictor.network.samples:
        tell(ALIKE)
        options.sample_counts = ()
    kept: list[KeptVolumes] = []
    evaluated: Evaluated = [
        _evaluate_set(root, cases, predictor, config, (options, kept))
        for root, cases in sets.items()
    ]
    summaries = [summary for summary, _ in evaluated]
    joined = _join(summaries)
    _tell(options, summaries, joined)
    write_outputs(evaluated, joined, options)
    for store in kept:
        store.forget()
    return 0


def _join(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON of the sets; distances in mm and in voxels have no mean."""
    from napari_medvlseg.core.averages import join_sets

    if len(summaries) == 1:
        return summaries[0]
    joined = join_sets(summaries)
    if len({summary["units"] for summary in summaries}) > 1:
        for one in (joined, *joined.get("sample_counts", ())):
            one["mean"]["hd95"] = {"mean": None, "std": None}
            for means in one.get("domains", {}).values():
                means.update({"hd95": None} if "hd95" in means else {})
    return joined


def bench(options: argparse.Namespace, config: SegmentConfig) -> int:
    """Measure speed and agreement of a 3D model."""
    from napari_medvlseg.core.bench_volumes import bench_volume_steps
    from napari_medvlseg.core.io.channels import read_channels

    image = None if options.image is None else read_channels([options.image])
    steps = bench_volume_steps(options.model, image, config, options.repeats)
    result = last_result(steps)
    if options.json:
        say(json.dumps(asdict(result), indent=2))
    else:
        show_table(_bench_title(result), BENCHED, _bench_rows(result))
    return 0


def _bench_title(result: VolumeBenchResult) -> str:
    """Return what was measured on."""
    shape = " x ".join(str(size) for size in result.shape)
    return (
        f"{result.model} on {result.device}, {result.threads} threads, "
        f"{result.precision}, {shape} voxels in {result.windows} windows, medians of "
        f"{result.repeats}"
    )


def _bench_rows(result: VolumeBenchResult) -> list[tuple[str, ...]]:
    """Return the table of a benchmark: wall clock beside the processor's seconds."""
    number = result.num_samples
    return [
        ("load the model", f"{result.load_s:.2f} s", ""),
        ("1 sample", *(f"{each:.2f} s" for each in result.one)),
        (f"{number} samples", *(f"{each:.2f} s" for each in result.samples)),
        ("1 plain pass in float32", *(f"{each:.2f} s" for each in result.naive_one)),
        ("times faster, 1 sample", *(f"{each:.1f}" for each in result.speedup_one)),
        (f"times faster, {number}", *(f"{each:.1f}" for each in result.speedup)),
        ("largest difference in float32", f"{result.difference_float32:.1e}", ""),
        (f"largest difference in {result.precision}", f"{result.difference:.4f}", ""),
    ]


def _cases(options: argparse.Namespace) -> dict[Path, list[VolumeCase]]:
    """Return the labelled volumes of each set."""
    from napari_medvlseg.core.errors import DatasetError
    from napari_medvlseg.core.volume_sets import volume_cases

    sets = {root: volume_cases(root, options.split) for root in options.data}
    for root, cases in sets.items():
        if not cases:
            msg = (
                f"{root}: expected labelled volumes of the {options.split} split "
                "(imagesTr and labelsTr, imagesVal and labelsVal, or imagesTs and "
                "labelsTs), found none"
            )
            raise DatasetError(msg)
    return sets


def _evaluate_set(
    root: Path,
    cases: Sequence[VolumeCase],
    predictor: VolumePredictor,
    config: SegmentConfig,
    task: tuple[argparse.Namespace, list[KeptVolumes]],
) -> tuple[dict[str, Any], list[VolumeResult]]:
    """Segment the volumes of a set; return summary and results, note what is kept."""
    from napari_medvlseg.core.averages import domain_of
    from napari_medvlseg.core.evaluate_volumes import (
        evaluate_volumes,
        summarise_volumes,
    )

    options, stores = task
    name, results, counts = root.resolve().name, [], options.sample_counts
    kept = _kept_volumes((name, cases), predictor, config, options)
    stores += [] if kept is None else [kept]
    each = len({*counts, config.num_samples})
    steps = evaluate_volumes(cases, predictor, config, counts, kept)
    with tells_what_is_left(stores, "volumes"), progress(name, len(cases)) as move:
        for result in steps:
            results.append(result)
            move(len(results) // each, len(cases), name)
            _logger.info("%s %s: DSC %.4f", name, result.image, result.mean("dsc"))
    facts = {
        "set": name,
        **_facts(predictor, config, options),
        "samples": results[-1].samples,  # a model without noise is asked once a view
        "domain": domain_of(name, options.out_of_domain, predictor.card.trained_on),
    }
    return summarise_volumes(results, facts), results


def _facts(
    predictor: VolumePredictor, config: SegmentConfig, options: argparse.Namespace
) -> dict[str, Any]:
    """Return what the JSON tells first of every set."""
    from napari_medvlseg.core.evaluate_volumes import TOLERANCE

    return {
        "split": options.split,
        "model": predictor.card.model_id,
        "prompts": "all",
        "samples": config.num_samples,
        "flips": config.flips or predictor.spec.flips,
        "seed": config.seed,
        "threshold": config.threshold,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "weights_sha256": predictor.card.sha256,
        "network_sha256": predictor.card.network_sha256,
        "nsd_tolerance": TOLERANCE,
        "exclusive": predictor.spec.exclusive,
    }


def _kept_volumes(
    of_set: tuple[str, Sequence[VolumeCase]],
    predictor: VolumePredictor,
    config: SegmentConfig,
    options: argparse.Namespace,
) -> KeptVolumes | None:
    """Return where a set's results are kept, if files are to be written; say so."""
    from napari_medvlseg.core.reports.kept import KeptVolumes, evaluation_settings

    (name, cases), file = of_set, first_output(options)
    if file is None:
        return None
    counts = options.sample_counts
    settings = evaluation_settings("all", predictor, config, counts)
    kept = KeptVolumes(file, name, cases, settings)
    go_on_from(kept, name, options, "volumes")
    return kept


def _tell(
    options: argparse.Namespace,
    summaries: Sequence[dict[str, Any]],
    joined: Mapping[str, Any],
) -> None:
    """Print the tables."""
    from napari_medvlseg.core.reports import tables

    told = summaries[0]
    flipped = f", flips {told['flips']}" if told["flips"] else ""
    rows = [row for summary in summaries for row in table_rows(summary)]
    if "mean" in joined:
        mean = joined["mean"]
        pooled = {"f1": mean["f1"]["mean"]}
        means = {**mean, "pooled": pooled, "absent": None}
        rows.append((MEAN, "", str(len(summaries)), *_cells(means, told["units"])))
    show_table(
        f"{options.model}, {options.split} split, {told['samples']} samples{flipped}, "
        f"NSD at {told['nsd_tolerance']:g}",
        COLUMNS,
        rows,
    )
    say("NSD tolerance and HD95 are in mm, or in voxels where no spacing is known.")
    shown = (
        (
            "Uncertainty, over mask and reference",
            BELIEF,
            belief_rows(summaries, joined),
        ),
        ("Samples", tables.COUNTED_3D, tables.count_rows(summaries, joined)),
        ("Domains", tables.COMPARED_3D, tables.domain_rows(joined)),
    )
    for title, columns, cells in shown:
        if cells:
            show_table(title, columns, cells)


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of a set: the mean of its classes, then each class."""
    units = summary["units"]
    rows = [(summary["set"], "mean", str(summary["n"]), *_cells(summary, units))]
    for name, figures in summary["classes"].items():
        rows.append(("", name, "", *_cells(figures, units)))
    return rows


def belief_rows(
    summaries: Sequence[Mapping[str, Any]], joined: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Return what the uncertainty is worth: over the cases, and of all their voxels."""
    from napari_medvlseg.core.averages import headline

    rows: list[tuple[str, ...]] = []
    for summary in summaries:
        whole, cases = headline(summary), summary["reliability"]["cases"]
        for row, (name, title) in enumerate(BELIEVED.items()):
            spread = cases.get(name, {"mean": None, "std": None})
            cells = (_spread(spread, 4), _quartiles(spread), _number(whole[name], 4))
            rows.append(("" if row else summary["set"], title, *cells))
    for row, (name, title) in enumerate(BELIEVED.items()):
        if "mean" in joined:
            mean = _spread(joined["mean"][name], 4)
            rows.append(("" if row else MEAN, title, "", "", mean))
    return rows


def _cells(figures: Mapping[str, Any], units: str) -> tuple[str, ...]:
    """Return the cells of one row of `COLUMNS`, but for its names."""
    distance, absent = _spread(figures["hd95"], 2), figures["absent"]
    return (
        _spread(figures["dsc"], 4),
        _quartiles(figures["dsc"]),
        _spread(figures["nsd"], 4),
        f"{distance} {units}" if distance != "-" else distance,
        _number(figures["sensitivity"]["mean"], 3),
        _number(figures["specificity"]["mean"], 3),
        _number(figures["pooled"]["f1"], 3),
        "" if absent is None else f"{absent:.1%}",
    )


def _spread(value: Mapping[str, Any], digits: int) -> str:
    """Return mean and standard deviation as text."""
    mean, std = value["mean"], value["std"]
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _quartiles(value: Mapping[str, Any]) -> str:
    """Return the quartiles as text, if there are some."""
    return " ".join(f"{each:.3f}" for each in value.get("quartiles") or ())


def _number(value: float | None, digits: int) -> str:
    """Return a number as text, a dash if it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"
