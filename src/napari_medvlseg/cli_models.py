"""`medvlseg models` and `bench`: everything about models that are there."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import UsageError, segment_config
from napari_medvlseg.cli_terminal import progress, say, show_table
from napari_medvlseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_medvlseg.core.bench import BenchResult


def run_list(options: argparse.Namespace) -> int:
    """Print the models that are there."""
    from napari_medvlseg.core.bundle import list_models

    cards = list_models()
    if options.json:
        facts = [{"model": c.model_id, "summary": c.summary} for c in cards]
        say(json.dumps(facts, indent=2))
        return 0
    rows = [(c.model_id, c.title, f"{c.parameters:,}", c.summary) for c in cards]
    show_table("models", ("model", "title", "parameters", "what"), rows)
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Print a model's card."""
    from napari_medvlseg.core.bundle import card_text, model_card

    card = model_card(options.model)
    say(card_text(options.model).rstrip())
    say(f"\nFolder: {card.path}\nSHA-256 of the weights: {card.sha256}\n")
    say("Prompts that work well:")
    for concept in card.concepts:
        say(f"  {concept.example}")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Make a bundle of a training run."""
    from napari_medvlseg.core.training.export import Blend, export_bundle

    blend = Blend(options.blend, options.share) if options.blend else None
    figures = _read_figures(options.figures) if options.figures else None
    export_bundle(options.run, options.output, figures, blend)
    say(f"bundle written to {options.output}; use it with --model {options.output}")
    return 0


def run_bench(options: argparse.Namespace) -> int:
    """Measure speed, memory and agreement."""
    from napari_medvlseg.core.bench import bench_image, bench_steps
    from napari_medvlseg.core.io.read import read

    config = segment_config(options)
    if options.repeats < 1:
        msg = f"repeats must be at least 1, got {options.repeats}"
        raise UsageError(msg)
    image = bench_image() if options.image is None else read(options.image)
    result = None
    with progress("", None) as move:
        for stage in bench_steps(options.model, image, config, options.repeats):
            move(stage.done, stage.total, stage.what)
            result = stage.result
    if result is None:
        msg = "the benchmark ended without a result"
        raise RuntimeError(msg)
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
    number = result.num_samples
    return [
        ("load the model", f"{result.load_s:.2f} s"),
        ("preview (1 sample)", f"{result.preview_s:.3f} s"),
        (f"{number} samples", f"{result.samples_s:.2f} s"),
        (f"{number} samples, second prompt", f"{result.second_prompt_s:.2f} s"),
        (f"{number} passes one by one in float32", f"{result.naive_s:.2f} s"),
        ("times faster than one by one", f"{result.speedup:.1f}"),
        ("largest difference in float32", f"{result.difference_float32:.1e}"),
        (f"largest difference in {result.precision}", f"{result.difference:.4f}"),
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
