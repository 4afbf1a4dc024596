"""`medvlseg train`: presets, their flags, and the loop's records told as they come."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, TypeVar

from napari_medvlseg.cli_options import UsageError, add_flags, config_from
from napari_medvlseg.cli_terminal import progress, say
from napari_medvlseg.core.training.bipvlseg.config import PRESETS_3D, BiPVLTrainConfig
from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.launch import is_first
from napari_medvlseg.core.training.medclipseg.config import (
    BACKBONES,
    MedCLIPSegTrainConfig,
)
from napari_medvlseg.core.training.medclipseg3d.config import (
    PRESETS_MEDCLIP_3D,
    MedCLIPVolumeConfig,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_medvlseg.core.training.loop import Record

    T = TypeVar("T")

MEDCLIPSEG = "medclipseg"
PRESETS = ("compact", MEDCLIPSEG, *PRESETS_3D, *PRESETS_MEDCLIP_3D)
CONFIGS = (TrainConfig, BiPVLTrainConfig, MedCLIPSegTrainConfig, MedCLIPVolumeConfig)
"""Of all presets; a flag that several have is explained by the first."""
PRESET_HELP = (
    "What to train: compact (pictures), medclipseg (pictures, on the CLIP that "
    "--backbone names), BiPVL-Seg on labelled volumes as its paper has it (bipvlseg: "
    "AMOS22; -whs-ct, -whs-mr, -brain), or small models of that kind (hippocampus-3d, "
    "cardiac-3d), or MedCLIPSeg on volumes (medclipseg-3d: a small one; -m3dclip: on "
    "M3D-CLIP). Each preset has defaults of its own; --data for volumes is one "
    "folder with imagesTr and labelsTr [compact]"
)


def add_preset_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset``, and the flags that the presets besides compact have."""
    parser.add_argument(
        "--preset", choices=PRESETS, default="compact", help=PRESET_HELP
    )
    title = "how to train on volumes, besides (defaults: those of --preset bipvlseg)"
    add_flags(parser, BiPVLTrainConfig, title, known=_fields(TrainConfig))
    title = "how to train MedCLIPSeg, besides (defaults: the paper's)"
    known = _fields(TrainConfig) | _fields(BiPVLTrainConfig) | {"train_encoders"}
    add_flags(parser, MedCLIPSegTrainConfig, title, known=known)
    which = parser.add_mutually_exclusive_group()
    flags = {"--train-encoders": (True, "learn"), "--freeze-encoders": (False, "be")}
    for flag, (trains, verb) in flags.items():
        which.add_argument(
            flag,
            dest="train_encoders",
            action="store_const",
            const=trains,
            default=argparse.SUPPRESS,
            help=f"Let the towers of MedCLIPSeg {verb}, whatever "
            "they start from [what starts from random weights learns]",
        )
    title = "how to train MedCLIPSeg on volumes, besides"
    add_flags(
        parser, MedCLIPVolumeConfig, title, known=known | _fields(MedCLIPSegTrainConfig)
    )


def run_train(options: argparse.Namespace) -> int:
    """Train, going on where an earlier run in the same folder stopped.

    Of several processes that train together, the first one writes and speaks.
    """
    from napari_medvlseg.core.io.write import check_writable

    if is_first():
        check_writable(options.output)
    if options.preset == MEDCLIPSEG:
        return _train_medclipseg(options)
    data = _only(options.data, options.preset)
    if options.preset != "compact":
        return _train_on_volumes(options, data)
    from napari_medvlseg.core.datasets import find_sets

    _refuse_foreign(options, TrainConfig)
    config = config_from(TrainConfig, options)
    find_sets(data)  # a wrong folder is told before torch is imported
    from napari_medvlseg.core.training.export import export_bundle
    from napari_medvlseg.core.training.run import train_steps

    _finish(train_steps(data, options.output, config), options.output)
    if is_first():
        bundle = options.output / options.preset
        export_bundle(options.output, bundle)
        _say_where(bundle)
    return 0


