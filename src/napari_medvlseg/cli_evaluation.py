"""What `medvlseg evaluate` does alike for pictures and volumes: check, keep, write."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_medvlseg.cli_options import UsageError
from napari_medvlseg.cli_terminal import tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_medvlseg.core.reports.kept import KeptAnswers
    from napari_medvlseg.core.reports.tables import Measured


def check_evaluation(
    options: argparse.Namespace, names: Sequence[str], samples: int
) -> None:
    """Refuse flags that do not go together, and files that cannot be written.

    Raises
    ------
    UsageError
        If a sample count is out of range, or a set out of domain is not evaluated.
    OutputError
        If a file cannot be written; that is told before hours of work.
    """
    from napari_medvlseg.core.io.write import check_file, check_writable

    wrong = [count for count in options.sample_counts if not 1 <= count <= samples]
    if wrong:
        msg = (
            f"expected --sample-counts from 1 to the {samples} of --samples, got "
            f"{wrong[0]}"
        )
        raise UsageError(msg)
    unknown = [name for name in options.out_of_domain if name not in names]
    if unknown:
        msg = (
            f"expected --out-of-domain to name one of the sets ({', '.join(names)}), "
            f"got {unknown[0]!r}"
        )
        raise UsageError(msg)
    for path in filter(None, (options.json, options.csv)):
        check_file(path)
    if options.figures is not None:
        check_writable(options.figures.parent)


def first_output(options: argparse.Namespace) -> Path | None:
    """Return the first of the files to be written: results are kept beside it."""
    paths: tuple[Path | None, ...] = (options.json, options.csv, options.figures)
    return next((path for path in paths if path is not None), None)


def go_on_from(
    kept: KeptAnswers[Any], name: str, options: argparse.Namespace, images: str
) -> None:
    """Say what is kept of a set, or forget it if that is wanted."""
    if not options.resume:
        kept.forget()
    if kept.count:
        tell(f"{name}: goes on after {kept.count} finished {images}")
    elif kept.differs:
        tell(f"{name}: begins anew; the unfinished run there had {kept.differs}")


@contextmanager
def tells_what_is_left(
    stores: Sequence[KeptAnswers[Any]], images: str
) -> Iterator[None]:
    """Where Ctrl-C ends an evaluation, say what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = (_what_is_left(stores, images),)
        raise


def write_outputs(
    evaluated: Sequence[tuple[dict[str, Any], Sequence[Measured]]],
    joined: Mapping[str, Any],
    options: argparse.Namespace,
) -> None:
    """Write the files that were asked for, each whole or not at all.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    from napari_medvlseg.core.io.write import write_text
    from napari_medvlseg.core.reports import tables

    summaries = [summary for summary, _ in evaluated]
    if options.json is not None:
        text = json.dumps(joined, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(options.json, text + "\n")
    if options.csv is not None:
        cases = options.csv.with_name(f"{options.csv.stem}_cases{options.csv.suffix}")
        write_text(cases, tables.cases_csv(evaluated))
        write_text(options.csv, tables.sets_csv(summaries, joined))
    if options.figures is not None:
        from napari_medvlseg.core.reports.figures import write_figures

        write_figures(summaries, options.figures)


def _what_is_left(stores: Sequence[KeptAnswers[Any]], images: str) -> str:
    """Say what an interrupted evaluation leaves."""
    count = sum(store.count for store in stores)
    if not stores:
        return "nothing is kept without --json, --csv or --figures"
    return (
        f"the results of {count} {images} are kept in {stores[0].folder.parent}; the "
        "same command goes on from there, with --no-resume it begins anew"
    )
