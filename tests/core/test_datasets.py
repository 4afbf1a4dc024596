from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from openpyxl import Workbook
from PIL import Image as Pillow

from napari_medvlseg.core.config import data_folder
from napari_medvlseg.core.datasets import find_sets, list_cases, splits_of
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.targets import HELD_OUT, MADE_UP, MISMATCHED, TARGETS

REAL = data_folder()
needs_data = pytest.mark.skipif(
    not (REAL / "BUSI").is_dir(),
    reason=f"no real data at {REAL}; set MEDVLSEG_DATA",
)


def save(path: Path, values: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(values.astype(np.uint8)).save(path)


def make_set(root: Path, stems: list[str], split: str = "Val") -> Path:
    for stem in stems:
        save(root / f"{split}_Folder" / "img" / f"{stem}.jpg", np.zeros((6, 8)))
        save(root / f"{split}_Folder" / "label" / f"{stem}.png", np.eye(6, 8) * 255)
    return root


def write_sheet(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [header, *rows]:
        sheet.append(row)
    book.save(path)


COLUMNS = ["Image", "Description", "Ground Truth"]


def test_a_prompt_is_matched_by_stem_and_loses_its_surrounding_space(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "BUSI", ["b", "a"])
    write_sheet(
        root / "Prompts_Folder" / "Val_text.xlsx",
        COLUMNS,
        [["b.PNG", " two\ttumors \n", "b.png"], ["a.jpg", "one tumor", "a.png"]],
    )
    cases = list_cases(root, "val")
    assert [case.image_path.name for case in cases] == ["a.jpg", "b.jpg"]
    assert [case.label_path.name for case in cases] == ["a.png", "b.png"]
    assert [case.prompt for case in cases] == ["one tumor", "two tumors"]
    assert {case.dataset for case in cases} == {"BUSI"}


def test_numbers_in_a_sheet_are_names_too(tmp_path: Path) -> None:
    root = make_set(tmp_path / "BrainTumorT1C", ["1016"])
    rows: list[list[object]] = [[1016, "one tumor", None]]
    write_sheet(root / "Prompts_Folder" / "Val_text.xlsx", COLUMNS, rows)
    assert list_cases(root, "val")[0].prompt == "one tumor"


def test_the_test_split_has_one_sheet_for_each_design(tmp_path: Path) -> None:
    root = make_set(tmp_path / "Kvasir", ["a"], "Test")
    for design in ("original", "contradictory"):
        path = root / "Prompts_Folder" / f"Test_text_{design}.xlsx"
        write_sheet(path, COLUMNS, [["a.jpg", f"{design} polyp", "a.png"]])
    assert list_cases(root, "test")[0].prompt == "original polyp"
    assert list_cases(root, "test", "contradictory")[0].prompt == "contradictory polyp"
    assert list_cases(root, "test", "overdescriptive")[0].prompt is None


def test_without_a_sheet_or_a_row_there_is_no_prompt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_set(tmp_path / "Kvasir", ["a", "b"])
    assert [case.prompt for case in list_cases(root, "val")] == [None, None]
    path = root / "Prompts_Folder" / "Val_text.xlsx"
    write_sheet(
        path, COLUMNS, [["a.jpg", "a polyp", "a.png"], ["b.jpg", "  ", "b.png"]]
    )
    assert [case.prompt for case in list_cases(root, "val")] == ["a polyp", None]
    assert "b.jpg" in caplog.text


def test_class_names_come_from_the_table_and_not_from_the_sheet(tmp_path: Path) -> None:
    root = make_set(tmp_path / "ISIC", ["a"])
    path = root / "Prompts_Folder" / "Val_text.xlsx"
    write_sheet(path, COLUMNS, [["a.jpg", "one brown spot", "a.png"]])
    assert list_cases(root, "val", "class_name")[0].prompt == "skin lesion"


def test_several_targets_give_several_cases_and_a_target_column_tells_them_apart(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells", ["a"])
    path = root / "Prompts_Folder" / "Val_text.xlsx"
    write_sheet(path, COLUMNS, [["a.jpg", "a cell", "a.png"]])
    assert [case.prompt for case in list_cases(root, "val")] == [None, None]
    write_sheet(
        path,
        [*COLUMNS, "Target"],
        [
            ["a.jpg", "the rim", "a.png", "cytoplasm"],
            ["a.jpg", "core", "a.png", "nucleus"],
        ],
    )
    cases = list_cases(root, "val")
    assert [(case.target, case.prompt) for case in cases] == [
        ("nucleus", "core"),
        ("cytoplasm", "the rim"),
    ]


def test_mismatched_asks_for_every_foreign_class_and_expects_nothing(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "Nuclei", ["a", "b"])
    cases = list_cases(root, "val", "mismatched")
    assert len(cases) == 2 * len(MISMATCHED["Nuclei"])
    assert {case.prompt for case in cases} == set(MISMATCHED["Nuclei"])
    assert not any(
        case.reference(np.full((4, 5), 255, np.uint8)).any() for case in cases
    )


def test_held_out_asks_for_every_target_in_words_training_never_shows(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells", ["a", "b"])
    cases = list_cases(root, "val", "held_out")
    wanted = {
        (info.name, words)
        for info in TARGETS["WhiteBloodCells"]
        for words in HELD_OUT[info.class_name]
    }
    assert len(cases) == 2 * len(wanted)
    assert {(case.target, case.prompt) for case in cases} == wanted
    assert not any(case.absent for case in cases)


def test_a_made_up_word_is_asked_for_and_the_target_still_lies_there(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells", list("abcdefgh"))
    cases = list_cases(root, "val", "made_up")
    assert len(cases) == 8 * len(TARGETS["WhiteBloodCells"])
    assert {case.prompt for case in cases} <= set(MADE_UP)
    assert len({case.prompt for case in cases}) > 4
    assert not any(case.absent for case in cases)
    again = list_cases(root, "val", "made_up")
    assert [case.prompt for case in again] == [case.prompt for case in cases]


@pytest.mark.parametrize("dataset", TARGETS)
def test_foreign_classes_are_those_of_other_sets(dataset: str) -> None:
    own = {info.class_name for info in TARGETS[dataset]}
    known = {info.class_name for infos in TARGETS.values() for info in infos}
    assert set(MISMATCHED[dataset]) <= known - own
    assert len(set(MISMATCHED[dataset])) == len(MISMATCHED[dataset]) > 0


def test_an_unknown_set_marks_lesions_and_knows_no_foreign_class(
    tmp_path: Path,
) -> None:
    root = make_set(tmp_path / "Mine", ["a"])
    (case,) = list_cases(root, "val")
    assert (case.target, case.info.class_name) == ("target", "lesion")
    with pytest.raises(DatasetError, match="no foreign classes are known"):
        list_cases(root, "val", "mismatched")
    with pytest.raises(DatasetError, match="no words are held out"):
        list_cases(root, "val", "held_out")


def test_a_folder_of_sets_is_not_a_set(tmp_path: Path) -> None:
    make_set(tmp_path / "BUSI", ["a"])
    with pytest.raises(DatasetError, match=r"got a folder of sets; add one of BUSI"):
        list_cases(tmp_path, "val")
    assert [path.name for path in find_sets(tmp_path)] == ["BUSI"]
    assert find_sets(tmp_path / "BUSI") == [tmp_path / "BUSI"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="check --data"):
        list_cases(tmp_path / "absent", "val")
    with pytest.raises(DatasetError, match="Train_Folder, Val_Folder or Test_Folder"):
        list_cases(tmp_path, "val")
    root = make_set(tmp_path / "BUSI", ["a"])
    with pytest.raises(DatasetError, match=r"no train split .* it has val"):
        list_cases(root, "train")
    with pytest.raises(DatasetError, match="split must be one of"):
        list_cases(root, "validation")
    with pytest.raises(DatasetError, match="prompt design must be one of"):
        list_cases(root, "val", "rude")
    save(root / "Val_Folder" / "img" / "b.jpg", np.zeros((6, 8)))
    with pytest.raises(DatasetError, match="no label for b"):
        list_cases(root, "val")


@pytest.mark.parametrize("damage", ["text", "columns", "empty"])
def test_a_damaged_sheet_is_refused(tmp_path: Path, damage: str) -> None:
    root = make_set(tmp_path / "BUSI", ["a"])
    path = root / "Prompts_Folder" / "Val_text.xlsx"
    write_sheet(path, ["Picture", "Words"] if damage == "columns" else [], [])
    if damage == "text":
        path.write_text("Image,Description")
    with pytest.raises(DatasetError, match=r"Val_text\.xlsx: expected"):
        list_cases(root, "val")


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    root = make_set(tmp_path / "BUSI", ["a"])
    (root / "Val_Folder" / "img" / "Thumbs.db").write_bytes(b"")
    (root / "Val_Folder" / "img" / "._a.jpg").write_bytes(b"")
    assert len(list_cases(root, "val")) == 1


def test_the_set_is_known_by_its_name_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_set(tmp_path / "Kvasir", ["a"]))
    assert list_cases(Path(), "val")[0].dataset == "Kvasir"


@needs_data
def test_every_real_case_has_its_files_and_the_authors_prompts() -> None:
    sets = {path.name: path for path in find_sets(REAL)}
    assert set(TARGETS) == set(sets)
    for name, path in sets.items():
        for split in splits_of(path):
            cases = list_cases(path, split)
            images = list((path / f"{split.title()}_Folder" / "img").iterdir())
            assert len(cases) == len(images) * len(TARGETS[name])
            with_sheet = (path / "Prompts_Folder").is_dir()
            assert all((case.prompt is not None) == with_sheet for case in cases)
