"""Sheets of classes in words: CSV with BiPVL-Seg's columns, and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medvlseg.core.class_texts import CONCEPTS, ClassSheet, ClassText
from napari_medvlseg.core.errors import OutputError, UnsupportedFormatError
from napari_medvlseg.core.io.write import write_text
from napari_medvlseg.core.json_file import read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADINGS = {"title": "Title", **CONCEPTS}
NAME = {"called": "Name"}
"""A column that only sheets have whose titles do not tell the names."""
SUFFIXES = (".csv", ".json")
KIND = "medvlseg-classes"
VERSION = 1
FOLDER = files("napari_medvlseg") / "concepts"
_AMBIGUOUS = "-ambiguous"


def bundled_sheets() -> list[str]:
    """Return the names of the sheets that come with the package."""
    names = (Path(entry.name) for entry in FOLDER.iterdir())
    return sorted(
        path.stem
        for path in names
        if path.suffix == ".csv" and not path.stem.endswith(_AMBIGUOUS)
    )


def find_sheet(name: str, *, ambiguous: bool = False) -> ClassSheet:
    """Return a sheet by its name in the package, or by its file.

    Parameters
    ----------
    name : str
        One of `bundled_sheets`, or a path.
    ambiguous : bool
        Whether the vague texts are wanted, which lie in a sheet beside: of
        ``organs.csv`` in ``organs-ambiguous.csv``. The classes keep the names of the
        plain sheet.

    Raises
    ------
    UnsupportedFormatError
        If there is no such sheet, it cannot be read, or the vague one is of another
        number of classes.
    """
    if name in bundled_sheets():
        with as_file(FOLDER) as folder:
            return _read_pair(folder / f"{name}.csv", ambiguous=ambiguous)
    path = Path(name).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(bundled_sheets())
        msg = f"expected a .csv or .json sheet of classes or one of {known}, got {name}"
        raise UnsupportedFormatError(msg)
    return _read_pair(path, ambiguous=ambiguous)


def _read_pair(path: Path, *, ambiguous: bool) -> ClassSheet:
    """Read a sheet, or the vague one beside with the names of the first."""
    plain = read_class_sheet(path)
    if not ambiguous:
        return plain
    beside = path.with_stem(f"{path.stem}{_AMBIGUOUS}")
    vague = read_class_sheet(beside)
    if len(vague.classes) != len(plain.classes):
        msg = (
            f"{beside}: expected the {len(plain.classes)} classes of {path.name} in "
            f"their order, got {len(vague.classes)}"
        )
        raise UnsupportedFormatError(msg)
    pairs = zip(vague.classes, plain.names, strict=True)
    return ClassSheet(tuple(replace(each, called=name) for each, name in pairs))


def read_class_sheet(path: Path) -> ClassSheet:
    """Read a sheet of classes, the first of which is label 1.

    Parameters
    ----------
    path : Path
        ``.csv`` with the columns Title, Shape, Location, Appearance/Density,
        Contour/Symmetry and Internal Texture, in any order, or ``.json``. A column
        Name tells what the classes are called, where their titles do not.

    Raises
    ------
    UnsupportedFormatError
        If it cannot be read, a column or a title is absent, or a title comes twice.
    """
    if path.suffix.lower() == ".json":
        rows = _json_rows(path)
    elif path.suffix.lower() == ".csv":
        rows = _csv_rows(path)
    else:
        msg = f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}"
        raise UnsupportedFormatError(msg)
    return _sheet(path, rows)


def parse_class_sheet(text: str) -> ClassSheet:
    """Return the sheet that the text of a ``.json`` one tells.

    Raises
    ------
    UnsupportedFormatError
        If it is none.
    """
    source = Path("class texts")
    try:
        told = json.loads(text)
    except ValueError as error:
        msg = f"{source}: expected JSON, cannot read it ({error})"
        raise UnsupportedFormatError(msg) from error
    if not isinstance(told, dict):
        msg = f"{source}: expected a JSON object, got {told!r:.40}"
        raise UnsupportedFormatError(msg)
    return _sheet(source, _told_rows(source, told))


def find_class_texts(told: str) -> ClassSheet:
    """Return the sheet of `SegmentConfig.class_texts`: a file's, or the text itself.

    Raises
    ------
    UnsupportedFormatError
        If it cannot be read.
    """
    if told.startswith("{"):
        return parse_class_sheet(told)
    return read_class_sheet(Path(told).expanduser())


def class_sheet_text(sheet: ClassSheet) -> str:
    """Return a sheet as the text of a ``.json`` one."""
    fields = _headings(sheet)
    rows = [{f: getattr(each, f) for f in fields} for each in sheet.classes]
    told = {"format": KIND, "version": VERSION, "classes": rows}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _headings(sheet: ClassSheet) -> dict[str, str]:
    """Return the columns that a sheet needs."""
    has_names = any(each.called for each in sheet.classes)
    return HEADINGS | (NAME if has_names else {})


def _sheet(path: Path, rows: Iterable[tuple[str, Mapping[str, object]]]) -> ClassSheet:
    """Return the classes of some rows."""
    classes = [_class(path, where, row) for where, row in rows]
    try:
        return ClassSheet(tuple(classes))
    except ValueError as error:
        msg = f"{path}: {error}"
        raise UnsupportedFormatError(msg) from error


def write_class_sheet(
    path: Path, sheet: ClassSheet, *, overwrite: bool = False
) -> None:
    """Write a sheet of classes whole or not at all.

    Parameters
    ----------
    path : Path
        Its suffix, ``.csv`` or ``.json``, says which kind.
    sheet : ClassSheet
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputError
        If the suffix is another one, the file is there, or the disk refuses.
    """
    if path.suffix.lower() not in SUFFIXES:
        msg = f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}"
        raise OutputError(msg)
    if path.exists() and not overwrite:
        msg = f"{path}: exists; choose another name or allow to overwrite it"
        raise OutputError(msg)
    if path.suffix.lower() == ".json":
        write_text(path, class_sheet_text(sheet))
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    headings = _headings(sheet)
    writer.writerow(headings.values())
    for each in sheet.classes:
        writer.writerow([getattr(each, field) for field in headings])
    write_text(path, text.getvalue())


def _csv_rows(path: Path) -> Iterable[tuple[str, Mapping[str, object]]]:
    """Yield where each row is, and its cells by field; empty rows are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a CSV file in UTF-8, cannot read it ({error})"
        raise UnsupportedFormatError(msg) from error
    reader = csv.reader(io.StringIO(text))
    header = [cell.strip() for cell in next(reader, [])]
    lacking = [heading for heading in HEADINGS.values() if heading not in header]
    if lacking:
        msg = (
            f"{path}: expected the columns {', '.join(HEADINGS.values())} with commas "
            f"between them, got none named {lacking[0]}"
        )
        raise UnsupportedFormatError(msg)
    columns = {**HEADINGS, **{f: h for f, h in NAME.items() if h in header}}
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        where = f"line {reader.line_num}"
        if len(row) != len(header):
            msg = (
                f"{path}, {where}: expected {len(header)} cells, got {len(row)}; "
                "put quotes around texts with commas"
            )
            raise UnsupportedFormatError(msg)
        yield (
            where,
            {field: row[header.index(heading)] for field, heading in columns.items()},
        )


