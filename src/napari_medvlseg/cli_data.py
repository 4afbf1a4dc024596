"""`medvlseg evaluate` and `medvlseg caption`: labelled images to figures and words."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import progress, say, show_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.predictor import Predictor

_logger = logging.getLogger(__name__)
COLUMNS = ("Image", "Description", "Ground Truth")


def run_evaluate(options: argparse.Namespace) -> int:
    """Measure a model on data sets, one table row a set and target."""
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.datasets import list_cases
    from napari_medvlseg.core.io.write import check_file, write_text

    config = segment_config(options)
    sets = {
        root: list_cases(root, options.split, options.prompts) for root in options.data
    }
    model_card(options.model)  # a wrong name is told before torch is imported
    if options.json is not None:
        check_file(options.json)
    from napari_medvlseg.core.evaluate import join_sets
    from napari_medvlseg.core.predictor import Predictor

    predictor = Predictor.load(
        options.model, device=config.device, precision=config.precision
    )
    summaries = [
        _evaluate_set(cases, predictor, config, options) for cases in sets.values()
    ]
    joined = summaries[0] if len(summaries) == 1 else join_sets(summaries)
    show_table(
        f"{options.model}, {options.split} split, {options.prompts} prompts, "
        f"{config.num_samples} samples",
        ("set", "target", "n", "DSC", "NSD 2 px", "absent"),
        table_rows(summaries, joined),
    )
    if options.json is not None:
        text = json.dumps(joined, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(options.json, text + "\n")
    return 0


def run_caption(options: argparse.Namespace) -> int:
    """Write prompts from masks: of one image, or of a split of a data set."""
    if options.data is not None:
        return _caption_set(options)
    class_name = (options.class_name or "").strip()
    if options.image is None or options.mask is None or not class_name:
        msg = "expected IMAGE MASK --class NAME, or --data DIR/SET; got neither"
        raise UsageError(msg)
    if options.output is not None:
        msg = "--output belongs to --data; a single caption is printed: leave it out"
        raise UsageError(msg)
    from napari_medvlseg.core.captions import caption_case
    from napari_medvlseg.core.errors import ImageError
    from napari_medvlseg.core.io.read import read
    from napari_medvlseg.core.targets import TargetInfo, reference_mask

    info = TargetInfo(
        name="target",
        class_name=class_name,
        plural=options.plural or f"{class_name}s",
        modality=options.modality,
    )
    image, label = read(options.image), read(options.mask)
    if image.ndim != 2:
        msg = f"{options.image}: expected a picture to caption, got a volume; name one"
        raise ImageError(msg)
    reference = reference_mask("", "", label.voxels)
    if label.ndim != 2 or reference.shape != image.spatial_shape:
        msg = (
            f"{options.mask}: expected a mask of a picture's shape "
            f"{image.spatial_shape}, got {label.spatial_shape}; name its own mask"
        )
        raise ImageError(msg)
    say(
        caption_case(
            reference, image.voxels, info, design=options.prompts, seed=options.seed
        )
    )
    return 0


def _caption_set(options: argparse.Namespace) -> int:
    """Write one row a case, with a column Target where a set has several."""
    from napari_medvlseg.core.datasets import list_cases
    from napari_medvlseg.core.io.sheet import check_sheet, write_sheet
    from napari_medvlseg.core.targets import targets_of

    if options.image is not None:
        msg = "expected IMAGE MASK or --data DIR/SET, got both"
        raise UsageError(msg)
    cases = list_cases(options.data, options.split)
    several = len(targets_of(cases[0].dataset)) > 1
    header = (*COLUMNS, "Target") if several else COLUMNS
    if options.output is not None:
        check_sheet(options.output, overwrite=options.overwrite)
    rows = _captions(cases, options.prompts, several=several)
    if options.output is None:
        for row in rows:
            say("\t".join(row))
        return 0
    write_sheet(options.output, header, rows, overwrite=options.overwrite)
    say(f"{len(cases)} captions written to {options.output}")
    return 0


def _captions(
    cases: list[Case], design: str, *, several: bool
) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a sheet of prompts."""
    from napari_medvlseg.core.evaluate import caption_of, read_case

    with progress("captions", len(cases)) as move:
        for done, case in enumerate(cases, start=1):
            image, reference = read_case(case)
            text = caption_of(case, image, reference, design)
            row = (case.image_path.name, text, case.label_path.name)
            yield (*row, case.target) if several else row
            move(done, len(cases), case.dataset)


def _evaluate_set(
    cases: list[Case],
    predictor: Predictor,
    config: SegmentConfig,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Evaluate one set and return its summary."""
    from napari_medvlseg.core.evaluate import evaluate_steps, summarise

    results = []
    name = cases[0].dataset
    with progress(name, len(cases)) as move:
        for result in evaluate_steps(cases, options.prompts, predictor, config):
            results.append(result)
            move(len(results), len(cases), name)
            _logger.info("%s %s: DSC %.4f", name, result.image, result.dsc)
    facts = {
        "set": name,
        "split": options.split,
        "model": predictor.card.model_id,
        "prompts": options.prompts,
        "samples": config.num_samples,
        "seed": config.seed,
        "threshold": config.threshold,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "weights_sha256": predictor.card.sha256,
    }
    return summarise(results, facts)


def table_rows(
    summaries: list[dict[str, Any]], joined: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Return the cells of the table: sets, their targets, and the mean of the sets."""
    rows: list[tuple[str, ...]] = []
    for summary in summaries:
        rows.append((summary["set"], "", *_cells(summary)))
        for target, figures in summary.get("targets", {}).items():
            rows.append(("", target, *_cells(figures)))
    if "mean" in joined:
        mean = {"n": len(summaries), "absent": None, **joined["mean"]}
        rows.append(("mean of sets", "", *_cells(mean)))
    return rows


def _cells(figures: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return n, DSC, NSD and the share of absent answers as text."""
    absent = figures["absent"]
    return (
        str(figures["n"]),
        _spread(figures["dsc"]),
        _spread(figures["nsd"]),
        "" if absent is None else f"{absent:.1%}",
    )


def _spread(value: Mapping[str, float | None]) -> str:
    """Return mean and standard deviation as text."""
    mean, std = value["mean"], value["std"]
    return f"{mean:.4f}" + ("" if std is None else f" ± {std:.4f}")
