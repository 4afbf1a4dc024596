"""Tables of prompts to a spreadsheet or a CSV file."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.io.write import staging_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SHEET_SUFFIXES = (".xlsx", ".csv")


def write_sheet(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    overwrite: bool = False,
) -> None:
    """Write a table whole or not at all.

    Parameters
    ----------
    path : Path
        Its suffix, one of `SHEET_SUFFIXES`, says which kind.
    header : sequence of str
    rows : iterable of sequences of str
        Taken one by one, before the file gets its name.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputError
        If the suffix is another one, the file is there, or the disk refuses.
    """
    check_sheet(path, overwrite=overwrite)
    with staging_folder(path.parent) as staging:
        write = _write_csv if path.suffix.lower() == ".csv" else _write_xlsx
        write(staging / path.name, [header, *rows])
        (staging / path.name).replace(path)


def check_sheet(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if a table cannot go there; nothing is written."""
    if path.suffix.lower() not in SHEET_SUFFIXES:
        msg = f"{path}: expected a name that ends in {' or '.join(SHEET_SUFFIXES)}"
        raise OutputError(msg)
    if path.exists() and not overwrite:
        msg = f"{path}: exists; choose another name or pass --overwrite"
        raise OutputError(msg)


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write comma-separated values."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def _write_xlsx(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write the first sheet of a workbook."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(list(row))
    book.save(path)