def _train_medclipseg(options: argparse.Namespace) -> int:
    """Train MedCLIPSeg on pictures."""
    from napari_medvlseg.core.datasets import find_sets

    _refuse_foreign(options, MedCLIPSegTrainConfig)
    backbone = getattr(options, "backbone", MedCLIPSegTrainConfig().backbone)
    config = _changed(BACKBONES[backbone], options)
    for folder in options.data:
        find_sets(folder)  # a wrong one is told before torch is imported
    from napari_medvlseg.core.training.medclipseg.export import export_medclipseg
    from napari_medvlseg.core.training.medclipseg.run import train_medclipseg_steps

    records = train_medclipseg_steps(options.data, options.output, config)
    _finish(records, options.output)
    if is_first():
        _say_where(export_medclipseg(options.output))
    return 0


def _train_on_volumes(options: argparse.Namespace, data: Path) -> int:
    """Train BiPVL-Seg, or MedCLIPSeg in 3D."""
    from napari_medvlseg.core.volume_sets import volume_cases

    presets: dict[str, BiPVLTrainConfig | MedCLIPVolumeConfig]
    presets = {**PRESETS_3D, **PRESETS_MEDCLIP_3D}
    preset = presets[options.preset]
    _refuse_foreign(options, type(preset))
    config = _changed(preset, options)
    volume_cases(data, "train")  # a wrong folder is told first

    _finish(_volume_records(data, options.output, config), options.output)
    if is_first():
        _say_where(_volume_bundle(options.output, config))
    return 0


def _volume_records(
    data: Path, output: Path, config: BiPVLTrainConfig | MedCLIPVolumeConfig
) -> Iterator[Record]:
    """Return the steps of a training on volumes."""
    if isinstance(config, MedCLIPVolumeConfig):
        from napari_medvlseg.core.training.medclipseg3d.run import (
            train_medclip_volume_steps,
        )

        return train_medclip_volume_steps(data, output, config)
    from napari_medvlseg.core.training.bipvlseg.run import train_volume_steps

    return train_volume_steps(data, output, config)


def _volume_bundle(
    output: Path, config: BiPVLTrainConfig | MedCLIPVolumeConfig
) -> Path:
    """Return the bundle that a finished run on volumes has left."""
    if isinstance(config, BiPVLTrainConfig):
        from napari_medvlseg.core.training.bipvlseg.export import bundle_folder

        return bundle_folder(output, config.sheet)
    from napari_medvlseg.core.training.medclipseg3d.export import BUNDLE

    return output / BUNDLE


def _say_where(bundle: Path) -> None:
    """Say what a finished run has left."""
    say(f"bundle written to {bundle}; use it with --model {bundle}")


def _only(data: list[Path], preset: str) -> Path:
    """Return the one folder that a preset takes."""
    if len(data) > 1:
        msg = (
            f"expected one --data for --preset {preset}, got {len(data)}; give the "
            "folder that holds the sets"
        )
        raise UsageError(msg)
    return data[0]


def _finish(records: Iterator[Record], output: Path) -> None:
    """Run a training to its end, and leave no half checkpoint if it is stopped."""
    from napari_medvlseg.core.training.checkpoint import remove_partial

    try:
        _tell(records)
    finally:
        if is_first():
            remove_partial(output)


def _fields(config: type[object]) -> frozenset[str]:
    """Return the names of a configuration's fields."""
    return frozenset(field.name for field in dataclasses.fields(config))  # type: ignore[arg-type]


def _tell(records: Iterator[Record]) -> None:
    """Show each step, and print what a validation found."""
    if not is_first():
        for _ in records:
            pass
        return
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
    own = _fields(config)
    names = frozenset().union(*map(_fields, CONFIGS))
    foreign = sorted((names - own) & set(vars(options)))
    if foreign:
        flag = f"--{foreign[0].replace('_', '-')}"
        msg = f"{flag} means nothing to --preset {options.preset}; leave it out"
        raise UsageError(msg)


def _dsc_line(validation: Mapping[str, float]) -> str:
    """Return the sets' or classes' DSC as text."""
    return ", ".join(f"{name} {dsc:.3f}" for name, dsc in validation.items())
