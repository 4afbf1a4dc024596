"""What the command line shows: results on standard output, the rest on error."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeVar

    from napari_medvlseg.core.bench import Stage

    Result = TypeVar("Result")

PLAIN_WIDTH = 140
"""Columns of a table that is not shown on a terminal."""
WORDS = (
    *("set", "target", "class", "model", "title", "what"),
    *("state", "data", "modality", "organ", "images", "sets"),
)
"""Columns of text."""
_logger = logging.getLogger("napari_medvlseg")


def say(text: str) -> None:
    """Print a line of the result."""
    print(text)


def tell(text: str) -> None:
    """Print a line about how a result comes about, and log it."""
    print(f"medvlseg: {text}", file=sys.stderr)
    _logger.info(text)


def complain(text: str) -> None:
    """Print a line about what went wrong, and log it."""
    line = f"medvlseg: error: {' '.join(text.split())}"
    print(line, file=sys.stderr)
    _logger.info(line)


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table; all but the first column of text are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        numbers = column not in WORDS
        table.add_column(
            column, justify="right" if numbers else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(table)


@contextmanager
def progress(
    label: str, total: int | None
) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on standard error; yield what moves it: done, total, label."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(label, total=total)

        def move(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=label)

        try:
            yield move
        except BaseException:
            if not bar.tasks[task].completed:  # what went wrong is told in one line
                bar.update(task, visible=False)
            raise


@contextmanager
def logs(path: Path | None) -> Iterator[None]:
    """Send our warnings to standard error, and everything to a file if there is one.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    terminal.addFilter(lambda record: record.name.startswith("napari_medvlseg"))
    terminal.setFormatter(logging.Formatter("medvlseg: %(levelname)s: %(message)s"))
    files = [] if path is None else [_file_handler(path)]
    handlers: list[logging.Handler] = [terminal, *files]
    root = logging.getLogger()
    level = _logger.level
    _logger.setLevel(logging.DEBUG)
    logging.captureWarnings(capture=True)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        logging.captureWarnings(capture=False)
        _logger.setLevel(level)


def _file_handler(path: Path) -> logging.FileHandler:
    """Open a log."""
    try:
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        msg = f"{path}: cannot write the log there ({error.strerror})"
        raise OutputError(msg) from error
    file.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    return file


def last_result(stages: Iterable[Stage[Result]]) -> Result:
    """Show the stages of a benchmark, and return the result of the last one."""
    result = None
    with progress("", None) as move:
        for stage in stages:
            move(stage.done, stage.total, stage.what)
            result = stage.result
    if result is None:
        msg = "the benchmark ended without a result"
        raise RuntimeError(msg)
    return result
