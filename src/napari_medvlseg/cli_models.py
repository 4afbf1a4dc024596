"""`medvlseg models` and `bench`: everything about models that are there."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import UsageError, path_of, segment_config
from napari_medvlseg.cli_terminal import last_result, progress, say, show_table, tell
from napari_medvlseg.core.config import check_noise
from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_medvlseg.core.bench import BenchResult
    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.released import Released

ORGAN_WIDTH = 22
"""Characters in the list of models."""


def run_list(options: argparse.Namespace) -> int:
    """Print the models that are there, and those that can be fetched."""
    from napari_medvlseg.core.bundle import list_models
    from napari_medvlseg.core.released import HUB, HUB_REPO, RELEASED

    cards = {card.model_id: card for card in list_models()}
    others = (
        [] if options.installed else [r for r in RELEASED if r.model_id not in cards]
    )
    facts = [_facts(card) for card in cards.values()]
    facts += [_released_facts(entry) | {"state": "to fetch"} for entry in others]
    if options.json:
        say(json.dumps(facts, indent=2))
        return 0
    columns = ("model", "state", "data", "share", "modality", "organ", "size", "images")
    shown = [{**fact, "organ": _brief(fact["organ"])} for fact in facts]
    rows = [[str(fact[column]) for column in columns] for fact in shown]
    show_table("models", columns, rows)
    say(f"Licences: {HUB}/{HUB_REPO} (MedCLIPSeg), LICENSE-WEIGHTS (bundled); research")
    say("use only. The column images has the licence of what a model was trained on.")
    return 0


def _brief(names: str) -> str:
    """Return names as they are, or their number where the table has no room."""
    return names if len(names) <= ORGAN_WIDTH else f"{names.count(',') + 1} classes"


def _facts(card: ModelCard) -> dict[str, Any]:
    """Return what the list says of a model that is there."""
    from napari_medvlseg.core.bundle import WEIGHTS, packaged_folder
    from napari_medvlseg.core.released import released

    entry = released(card.model_id)
    told = {"data": "", "share": "", "modality": "", "organ": "", "images": ""}
    if entry is not None:
        told = _released_facts(entry)
    elif card.volume is not None:
        told["modality"] = ", ".join(card.modalities)
        told["organ"] = ", ".join(card.volume.names)
    state = "bundled" if card.path.parent == packaged_folder() else "installed"
    return {
        **told,
        "model": card.model_id,
        "state": "incomplete" if card.missing else state,
        "size": f"{(card.path / WEIGHTS).stat().st_size / 1e9:.2f} GB",
        "licence": card.licence,
        "summary": card.summary,
    }


def _released_facts(entry: Released) -> dict[str, Any]:
    """Return what the list says of a released checkpoint."""
    return {
        "model": entry.model_id,
        "data": entry.data.title,
        "share": f"{entry.percent} %",
        "modality": entry.data.modality,
        "organ": entry.data.organ,
        "size": entry.size,
        "images": entry.data.data_licence,
        "licence": entry.licence,
        "summary": entry.summary,
    }


def run_show(options: argparse.Namespace) -> int:
    """Print a model's card."""
    from napari_medvlseg.core.bundle import card_text, model_card

    card = model_card(options.model)
    if card.lack:
        tell(f"incomplete: {card.lack}")
    say(card_text(options.model).rstrip())
    say(f"\nFolder: {card.path}\nSHA-256 of the weights: {card.sha256}\n")
    if not card.concepts:
        say("What it was taught, its owner knows: ask for that, in the same words.")
        return 0
    say("Prompts that work well:")
    for concept in card.concepts:
        say(f"  {concept.example}")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Copy a model out, or make a bundle of a training run."""
    run = path_of(options.source)
    if (run / "network.json").is_file():
        return _export_volumes(run, options)
    if not (run / "checkpoint.pt").is_file():
        return _export_model(options)
    from napari_medvlseg.core.training.export import Blend, export_bundle
    from napari_medvlseg.core.training.medclipseg.export import (
        export_medclipseg,
        is_medclipseg,
    )

    blend = Blend(options.blend, options.share) if options.blend else None
    figures = _read_figures(options.figures) if options.figures else None
    noise = _noise(options)
    if not is_medclipseg(run):
        export_bundle(run, options.output, figures, blend, noise)
    elif blend is None and not noise:
        export_medclipseg(run, options.output, figures)
    else:
        msg = (
            f"{run}: --blend, --pixels-noise and --words-noise: only for runs of "
            "--preset compact; leave them out"
        )
        raise UsageError(msg)
    say(f"bundle written to {options.output}; use it with --model {options.output}")
    return 0


def _noise(options: argparse.Namespace) -> dict[str, tuple[float, ...]]:
    """Return the factors of the noise that were given."""
    given = {name: getattr(options, name) for name in ("pixels_noise", "words_noise")}
    noise = {name: value for name, value in given.items() if value is not None}
    for name, factors in noise.items():
        try:
            check_noise(f"--{name.replace('_', '-')}", factors)
        except ValueError as error:
            raise UsageError(str(error)) from error
    return noise


def _export_volumes(run: Path, options: argparse.Namespace) -> int:
    """Make a bundle of a finished run on volumes."""
    from napari_medvlseg.core.json_file import read_object
    from napari_medvlseg.core.training.bipvlseg.export import export_volume_bundle
    from napari_medvlseg.core.training.medclipseg3d.export import (
        export_medclip_volume_bundle,
    )

    if options.blend or _noise(options):
        msg = (
            f"{run}: --blend, --pixels-noise and --words-noise: only for models of "
            "pictures; leave them out"
        )
        raise UsageError(msg)
    figures = _read_figures(options.figures) if options.figures else None
    told = read_object(
        run / "network.json", "the network of a finished run", CheckpointError
    )
    is_medclip = told.get("architecture") == "medclipseg"
    export = export_medclip_volume_bundle if is_medclip else export_volume_bundle
    export(run, options.output, figures)
    say(f"bundle written to {options.output}; use it with --model {options.output}")
    return 0


def _export_model(options: argparse.Namespace) -> int:
    """Copy a model to a folder or a zip."""
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.checkpoints.store import pack_bundle

    if options.figures or options.blend or _noise(options):
        msg = (
            f"{options.source}: --figures, --blend, --pixels-noise and --words-noise "
            "want a run's folder, with its checkpoint.pt"
        )
        raise UsageError(msg)
    card = model_card(options.source)
    with progress("copying (MB)", None) as move:
        for step in pack_bundle(card, options.output, overwrite=options.overwrite):
            move(step.done // 10**6, step.total // 10**6, "copying (MB)")
    say(f"written to {options.output}; another machine takes it with:")
    say(f"  medvlseg models import {options.output.name}")
    return 0


def run_bench(options: argparse.Namespace) -> int:
    """Measure speed, memory and agreement."""
    from napari_medvlseg.core.bench import bench_image, bench_steps
    from napari_medvlseg.core.bundle import model_card
    from napari_medvlseg.core.io.read import read

    config = segment_config(options)
    if options.repeats < 1:
        msg = f"repeats must be at least 1, got {options.repeats}"
        raise UsageError(msg)
    if model_card(options.model).volume is not None:
        from napari_medvlseg.cli_volumes import bench as bench_volumes

        return bench_volumes(options, config)
    image = bench_image() if options.image is None else read(options.image)
    result = last_result(
        bench_steps(options.model, image, config, options.repeats, options.prompt)
    )
    if options.json:
        say(json.dumps(asdict(result), indent=2))
    else:
        show_table(_bench_title(result), ("what", "measured"), _bench_rows(result))
    return 0


def _bench_title(result: BenchResult) -> str:
    """Return what was measured on."""
    shape = " x ".join(str(size) for size in result.shape)
    return (
        f"{result.model} on {result.device}, {result.threads} threads, "
        f"{result.precision}, {shape} picture, medians of {result.repeats}"
    )


def _bench_rows(result: BenchResult) -> list[tuple[str, str]]:
    """Return the table of a benchmark."""
    peak = result.peak_bytes
    number, precision = result.num_samples, result.precision
    adaptive = f"adaptive to {result.tolerance:g}"
    agrees = f"{result.adaptive_dsc:.4f} (mask: {result.foreground:.1%} of the picture)"
    return [
        ("load the model", f"{result.load_s:.2f} s"),
        ("preview (1 sample)", f"{result.preview_s:.3f} s"),
        (f"{number} samples in {precision}", f"{result.samples_s:.2f} s"),
        (f"{number} samples, second prompt", f"{result.second_prompt_s:.2f} s"),
        (f"{number} samples in float32", f"{result.float32_s:.2f} s"),
        (f"{adaptive}, in {precision}", f"{result.adaptive_s:.2f} s"),
        (f"{adaptive}, samples drawn", f"{result.adaptive_drawn:g} of {number}"),
        (f"{adaptive}, DSC to the mask of {number}", agrees),
        (f"{number + 1} passes one by one in float32", f"{result.naive_s:.2f} s"),
        (f"times faster in {precision}", f"{result.speedup:.2f}"),
        ("times faster in float32", f"{result.speedup_float32:.2f}"),
        ("times faster when adaptive", f"{result.speedup_adaptive:.2f}"),
        ("largest difference in float32", f"{result.difference_float32:.1e}"),
        (f"largest difference in {precision}", f"{result.difference:.4f}"),
        ("peak memory", "not told" if peak is None else f"{peak / 1e9:.2f} GB"),
    ]


def _read_figures(paths: list[Path]) -> dict[str, Any]:
    """Read what `medvlseg evaluate --json` wrote, without the single cases."""
    sets: list[dict[str, Any]] = []
    for path in paths:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            entries = told.get("sets", [told])
            for entry in entries:
                entry.pop("cases", None)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            msg = (
                f"{path}: expected the JSON of medvlseg evaluate, cannot read it "
                f"({error})"
            )
            raise CheckpointError(msg) from error
        sets += entries
    return {"sets": sets}
