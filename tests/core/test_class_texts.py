"""Classes in words, their sentences and their sheets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.core.backbones.minilm import find_minilm
from napari_medvlseg.core.backbones.text_encoders import TEXT_ENCODERS, TextTokenizer
from napari_medvlseg.core.class_texts import (
    CONCEPTS,
    TEXT_FORMATS,
    ClassSheet,
    ClassText,
    has_concepts,
    texts_digest,
)
from napari_medvlseg.core.errors import OutputError, UnsupportedFormatError
from napari_medvlseg.core.io.class_sheet import (
    bundled_sheets,
    find_sheet,
    read_class_sheet,
    write_class_sheet,
)

if TYPE_CHECKING:
    from pathlib import Path

SPLEEN = ClassText(
    title="Spleen in a CT image",
    shape="Curved wedge.",
    location="On the left",
    texture="Even, with few vessels.",
)
SHEET = ClassSheet((SPLEEN, ClassText(title="Liver")))
HEADER = "Title,Shape,Location,Appearance/Density,Contour/Symmetry,Internal Texture\n"
CLASSES = {
    "amos22-ct": 15,
    "cardiac-3d": 3,
    "hippocampus-3d": 2,
    "mm-whs-ct": 7,
    "mm-whs-mr": 7,
    "msd-brain-mr": 3,
}


def test_the_four_formats_of_table_2() -> None:
    tagged = (
        "Spleen in a CT image. Shape: Curved wedge. Location: On the left. "
        "Texture: Even, with few vessels."
    )
    assert SPLEEN.description("concepts") == tagged
    assert SPLEEN.description("ambiguous") == tagged  # of another sheet
    assert SPLEEN.description("aggregated") == (
        "Spleen in a CT image. Curved wedge. On the left. Even, with few vessels."
    )
    assert SPLEEN.description("names") == "Spleen in a CT image"
    with pytest.raises(ValueError, match="one of concepts, ambiguous"):
        SPLEEN.description("prose")


def test_each_concept_keeps_its_place_when_another_is_absent() -> None:
    assert SPLEEN.aligned_texts() == (
        "Spleen in a CT image",
        "Shape: Curved wedge.",
        "Location: On the left",
        None,
        None,
        "Internal Texture: Even, with few vessels.",
    )
    assert [has_concepts(name) for name in TEXT_FORMATS] == [True, True, False, False]
    for single in ("aggregated", "names"):
        assert SPLEEN.aligned_texts(single) == (SPLEEN.description(single),)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Spleen in a CT image", "Spleen"),
        ("Left Ventricle in an MRI Image", "Left Ventricle"),
        ("Tumor core (enhancing and necrotic tumor) in an MR image", None),
        ("Foramen in a bone", "Foramen in a bone"),
    ],
)
def test_a_name_is_the_title_without_the_kind_of_image(
    title: str, name: str | None
) -> None:
    expected = name or "Tumor core (enhancing and necrotic tumor)"
    assert ClassText(title=title).name == expected


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_sheet_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"organs{suffix}"
    odd = ClassText(title='Organ, the "odd" one', shape="naïve; 1,5 cm")
    sheet = ClassSheet((*SHEET.classes, odd))
    write_class_sheet(path, sheet)
    assert read_class_sheet(path) == sheet
    assert find_sheet(str(path)) == sheet
    with pytest.raises(OutputError, match="exists"):
        write_class_sheet(path, SHEET)
    write_class_sheet(path, SHEET, overwrite=True)
    assert read_class_sheet(path) == SHEET
    with pytest.raises(OutputError, match=r"\.csv or \.json"):
        write_class_sheet(tmp_path / "organs.txt", SHEET)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_authors_sheets_are_read(real_data: Path) -> None:
    folder = real_data / "concepts"
    if not folder.is_dir():
        pytest.skip("no sheets of the authors here")
    found = {path.name: read_class_sheet(path) for path in folder.glob("*.csv")}
    counts = {name: len(sheet.classes) for name, sheet in found.items()}
    assert counts == {
        "classes_definitions_amos_iccv.csv": 15,
        "classes_definitions_brain_iccv.csv": 3,
        "classes_definitions_whs_iccv.csv": 7,
        "classes_definitions_whs_iccv_mr.csv": 7,
    }
    ours = find_sheet("amos22-ct").names
    theirs = found["classes_definitions_amos_iccv.csv"].names
    assert [name.lower() for name in theirs[:14]] == [n.lower() for n in ours[:14]]


@pytest.mark.parametrize("name", CLASSES)
def test_our_own_sheets_are_whole_and_short_enough(name: str) -> None:
    assert name in bundled_sheets()
    assert set(bundled_sheets()) == set(CLASSES)
    sheet, vague = find_sheet(name), find_sheet(name, ambiguous=True)
    assert len(sheet.classes) == len(vague.classes) == CLASSES[name]
    for fixed, other in zip(sheet.classes, vague.classes, strict=True):
        assert set(fixed.concepts) == set(CONCEPTS), fixed.title
        assert 0 < len(other.concepts) < len(CONCEPTS), other.title
        assert fixed.name != fixed.title
        assert other.name == fixed.name
    pieces = TextTokenizer(TEXT_ENCODERS["minilm"], find_minilm())
    assert pieces(sheet.descriptions()).ids.shape[1] <= 200
    # Left and right kidneys look alike; by their places classes are told apart.
    for field in ("title", "location"):
        assert len({getattr(each, field) for each in sheet.classes}) == CLASSES[name]


VAGUE = ClassSheet(
    (
        ClassText(title="Some left thing, seen in certain CT images", shape="Curved"),
        ClassText(title="Some right thing, seen in certain CT images"),
    )
)


def test_a_users_vague_texts_lie_beside_and_have_the_plain_names(
    tmp_path: Path,
) -> None:
    write_class_sheet(tmp_path / "organs-ambiguous.csv", VAGUE)
    path = tmp_path / "organs.csv"
    with pytest.raises(UnsupportedFormatError, match=r"organs\.csv"):
        find_sheet(str(path), ambiguous=True)
    write_class_sheet(path, SHEET)
    found = find_sheet(str(path), ambiguous=True)
    assert found.names == ("Spleen", "Liver")
    assert found.descriptions("ambiguous") == VAGUE.descriptions("ambiguous")
    assert found.aligned_texts("ambiguous") == VAGUE.aligned_texts("ambiguous")
    assert find_sheet(str(path)) == SHEET
    write_class_sheet(path, ClassSheet(SHEET.classes[:1]), overwrite=True)
    with pytest.raises(UnsupportedFormatError, match=r"1 classes of organs\.csv"):
        find_sheet(str(path), ambiguous=True)
    with pytest.raises(UnsupportedFormatError, match="amos22-ct"):
        find_sheet("no-such-sheet")


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_names_that_titles_do_not_tell_are_kept(tmp_path: Path, suffix: str) -> None:
    named = [
        replace(each, called=name)
        for each, name in zip(VAGUE.classes, SHEET.names, strict=True)
    ]
    sheet = ClassSheet(tuple(named))
    path = tmp_path / f"sheet{suffix}"
    write_class_sheet(path, sheet)
    assert read_class_sheet(path) == sheet
    assert read_class_sheet(path).names == ("Spleen", "Liver")
    with pytest.raises(ValueError, match="'spleen' twice"):
        ClassSheet((named[0], replace(named[1], called="the spleen")))


def test_a_digest_is_of_all_that_is_read() -> None:
    digests = {
        texts_digest(sheet, form)
        for form in ("names", "concepts")
        for sheet in (
            SHEET,
            VAGUE,
            ClassSheet((SPLEEN,)),
            ClassSheet((replace(SPLEEN, shape="Flat"), SHEET.classes[1])),
        )
    }
    assert len(digests) == 7  # of names alone a shape is none


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got none named Title"),
        ("Title;Shape\nSpleen;wedge\n", "with commas between them"),
        (HEADER.replace("Location,", ""), "none named Location"),
        (HEADER + "Spleen,round, and soft,,,,\n", "line 2: expected 6 cells, got 7"),
        (HEADER + ",round,,,,\n", "line 2: expected a class with a title"),
        (HEADER + "Spleen,,,,,\nspleen,,,,,\n", "'spleen' twice"),
        (
            HEADER + "Spleen in a CT image,,,,,\nSpleen in an MR image,,,,,\n",
            "'spleen' tw",
        ),
        (HEADER, "at least one class"),
    ],
)
def test_what_is_wrong_with_a_csv_sheet_is_told(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnsupportedFormatError, match=message):
        read_class_sheet(path)


def test_a_sheet_from_a_spreadsheet_has_a_mark_and_empty_rows(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    text = HEADER + ",,,,,\nSpleen,  round \n shape,,,,\n"
    path.write_text(text.replace("  round \n shape", '"round \n shape"'), "utf-8-sig")
    (found,) = read_class_sheet(path).classes
    assert found == ClassText(title="Spleen", shape="round shape")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnsupportedFormatError, match="UTF-8"):
        read_class_sheet(path)
    with pytest.raises(UnsupportedFormatError, match=r"\.csv or \.json"):
        read_class_sheet(tmp_path / "sheet.xlsx")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"format": "other"}, "medvlseg-classes"),
        ({"classes": "Spleen"}, "a list of objects"),
        ({"classes": [{"title": "A", "color": "red"}]}, "class 1: .*'color'"),
        ({"classes": [{"title": 5}]}, "expected text as title, got 5"),
        ({"classes": [{"shape": "round"}]}, "with a title"),
    ],
)
def test_what_is_wrong_with_a_json_sheet_is_told(
    tmp_path: Path, told: dict[str, object], message: str
) -> None:
    path = tmp_path / "sheet.json"
    whole = {"format": "medvlseg-classes", "version": 1, "classes": [], **told}
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(UnsupportedFormatError, match=message):
        read_class_sheet(path)


def test_a_class_of_a_sheet_can_be_changed() -> None:
    changed = replace(SPLEEN, shape="")
    assert "shape" not in changed.concepts
    assert SHEET.names == ("Spleen", "Liver")
