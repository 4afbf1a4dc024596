"""The command line: arguments to configurations, errors to exit codes.

Each command's work is in a sibling `cli_*` that is imported when it runs, so that
``medvlseg --help`` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import textwrap
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

from napari_medvlseg.cli_interrupts import INTERRUPTED, interrupts, tell_interrupted
from napari_medvlseg.cli_models_flags import add_models
from napari_medvlseg.cli_options import (
    add_evaluation_flags,
    add_flags,
    add_segment_flags,
    path_of,
)
from napari_medvlseg.cli_terminal import complain, logs
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.datasets import DESIGNS, QUESTIONS, SPLITS
from napari_medvlseg.core.errors import MedVLSegError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, MENDABLE = 0, 2
_EXIT_CODES = (
    "exit codes: 0 done, 1 a bug (please report it), 2 something you can mend,\n"
    "            130 interrupted"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Without it, the arguments of this process.
    """
    with interrupts(process_ends=argv is None) as ignore_signals:
        try:
            return _run(build_parser().parse_args(argv))
        except MedVLSegError as error:
            complain(str(error))
            return MENDABLE
        except KeyboardInterrupt as stop:
            ignore_signals()
            tell_interrupted(stop)
            return INTERRUPTED
        except BrokenPipeError:  # who reads our output, for instance head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE


def _run(options: argparse.Namespace) -> int:
    """Run a command, and log what it raises."""
    module, _, function = options.command_function.partition(":")
    with logs(options.log):
        try:
            code: int = getattr(import_module(module), function)(options)
            sys.stdout.flush()
        except BaseException:
            logging.getLogger(__name__).debug("stopped", exc_info=True)
            raise
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="medvlseg",
        description=_wrapped(
            "Segment medical images from text prompts, with maps of how sure the model "
            "is. Runs offline. Research use only."
        ),
        epilog="examples:\n"
        '  medvlseg segment fundus.png --prompt "retinal vessels"\n'
        "  medvlseg models list\n"
        "  medvlseg evaluate --data data/BUSI --split val\n\n"
        "Each command has its own --help.\n" + _EXIT_CODES,
    )
    parser.add_argument(
        "--version", action="version", version=f"medvlseg {version('napari-medvlseg')}"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_segment, _evaluate, _models, _caption, _train, _bench):
        add(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that keeps line breaks in its help and complains in one line."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Exit with one line that says where help is."""
        complain(f"{message}; see {self.prog} --help")
        sys.exit(MENDABLE)


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    function: str,
    text: str,
    examples: Sequence[str],
) -> _Parser:
    """Add a command with its description, examples and the flags that all share."""
    shown = "".join(f"  {line}\n" for line in examples)
    parser = commands.add_parser(
        name,
        help=text.split(". ", maxsplit=1)[0].rstrip("."),
        description=_wrapped(text),
        epilog=f"examples:\n{shown}\n{_EXIT_CODES}",
    )
    parser.set_defaults(command_function=f"napari_medvlseg.{function}")
    parser.add_argument(
        "--log",
        type=path_of,
        metavar="FILE",
        help="Write a log to a file, added to what is there.",
    )
    return parser


def _wrapped(text: str) -> str:
    """Break a paragraph into lines that fit the terminal and are easy to read."""
    return textwrap.fill(text, min(shutil.get_terminal_size().columns - 2, 88))


def _model_flag(parser: _Parser) -> None:
    """Add ``--model``."""
    parser.add_argument(
        "--model",
        default="compact",
        metavar="ID",
        help="A model id (medvlseg models list) or the folder of a bundle [compact]",
    )


def _overwrite_flag(parser: _Parser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace files that are there."
    )


