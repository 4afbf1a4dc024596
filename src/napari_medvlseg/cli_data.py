"""`medvlseg evaluate` and `medvlseg caption`: labelled images to figures and words."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_evaluation import (
    check_evaluation,
    first_output,
    go_on_from,
    tells_what_is_left,
    write_outputs,
)
from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import progress, say, show_table, tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from napari_medvlseg.core.config import SegmentConfig
    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.evaluate import CaseResult
    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.reports.kept import KeptResults
    from napari_medvlseg.core.targets import TargetInfo

    Evaluated = list[tuple[dict[str, Any], list[CaseResult]]]

_logger = logging.getLogger(__name__)
COLUMNS = ("Image", "Description", "Ground Truth")


def run_evaluate(options: argparse.Namespace) -> int:
    """Measure a model on data sets, one table row a set and target."""
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.datasets import list_cases

    if model_card(options.model).volume is not None:
        from napari_medvlseg.cli_volumes import run_evaluate as evaluate_volumes

        return evaluate_volumes(options)
    config = segment_config(options)
    sets = {
        root: list_cases(root, options.split, options.prompts) for root in options.data
    }
    names = [cases[0].dataset for cases in sets.values()]
    check_evaluation(options, names, config.num_samples)
    from napari_medvlseg.core.averages import join_sets
    from napari_medvlseg.core.predictor import Predictor

    predictor = Predictor.load(
        options.model, device=config.device, precision=config.precision
    )
    if predictor.network.evidential:
        from napari_medvlseg.core.run import FROM_EVIDENCE

        tell(FROM_EVIDENCE)
        config, options.sample_counts = replace(config, num_samples=1), ()
    evaluated: Evaluated = []
    kept: list[KeptResults] = []
    for cases in sets.values():
        evaluated.append(_evaluate_set(cases, predictor, config, (options, kept)))
    summaries = [summary for summary, _ in evaluated]
    joined = summaries[0] if len(summaries) == 1 else join_sets(summaries)
    _show_tables(summaries, joined)
    write_outputs(evaluated, joined, options)
    for store in kept:
        store.forget()
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
    from napari_medvlseg.core.targets import reference_mask

    info = _named(options, "target", class_name)
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
    class_name = (options.class_name or "").strip()
    if class_name and several:
        msg = (
            f"expected a set with one structure for --class, got {cases[0].dataset}, "
            "which has several; leave --class out"
        )
        raise UsageError(msg)
    if class_name:
        info = _named(options, cases[0].target, class_name)
        cases = [replace(case, info=info) for case in cases]
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


def _named(options: argparse.Namespace, target: str, class_name: str) -> TargetInfo:
    """Return what a mask marks, as the flags say."""
    from napari_medvlseg.core.targets import TargetInfo

    return TargetInfo(
        name=target,
        class_name=class_name,
        plural=options.plural or f"{class_name}s",
        modality=options.modality,
    )


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
    task: tuple[argparse.Namespace, list[KeptResults]],
) -> tuple[dict[str, Any], list[CaseResult]]:
    """Evaluate one set and return its summary and results; note what is kept."""
    from napari_medvlseg.core.averages import domain_of
    from napari_medvlseg.core.evaluate import evaluate_steps, summarise

    options, stores = task
    results = []
    name, design, counts = cases[0].dataset, options.prompts, options.sample_counts
    kept = _kept_results(cases, predictor, config, options)
    stores += [] if kept is None else [kept]
    each = len({*counts, config.num_samples})
    steps = evaluate_steps(cases, design, predictor, config, counts, kept)
    with tells_what_is_left(stores, "images"), progress(name, len(cases)) as move:
        for result in steps:
            results.append(result)
            move(len(results) // each, len(cases), name)
            _logger.info("%s %s: DSC %.4f", name, result.image, result.dsc)
    facts = {
        "set": name,
        "split": options.split,
        "model": predictor.card.model_id,
        "prompts": design,
        "samples": config.num_samples,
        "seed": config.seed,
        "threshold": config.threshold,
        "device": str(predictor.device),
        "precision": predictor.precision,
        "weights_sha256": predictor.card.sha256,
        "network_sha256": predictor.card.network_sha256,
        "domain": domain_of(name, options.out_of_domain, predictor.card.trained_on),
    }
    return summarise(results, facts), results


def _kept_results(
    cases: list[Case],
    predictor: Predictor,
    config: SegmentConfig,
    options: argparse.Namespace,
) -> KeptResults | None:
    """Return where a set's results are kept, if files are to be written; say so."""
    from napari_medvlseg.core.reports.kept import KeptResults, evaluation_settings

    file = first_output(options)
    if file is None:
        return None
    counts = options.sample_counts
    settings = evaluation_settings(options.prompts, predictor, config, counts)
    kept = KeptResults(file, cases, settings)
    go_on_from(kept, cases[0].dataset, options, "images")
    return kept


def _show_tables(summaries: list[dict[str, Any]], joined: Mapping[str, Any]) -> None:
    """Print what was measured: overlap, belief, and what was asked for beside."""
    from napari_medvlseg.core.reports import tables

    told = summaries[0]
    title = (
        f"{told['model']}, {told['split']} split, {told['prompts']} prompts, "
        f"{told['samples']} samples"
    )
    shown = (
        (title, tables.OVERLAP, tables.overlap_rows(summaries, joined)),
        (
            "Uncertainty, over mask and reference",
            tables.BELIEF,
            tables.belief_rows(summaries, joined),
        ),
        ("Samples", tables.COUNTED, tables.count_rows(summaries, joined)),
        ("Domains", tables.COMPARED, tables.domain_rows(joined)),
    )
    for name, columns, rows in shown:
        if rows:
            show_table(name, columns, rows)
