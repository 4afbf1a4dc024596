"""Command-line flags from the fields of configurations: one place for each default."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import re
import sys
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_medvlseg.core.backbones.tower_shapes import VARIANTS
from napari_medvlseg.core.config import (
    ADAPTIVE_TOLERANCE,
    DEVICES,
    FORMATS,
    NOISE_FORMS,
    PRECISIONS,
    SegmentConfig,
)
from napari_medvlseg.core.errors import MedVLSegError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FLAGS = {"num_samples": "samples", "slice_index": "slice", "tiling": "tile"}
"""Flags that are not called like their field."""
T = TypeVar("T")
CHOICES = {
    "device": DEVICES,
    "precision": PRECISIONS,
    "noise_form": NOISE_FORMS,
    "backbone": VARIANTS,
}


class UsageError(MedVLSegError):
    """A flag has a value that cannot be used."""


def add_flags(
    parser: argparse.ArgumentParser,
    config: type[Any],
    title: str,
    *,
    known: frozenset[str] = frozenset(),
) -> None:
    """Add a flag for each field of a configuration; those not given stay absent.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    config : type
        A dataclass whose fields have docstrings.
    title : str
        Of the group of flags in the help.
    known : set of str
        Fields that have their flag already.
    """
    group = parser.add_argument_group(title)
    told = field_docstrings(config)
    for field in fields(config):
        if field.name in known:
            continue
        flag = f"--{FLAGS.get(field.name, field.name).replace('_', '-')}"
        default = default_of(field)
        help_text = _in_words(told[field.name], config)
        if field.name == "tiling":
            group.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help="Segment by overlapping tiles at full resolution, or the whole "
                "picture resized; without either, as the model's card says.",
            )
            continue
        if isinstance(default, bool):
            group.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=f"{help_text} [{'yes' if default else 'no'}]",
            )
            continue
        group.add_argument(
            flag,
            dest=field.name,
            type=_reader_of(default, field),
            choices=CHOICES.get(field.name),
            default=argparse.SUPPRESS,
            metavar=None if field.name in CHOICES else _metavar_of(default),
            help=f"{help_text} [{_shown(default)}]",
        )
    if config is SegmentConfig:
        group.add_argument(
            "--adaptive",
            dest="tolerance",
            action="store_const",
            const=ADAPTIVE_TOLERANCE,
            default=argparse.SUPPRESS,
            help=f"Draw only as many samples as are needed: --tolerance "
            f"{ADAPTIVE_TOLERANCE:g}.",
        )


def add_segment_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--channel``, ``--format`` and ``--resume``."""
    parser.add_argument(
        "--channel",
        type=path_of,
        action="append",
        default=[],
        metavar="FILE",
        help="For a 3D model of several channels: the next one's file, IMAGE being the "
        "first; may be repeated. A NIfTI file of four axes needs none.",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="Of the results; auto follows the image, dicom-seg wants a DICOM image "
        "[auto]",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="Volumes keep their finished slices until the result is written, and the "
        "same command goes on from there. With --resume it must, or says what differs; "
        "with --no-resume it begins anew and keeps nothing.",
    )


