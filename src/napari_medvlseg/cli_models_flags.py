"""The flags of `medvlseg models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import path_of, read_decimals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_models(parser: argparse.ArgumentParser, command: Callable[..., Any]) -> None:
    """Add the actions of `medvlseg models`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `medvlseg models`.
    command : callable
        Adds one action: the parsers, name, function, text and examples.
    """
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _look(actions, command)
    _bring(actions, command)
    _export(actions, command)
    _keep(actions, command)


def _look(actions: Any, command: Callable[..., Any]) -> None:
    """Add ``list`` and ``show``."""
    listed = command(
        actions,
        "list",
        "cli_models:run_list",
        "List the models. Those that come with the package, those that are installed, "
        "and the 24 that the authors of MedCLIPSeg released.",
        ["medvlseg models list", "medvlseg models list --installed"],
    )
    listed.add_argument("--json", action="store_true", help="Print JSON.")
    listed.add_argument(
        "--installed", action="store_true", help="Only those that can be used now."
    )
    shown = command(
        actions,
        "show",
        "cli_models:run_show",
        "Show a model's card: data, licences, figures, intended use and limits.",
        ["medvlseg models show compact"],
    )
    shown.add_argument("model", metavar="ID")


def _bring(actions: Any, command: Callable[..., Any]) -> None:
    """Add ``import`` and ``fetch``."""
    bring = command(
        actions,
        "import",
        "cli_checkpoints:run_import",
        "Install a model from a file or folder. A .pth checkpoint of MedCLIPSeg's "
        "authors is recognised by its keys, compared with its network's, and written "
        "as a bundle; a bundle, as a folder or zip, is copied and checked. Nothing in "
        "the file is run, and no connection is opened.",
        [
            "medvlseg models import latest.pth --name mine --tokenizer BiomedBERT",
            "medvlseg models import /media/stick/medclipseg-unimedclip-busi.zip",
        ],
    )
    bring.add_argument("file", type=path_of, metavar="FILE")
    bring.add_argument("--name", metavar="ID", help="The model's id [its own]")
    bring.add_argument(
        "--tokenizer",
        type=path_of,
        metavar="DIR",
        help="Folder with vocab.txt or tokenizer.json of BiomedBERT, which no "
        "checkpoint holds [the Hugging Face cache]",
    )
    _overwrite(bring)
    fetch = command(
        actions,
        "fetch",
        "cli_checkpoints:run_fetch",
        "Download and install a released model. About 0.9 GB from the Hugging Face "
        "hub, checked by its hash; a download that was interrupted goes on when the "
        "same command is given again.",
        ["medvlseg models fetch medclipseg-unimedclip-kvasir-10"],
    )
    fetch.add_argument("model", metavar="ID")
    _overwrite(fetch)


def _export(actions: Any, command: Callable[..., Any]) -> None:
    """Add ``export``."""
    export = command(
        actions,
        "export",
        "cli_models:run_export",
        "Copy a model out, or make one of a training run. An installed model becomes "
        "one .zip file or a folder that another machine imports. Of a training run a "
        "bundle is made, and the folder's name is the model's id.",
        [
            "medvlseg models export medclipseg-unimedclip-busi --output busi.zip",
            "medvlseg models export RUN --output compact --figures F.json",
        ],
    )
    export.add_argument("source", metavar="ID|RUN")
    export.add_argument("--output", type=path_of, required=True, metavar="PATH")
    export.add_argument(
        "--figures",
        type=path_of,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Of a run: what medvlseg evaluate --json wrote, for the card",
    )
    export.add_argument(
        "--blend",
        metavar="MODEL",
        help="Of a run: average its weights with a model's, the one it started from; "
        "the noise stays the run's",
    )
    export.add_argument(
        "--share",
        type=float,
        default=0.5,
        metavar="NUMBER",
        help="Of the run's weights in that average [0.5]",
    )
    for whose in ("pixels", "words"):
        export.add_argument(
            f"--{whose}-noise",
            type=read_decimals,
            metavar="X,X,X",
            help=f"Of a run of compact: factors of the noise of the {whose}' values at "
            "the strides 32, 16 and 8 [the run's]",
        )
    _overwrite(export)


def _keep(actions: Any, command: Callable[..., Any]) -> None:
    """Add ``remove`` and ``verify``."""
    remove = command(
        actions,
        "remove",
        "cli_checkpoints:run_remove",
        "Remove installed models, and what interrupted downloads left of them.",
        ["medvlseg models remove medclipseg-unimedclip-busi"],
    )
    remove.add_argument("models", nargs="+", metavar="ID")
    check = command(
        actions,
        "verify",
        "cli_checkpoints:run_verify",
        "Compare the files of models with their SHA-256. Exits with 2 if one is "
        "damaged or incomplete.",
        ["medvlseg models verify", "medvlseg models verify compact /media/stick/busi"],
    )
    check.add_argument("models", nargs="*", metavar="ID", help="[all]")


def _overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace what is there."
    )
