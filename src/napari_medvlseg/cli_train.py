"""`medvlseg train`: presets, their flags, and the loop's records told as they come."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from napari_medvlseg.cli_options import UsageError, add_flags, config_from
from napari_medvlseg.cli_terminal import progress, say
from napari_medvlseg.core.training.bipvlseg.config import PRESETS_3D, BiPVLTrainConfig
from napari_medvlseg.core.training.config import TrainConfig

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from napari_medvlseg.core.training.run import Record

    T = TypeVar("T")

PRESETS = ("compact", *PRESETS_3D)
PRESET_HELP = (
    "What to train: compact (pictures), BiPVL-Seg on labelled volumes as its paper has "
    "it (bipvlseg: AMOS22; -whs-ct, -whs-mr, -brain), or small models of that kind "
    "(hippocampus-3d, cardiac-3d). Each preset of volumes has defaults of its own; "
    "--data then is one folder with imagesTr and labelsTr [compact]"
)


def add_preset_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset``, and the flags that only the presets for volumes have."""
    parser.add_argument(
        "--preset", choices=PRESETS, default="compact", help=PRESET_HELP
    )
    known = frozenset(field.name for field in dataclasses.fields(TrainConfig))
    title = "how to train on volumes, besides (defaults: those of --preset bipvlseg)"
    add_flags(parser, BiPVLTrainConfig, title, known=known)


def run_train(options: argparse.Namespace) -> int:
    """Train, going on where an earlier run in the same folder stopped."""
    if options.preset in PRESETS_3D:
        return _train_on_volumes(options)
    from napari_medvlseg.core.datasets import find_sets

    _refuse_foreign(options, TrainConfig)
    config = config_from(TrainConfig, options)
    find_sets(options.data)  # a wrong folder is told before torch is imported
    from napari_medvlseg.core.training.checkpoint import remove_partial
    from napari_medvlseg.core.training.export import export_bundle
    from napari_medvlseg.core.training.run import train_steps

    try:
        _tell(train_steps(options.data, options.output, config))
    finally:
        remove_partial(options.output)
    bundle = options.output / options.preset
    export_bundle(options.output, bundle)
    say(f"bundle written to {bundle}; use it with --model {bundle}")
    return 0


def _train_on_volumes(options: argparse.Namespace) -> int:
    """Train BiPVL-Seg."""
    from napari_medvlseg.core.volume_sets import volume_cases

    _refuse_foreign(options, BiPVLTrainConfig)
    config = _changed(PRESETS_3D[options.preset], options)
    volume_cases(options.data, "train")  # a wrong folder is told first
    from napari_medvlseg.core.training.bipvlseg.export import bundle_folder
    from napari_medvlseg.core.training.bipvlseg.run import train_volume_steps
    from napari_medvlseg.core.training.checkpoint import remove_partial

    try:
        _tell(train_volume_steps(options.data, options.output, config))
    finally:
        remove_partial(options.output)
    bundle = bundle_folder(options.output, config.sheet)
    say(f"bundle written to {bundle}; use it with --model {bundle}")
    return 0


def _tell(records: Iterator[Record]) -> None:
    """Show each step, and print what a validation found."""
    with progress("reading", None) as move:
        for record in records:
            label = f"epoch {record['epoch'] + 1}, loss {record['loss']:.3f}"
            move(record["step"], record["total_steps"], label)
            if record["validation"] is not None:
                say(f"{label}, DSC {_dsc_line(record['validation'])}")


def _changed(preset: T, options: argparse.Namespace) -> T:
    """Return a preset with the flags that were given."""
    names = {field.name for field in dataclasses.fields(preset)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(options).items() if name in names}
    try:
        changed: T = dataclasses.replace(preset, **given)  # type: ignore[type-var]
    except ValueError as error:
        raise UsageError(str(error)) from error
    return changed


def _refuse_foreign(options: argparse.Namespace, config: type[object]) -> None:
    """Refuse a flag that the preset would not heed."""
    own = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    every = (TrainConfig, BiPVLTrainConfig)
    names = {field.name for each in every for field in dataclasses.fields(each)}
    foreign = sorted((names - own) & set(vars(options)))
    if foreign:
        flag = f"--{foreign[0].replace('_', '-')}"
        msg = f"{flag} means nothing to --preset {options.preset}; leave it out"
        raise UsageError(msg)


def _dsc_line(validation: Mapping[str, float]) -> str:
    """Return the sets' or classes' DSC as text."""
    return ", ".join(f"{name} {dsc:.3f}" for name, dsc in validation.items())