def _segment(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg segment``."""
    parser = _command(
        commands,
        "segment",
        "cli_segment:run",
        "Segment images from prompts. Every prompt is a question of its own. For each "
        "image this writes STEM_labels (0 is background, 1 the first prompt), "
        "STEM_probability, STEM_predictive_entropy (total uncertainty), "
        "STEM_mutual_information (what the model does not know), "
        "STEM_expected_entropy (what the image does not tell; all in nats) and "
        "STEM.json: PNG labels and float32 TIFF maps for pictures, .nii.gz for NIfTI "
        "and DICOM volumes, .nrrd for NRRD and MetaImage. With several prompts a map "
        "has one page (TIFF) or volume (NIfTI, NRRD) a prompt.",
        [
            'medvlseg segment colon.jpg --prompt "one polyp, located in the center"',
            'medvlseg segment "scans/*.png" --prompt "left lung" --prompt "right lung"',
            'medvlseg segment brain.nii.gz --prompt "brain tumor" --slice 40 --axis 2',
            "medvlseg segment ct/ --prompt liver --intensity liver --format dicom-seg",
            "medvlseg segment mr.nii.gz --model hippocampus-3d --prompt all",
        ],
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG, JPEG, BMP, TIFF, NIfTI, DICOM, NRRD or MetaImage files, folders of "
        "them, or globs",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="What to look for, in English; may be repeated. Of a 3D model: names of "
        "its classes with commas between them, or all; MedCLIPSeg on volumes takes "
        "sentences, too, with semicolons",
    )
    _model_flag(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=path_of,
        metavar="DIR",
        help="Folder of the results, or for one image FOLDER/NAME.nii.gz: NAME is what "
        "their names begin with [medvlseg-output beside the first image]",
    )
    _overwrite_flag(parser)
    parser.add_argument(
        "--series",
        metavar="NUMBER",
        help="Which DICOM series of a folder with several: its number or UID",
    )
    add_segment_flags(parser)
    add_flags(parser, SegmentConfig, "how to segment")


def _evaluate(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg evaluate``."""
    parser = _command(
        commands,
        "evaluate",
        "cli_data:run_evaluate",
        "Measure a model on labelled images. A data set is a folder with "
        "{Train,Val,Test}_Folder/{img,label} and, if there are prompts, "
        "Prompts_Folder/{Train,Val}_text.xlsx or Test_text_DESIGN.xlsx (columns Image "
        "and Description); without a sheet the prompts are written from the masks. "
        "Prints the Dice similarity coefficient (DSC), the normalised surface distance "
        "(NSD) at 2 px, the 95th percentile of the Hausdorff distance (HD95), "
        "sensitivity and specificity: means over cases, one case an image and target; "
        "F1 is of all pixels together. Then whether the uncertainty can be believed. "
        "Both masks empty count 1 (HD95: 0), one empty counts 0 (HD95: the image's "
        "diagonal). With a 3D model a set is a folder of volumes "
        "({images,labels}{Tr,Val,Ts}); each class gets DSC, NSD at 1 mm and HD95.",
        [
            "medvlseg evaluate --data data/BUSI --split val",
            "medvlseg evaluate --data data/BUSI --data data/ISIC --json figures.json",
            "medvlseg evaluate --data BUSI --data BUSBRA --out-of-domain BUSBRA",
            "medvlseg evaluate --data BUSI --sample-counts 5,10,20 --figures plots",
            "medvlseg evaluate --data data/Kvasir --prompts mismatched",
            "medvlseg evaluate --data data/Hippocampus --model hippocampus-3d",
        ],
    )
    parser.add_argument(
        "--data",
        type=path_of,
        action="append",
        required=True,
        metavar="DIR/SET",
        help="Folder of a data set; may be repeated.",
    )
    parser.add_argument("--split", choices=SPLITS, default="val", help="[val]")
    _model_flag(parser)
    parser.add_argument(
        "--prompts",
        choices=QUESTIONS,
        default="original",
        metavar="DESIGN",
        help=f"How prompts are worded: {', '.join(QUESTIONS)}; mismatched asks every "
        "image for what other sets show, absent is the right answer; held_out uses "
        "plain words that training never showed, made_up words without a meaning "
        "[original]",
    )
    add_evaluation_flags(parser)
    add_flags(parser, SegmentConfig, "how to segment")


def _caption(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg caption``."""
    parser = _command(
        commands,
        "caption",
        "cli_data:run_caption",
        "Write prompts from masks. Number, size, shape, colour and place are measured "
        "(Algorithm 1 of MedCLIPSeg); places are sides of the image.",
        [
            "medvlseg caption image.png mask.png --class polyp",
            "medvlseg caption --data data/Nuclei --split train --output captions.xlsx",
            "medvlseg caption --data data/BUSI --split val --design contradictory",
        ],
    )
    parser.add_argument("image", nargs="?", type=path_of, metavar="IMAGE")
    parser.add_argument("mask", nargs="?", type=path_of, metavar="MASK")
    parser.add_argument("--class", dest="class_name", metavar="NAME")
    parser.add_argument("--plural", metavar="NAME", help="[NAME of --class and s]")
    parser.add_argument(
        "--modality", default="image", metavar="TEXT", help="Kind of picture [image]"
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the wording [0]")
    parser.add_argument("--data", type=path_of, metavar="DIR/SET")
    parser.add_argument("--split", choices=SPLITS, default="train", help="[train]")
    parser.add_argument(
        "--design",
        "--prompts",
        dest="prompts",
        choices=DESIGNS,
        default="original",
        metavar="DESIGN",
        help=f"How prompts are worded: {', '.join(DESIGNS)} [original]",
    )
    parser.add_argument(
        "--output",
        type=path_of,
        metavar="FILE",
        help="An .xlsx or .csv file; without it the captions are printed",
    )
    _overwrite_flag(parser)


def _models(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg models``."""
    text = "List, show, fetch, import, export, check and remove models"
    add_models(commands.add_parser("models", help=text), _command)


def _train(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg train``."""
    from napari_medvlseg.cli_train import add_preset_flags
    from napari_medvlseg.core.training.config import TrainConfig

    parser = _command(
        commands,
        "train",
        "cli_train:run_train",
        "Train a model on labelled images. RUN gets the checkpoint, the curves (CSV "
        "and picture) and at the end a bundle; a run that was stopped goes on from its "
        "last checkpoint when the same command is given again.",
        [
            "medvlseg train --preset compact --data data --output RUN",
            "medvlseg train --preset medclipseg --data BUSI --output RUN",
            "medvlseg train --preset hippocampus-3d --data Task04 --output RUN",
        ],
    )
    parser.add_argument(
        "--data",
        type=path_of,
        action="append",
        required=True,
        metavar="DIR",
        help="A data set, or a folder of them; may be repeated for medclipseg.",
    )
    parser.add_argument("--output", type=path_of, required=True, metavar="RUN")
    add_flags(parser, TrainConfig, "how to train")
    add_preset_flags(parser)


def _bench(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add ``medvlseg bench``."""
    parser = _command(
        commands,
        "bench",
        "cli_models:run_bench",
        "Measure speed, memory and agreement on one picture, of a 3D model on one "
        "volume. The times are those of loading, a preview, all samples, a second "
        "prompt, adaptive sampling (of pictures), and the same network called one by "
        "one in float32 as the authors do (31 complete passes for 30 samples), with "
        "which the results must agree.",
        [
            "medvlseg bench",
            "medvlseg bench picture.png --samples 10 --json",
            "medvlseg bench heart.nii.gz --model cardiac-3d",
        ],
    )
    parser.add_argument(
        "image",
        nargs="?",
        type=path_of,
        metavar="IMAGE",
        help="[a 512 x 512 RGB picture that scikit-image ships; for a 3D model one "
        "window of random numbers]",
    )
    _model_flag(parser)
    parser.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="What to look for [an example of the model's card]",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="Of each time [3]"
    )
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    add_flags(parser, SegmentConfig, "how to segment")