def add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add what an evaluation writes and tells beside its tables."""
    parser.add_argument(
        "--json", type=path_of, metavar="FILE", help="Write all figures and cases."
    )
    parser.add_argument(
        "--csv",
        type=path_of,
        metavar="FILE",
        help="Write the figures, a row a set, and beside it FILE's name and _cases, a "
        "row a case.",
    )
    parser.add_argument(
        "--figures",
        type=path_of,
        metavar="DIR",
        help="Draw reliability, error by uncertainty and DSC by samples there.",
    )
    parser.add_argument(
        "--sample-counts",
        type=_read_numbers,
        default=(),
        metavar="N,N,...",
        help="Tell also what the first N samples alone would have given.",
    )
    parser.add_argument(
        "--out-of-domain",
        action="append",
        default=[],
        metavar="SET",
        help="A set that the model was not trained on; may be repeated. Then the "
        "harmonic mean of both kinds is told. [what the model's card says]",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Results are kept beside the first file to write until all are there, and "
        "the same command goes on from them. [yes]",
    )


def config_from(config: type[T], options: argparse.Namespace) -> T:
    """Build a configuration from the flags that were given.

    Raises
    ------
    UsageError
        If it refuses a value.
    """
    names = field_docstrings(config)
    given = {name: value for name, value in vars(options).items() if name in names}
    if isinstance(given.get("tiling"), bool):
        given["tiling"] = "tile" if given["tiling"] else "whole"
    try:
        return config(**given)
    except ValueError as error:
        text = str(error)
        for name in names:
            text = text.replace(name, FLAGS.get(name, name).replace("_", "-"))
        raise UsageError(text) from error


def segment_config(options: argparse.Namespace) -> SegmentConfig:
    """Build the configuration of a segmentation."""
    return config_from(SegmentConfig, options)


def field_docstrings(config: type[Any]) -> Mapping[str, str]:
    """Return the docstring below each field of a dataclass and of its parents."""
    told: dict[str, str] = {}
    for each in reversed(config.__mro__):
        if is_dataclass(each):
            told |= _own_docstrings(each)
    return told


def _own_docstrings(config: type[Any]) -> dict[str, str]:
    """Return the docstrings of the fields that a dataclass itself defines."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    told: dict[str, str] = {}
    for field, docstring in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(docstring, ast.Expr)
            and isinstance(docstring.value, ast.Constant)
        ):
            told[field.target.id] = " ".join(str(docstring.value.value).split())
    return told


def default_of(field: Field[Any]) -> Any:
    """Return a field's default."""
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def path_of(text: str) -> Path:
    """Read a path.

    Raises
    ------
    UsageError
        If it is empty, or the system says that nothing can have that name.
    """
    if not text:
        msg = "expected a path, got an empty one; name a file or folder"
        raise UsageError(msg)
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{text}: expected a path that can be used ({reason}); choose another"
        raise UsageError(msg) from error
    return path


def _in_words(docstring: str, config: type[Any]) -> str:
    """Return a docstring as help: names of constants become their values."""
    constants = vars(sys.modules[config.__module__])

    def value(match: re.Match[str]) -> str:
        found = constants.get(match[1], match[1])
        return ", ".join(found) if isinstance(found, tuple) else str(found)

    return re.sub(r"`(\w+)`", value, docstring).replace("%", "%%")


def _reader_of(default: object, field: Field[Any]) -> Callable[[str], object]:
    """Return what turns a flag's text into a field's value."""
    if isinstance(default, tuple):
        decimal = "float" in str(field.type)  # an empty default does not tell
        return read_decimals if decimal else _read_numbers
    if isinstance(default, dict):
        return _read_shares
    if default is None:
        return int
    return type(default)


def _metavar_of(default: object) -> str:
    """Return what stands for the value in the help."""
    if isinstance(default, tuple):
        return "N,N,..."
    if isinstance(default, dict):
        return "NAME=X,..."
    if isinstance(default, str):
        return "HOW"
    return "X" if isinstance(default, float) else "N"


def _shown(default: object) -> str:
    """Return a default as one would type it."""
    if isinstance(default, tuple):
        return ",".join(str(item) for item in default)
    if isinstance(default, dict):
        return ",".join(f"{name}={value}" for name, value in default.items())
    return "none" if default is None else str(default)


def _read_numbers(text: str) -> tuple[int, ...]:
    """Read ``192,224,256``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        msg = f"expected numbers with commas between them, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def read_decimals(text: str) -> tuple[float, ...]:
    """Read ``1.5,1.5,2``."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        msg = f"expected numbers with commas between them, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _read_shares(text: str) -> dict[str, float]:
    """Read ``BUSI=1.2,ISIC=0.8``."""
    try:
        pairs = (part.split("=") for part in text.split(","))
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        msg = f"expected NAME=X with commas between them, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error
