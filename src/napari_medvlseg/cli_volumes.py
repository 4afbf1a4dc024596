"""`medvlseg evaluate` and `bench` for 3D models: figures of each class, seconds."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import last_result, progress, say, show_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_medvlseg.core.bench_volumes import VolumeBenchResult
    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.volume_predictor import VolumePredictor
    from napari_medvlseg.core.volume_sets import VolumeCase

_logger = logging.getLogger(__name__)
COLUMNS = ("set", "class", "n", "DSC", "NSD", "HD95", "quartiles of DSC")
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
    from napari_medvlseg.core.io.write import check_file
    from napari_medvlseg.core.volume_predictor import VolumePredictor

    _check_flags(options)
    config, sets = segment_config(options), _cases(options)
    if options.json is not None:
        check_file(options.json)  # told before hours of work
    from napari_medvlseg.core.averages import join_sets

    predictor = VolumePredictor.load(
        options.model, device=config.device, precision=config.precision
    )
    summaries = [
        _evaluate_set(root, cases, predictor, config, options)
        for root, cases in sets.items()
    ]
    joined = summaries[0] if len(summaries) == 1 else join_sets(summaries)
    if len({summary["units"] for summary in summaries}) > 1:
        joined["mean"]["hd95"] = {"mean": None, "std": None}  # mm and voxels
    _tell(options, summaries, joined)
    return 0


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


def _check_flags(options: argparse.Namespace) -> None:
    """Refuse flags that only models of pictures have."""
    given = {
        "--csv": options.csv is not None,
        "--figures": options.figures is not None,
        "--sample-counts": bool(options.sample_counts),
        "--prompts": options.prompts != "original",
    }
    wrong = [flag for flag, is_given in given.items() if is_given]
    if wrong:
        msg = (
            f"{wrong[0]} belongs to models of pictures, got it with the 3D model "
            f"{options.model}; leave it out"
        )
        raise UsageError(msg)


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
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Segment the volumes of a set, and return what the JSON tells of them."""
    from napari_medvlseg.core.averages import domain_of
    from napari_medvlseg.core.evaluate_volumes import (
        TOLERANCE,
        evaluate_volumes,
        summarise_volumes,
    )

    name, results = root.resolve().name, []
    with progress(name, len(cases)) as move:
        for result in evaluate_volumes(cases, predictor, config):
            results.append(result)
            move(len(results), len(cases), name)
            _logger.info("%s %s: %s", name, result.image, result.classes)
    card = predictor.card
    facts = {
        "set": name,
        "split": options.split,
        "model": card.model_id,
        "prompts": "all",
        "samples": results[0].samples,  # a model without noise is asked once a view
        "flips": config.flips or predictor.spec.flips,
        "seed": config.seed,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "weights_sha256": card.sha256,
        "nsd_tolerance": TOLERANCE,
        "domain": domain_of(name, options.out_of_domain, card.trained_on),
    }
    return summarise_volumes(results, facts)


def _tell(
    options: argparse.Namespace,
    summaries: Sequence[dict[str, Any]],
    joined: Mapping[str, Any],
) -> None:
    """Print the tables, and write the JSON if that is wanted."""
    from napari_medvlseg.core.reports.tables import COMPARED, domain_rows

    told = summaries[0]
    flipped = f", flips {told['flips']}" if told["flips"] else ""
    rows = [row for summary in summaries for row in table_rows(summary)]
    if "mean" in joined:
        units = {**joined["mean"], "units": told["units"]}
        rows.append((MEAN, "", str(len(summaries)), *_cells(joined["mean"], units)))
    show_table(
        f"{options.model}, {options.split} split, {told['samples']} samples{flipped}, "
        f"NSD at {told['nsd_tolerance']:g}",
        COLUMNS,
        rows,
    )
    say("NSD tolerance and HD95 are in mm, or in voxels where no spacing is known.")
    title = "Uncertainty, over mask and reference"
    show_table(title, BELIEF, belief_rows(summaries, joined))
    if "domains" in joined:
        show_table("Domains", COMPARED, domain_rows(joined))
    if options.json is None:
        return
    from napari_medvlseg.core.io.write import write_text

    text = json.dumps(joined, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(options.json, text + "\n")


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of a set: the mean of its classes, then each class."""
    rows = [(summary["set"], "mean", str(summary["n"]), *_cells(summary, summary))]
    for name, figures in summary["classes"].items():
        rows.append(("", name, "", *_cells(figures, summary)))
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


def _cells(figures: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return DSC, NSD, HD95 and the quartiles of the first as text."""
    distance = _spread(figures["hd95"], 2)
    return (
        _spread(figures["dsc"], 4),
        _spread(figures["nsd"], 4),
        f"{distance} {summary['units']}" if distance != "-" else distance,
        _quartiles(figures["dsc"]),
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
