"""`medvlseg evaluate` for 3D models: labelled volumes to figures of each class."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import segment_config
from napari_medvlseg.cli_terminal import progress, say, show_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

_logger = logging.getLogger(__name__)
COLUMNS = ("set", "class", "n", "DSC", "NSD", "HD95")


def run_evaluate(options: argparse.Namespace) -> int:
    """Measure a 3D model on folders of labelled volumes, one row a set and class."""
    from napari_medvlseg.core.errors import DatasetError
    from napari_medvlseg.core.volume_sets import volume_cases

    config = segment_config(options)
    sets = {root: volume_cases(root, options.split) for root in options.data}
    for root, cases in sets.items():
        if not cases:
            msg = (
                f"{root}: expected labelled volumes of the {options.split} split "
                "(imagesTr and labelsTr, imagesVal and labelsVal, or imagesTs and "
                "labelsTs), found none"
            )
            raise DatasetError(msg)
    from napari_medvlseg.core.evaluate_volumes import (
        TOLERANCE,
        evaluate_volumes,
        summarise_volumes,
    )
    from napari_medvlseg.core.volume_predictor import VolumePredictor

    predictor = VolumePredictor.load(
        options.model, device=config.device, precision=config.precision
    )
    summaries = []
    for root, cases in sets.items():
        name, results = root.resolve().name, []
        with progress(name, len(cases)) as move:
            for result in evaluate_volumes(cases, predictor, config):
                results.append(result)
                move(len(results), len(cases), name)
                _logger.info("%s %s: %s", name, result.image, result.classes)
        facts = {
            "set": name,
            "split": options.split,
            "model": predictor.card.model_id,
            "prompts": "all",
            "samples": config.num_samples,
            "seed": config.seed,
            "device": str(predictor.device),
            "precision": predictor.precision,
            "weights_sha256": predictor.card.sha256,
            "nsd_tolerance": TOLERANCE,
        }
        summaries.append(summarise_volumes(results, facts))
    _tell(options, summaries, TOLERANCE)
    return 0


def _tell(
    options: argparse.Namespace, summaries: Sequence[dict[str, Any]], tolerance: float
) -> None:
    """Print the table, and write the JSON if that is wanted."""
    show_table(
        f"{options.model}, {options.split} split, {summaries[0]['samples']} samples, "
        f"NSD at {tolerance:g}",
        COLUMNS,
        [row for summary in summaries for row in table_rows(summary)],
    )
    say("NSD tolerance and HD95 are in mm, or in voxels where no spacing is known.")
    if options.json is None:
        return
    from napari_medvlseg.core.io.write import write_text

    whole: dict[str, Any] = summaries[0]
    if len(summaries) > 1:
        kinds = ("dsc", "nsd")
        means = {k: _mean([each[k]["mean"] for each in summaries]) for k in kinds}
        whole = {"sets": list(summaries), "mean": means}
    text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(options.json, text + "\n")


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of a set: the mean of its classes, then each class."""
    rows = [(summary["set"], "mean", str(summary["n"]), *_cells(summary, summary))]
    for name, figures in summary["classes"].items():
        rows.append(("", name, "", *_cells(figures, summary)))
    return rows


def _cells(figures: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return DSC, NSD and HD95 as text."""
    distance = _spread(figures["hd95"], 2)
    return (
        _spread(figures["dsc"], 4),
        _spread(figures["nsd"], 4),
        f"{distance} {summary['units']}" if distance != "-" else distance,
    )


def _spread(value: Mapping[str, float | None], digits: int) -> str:
    """Return mean and standard deviation as text."""
    mean, std = value["mean"], value["std"]
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean of the sets' means, as the JSON of pictures has it."""
    return {"mean": sum(values) / len(values), "std": None}
