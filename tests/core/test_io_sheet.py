from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook

from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.io.sheet import write_sheet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [("a.png", 'one "round", red polyp', "a.png")]
HEADER = ("Image", "Description", "Ground Truth")


def test_a_workbook_and_a_csv_file_hold_the_rows(tmp_path: Path) -> None:
    write_sheet(tmp_path / "new" / "a.xlsx", HEADER, ROWS)
    sheet = load_workbook(tmp_path / "new" / "a.xlsx").worksheets[0]
    assert list(sheet.iter_rows(values_only=True)) == [HEADER, *ROWS]
    write_sheet(tmp_path / "a.csv", HEADER, ROWS)
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines()
    assert lines[1] == 'a.png,"one ""round"", red polyp",a.png'


def test_another_suffix_and_an_earlier_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.xlsx or \.csv"):
        write_sheet(tmp_path / "a.ods", HEADER, ROWS)
    write_sheet(tmp_path / "a.csv", HEADER, ROWS)
    with pytest.raises(OutputError, match="pass --overwrite"):
        write_sheet(tmp_path / "a.csv", HEADER, [])
    write_sheet(tmp_path / "a.csv", HEADER, [], overwrite=True)
    assert len((tmp_path / "a.csv").read_text("utf-8").splitlines()) == 1


def test_rows_that_stop_coming_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[str, ...]]:
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sheet(tmp_path / "new" / "a.csv", HEADER, rows())
    assert list(tmp_path.iterdir()) == []