def _json_rows(path: Path) -> Iterable[tuple[str, Mapping[str, object]]]:
    """Return where each class of a JSON file is, and its texts by field."""
    told = read_object(path, "a sheet of classes", UnsupportedFormatError)
    return _told_rows(path, told)


def _told_rows(
    path: Path, told: Mapping[str, Any]
) -> Iterable[tuple[str, Mapping[str, object]]]:
    """Yield where each class of a JSON object is, and its texts by field."""
    if told.get("format") != KIND or told.get("version") != VERSION:
        msg = (
            f'{path}: expected "format": "{KIND}" and "version": {VERSION}, got '
            f"{told.get('format')!r} and {told.get('version')!r}"
        )
        raise UnsupportedFormatError(msg)
    classes: Any = told.get("classes")
    if not isinstance(classes, list) or not all(isinstance(c, dict) for c in classes):
        msg = f'{path}: expected "classes", a list of objects'
        raise UnsupportedFormatError(msg)
    for number, row in enumerate(classes, start=1):
        unknown = sorted(set(row) - {*HEADINGS, *NAME})
        if unknown:
            known = ", ".join(HEADINGS)
            msg = f"{path}, class {number}: expected {known}, got {unknown[0]!r}"
            raise UnsupportedFormatError(msg)
        yield f"class {number}", row


def _class(path: Path, where: str, row: Mapping[str, object]) -> ClassText:
    """Return the class of a row."""
    wrong = [field for field, text in row.items() if not isinstance(text, str)]
    if wrong:
        msg = f"{path}, {where}: expected text as {wrong[0]}, got {row[wrong[0]]!r}"
        raise UnsupportedFormatError(msg)
    texts = {field: " ".join(str(text).split()) for field, text in row.items()}
    try:
        return ClassText(**{"title": "", **texts})
    except ValueError as error:
        msg = f"{path}, {where}: {error}"
        raise UnsupportedFormatError(msg) from error
