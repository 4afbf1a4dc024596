from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_medvlseg import cli_data
from napari_medvlseg.cli import main
from napari_medvlseg.core.datasets import list_cases

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("loaded_once")

QUICK = ["--samples", "2", "--device", "cpu"]


def save_picture(path: Path, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    Pillow.fromarray(pixels).save(path)
    return path


def one_line(captured: str) -> str:
    lines = captured.strip().splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("medvlseg: error: ")
    return lines[0]


def test_a_mask_is_captioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = save_picture(tmp_path / "a.png")
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[2:10, 35:47] = 255
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    arguments = [str(image), str(tmp_path / "mask.png"), "--class", "polyp"]
    assert main(["caption", *arguments]) == 0
    said = capsys.readouterr().out
    assert "polyp" in said
    assert "top right" in said
    small = save_picture(tmp_path / "small.png", (4, 4))
    assert main(["caption", str(small), *arguments[1:]]) == 2
    assert "of a picture's shape" in one_line(capsys.readouterr().err)


def make_set(root: Path) -> Path:
    """Return two pictures with a bright and an empty mask, and no sheet."""
    for stem, value in {"a": 255, "b": 0}.items():
        save_picture(root / "Val_Folder" / "img" / f"{stem}.png")
        mask = np.zeros((40, 50), dtype=np.uint8)
        mask[5:20, 5:20] = value
        (root / "Val_Folder" / "label").mkdir(exist_ok=True, parents=True)
        Pillow.fromarray(mask).save(root / "Val_Folder" / "label" / f"{stem}.png")
    return root


@pytest.mark.parametrize("suffix", [".xlsx", ".csv"])
def test_a_set_is_captioned_into_a_sheet(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "Kvasir")
    sheet = root / "Prompts_Folder" / f"Val_text{suffix}"
    command = ["caption", "--data", str(root), "--split", "val"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in printed] == ["a.png", "b.png"]
    assert main([*command, "--output", str(sheet)]) == 0
    assert "2 captions" in capsys.readouterr().out
    if suffix == ".xlsx":
        cases = list_cases(root, "val")
        assert [case.prompt for case in cases] == [
            line.split("\t")[1] for line in printed
        ]
    else:
        assert sheet.read_text("utf-8").startswith("Image,Description,Ground Truth\n")
    assert main([*command, "--output", str(sheet)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--output", str(tmp_path / "a.txt")]) == 2


def test_captions_of_several_targets_come_back_from_their_sheet(tmp_path: Path) -> None:
    root = make_set(tmp_path / "WhiteBloodCells")
    sheet = root / "Prompts_Folder" / "Val_text.xlsx"
    command = ["caption", "--data", str(root), "--split", "val", "--output", str(sheet)]
    assert main(command) == 0
    prompts = [case.prompt for case in list_cases(root, "val")]
    assert len(prompts) == 4
    assert all(prompts)
    assert "nucleus" in str(prompts[0])


def test_evaluate_prints_a_table_and_writes_the_json_of_one_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells")
    file = tmp_path / "new" / "figures.json"
    command = ["evaluate", "--data", str(root), *QUICK, "--json", str(file)]
    assert main(command) == 0
    told = json.loads(file.read_text("utf-8"))
    assert (told["set"], told["split"], told["model"]) == (
        "WhiteBloodCells",
        "val",
        "compact",
    )
    assert (told["prompts"], told["samples"], told["n"]) == ("original", 2, 4)
    scores = [case["dsc"] for case in told["cases"]]
    assert told["dsc"]["mean"] == pytest.approx(np.mean(scores))
    assert told["dsc"]["std"] == pytest.approx(np.std(scores, ddof=1))
    assert set(told["targets"]) == {"nucleus", "cytoplasm"}
    assert {"image", "target", "prompt", "dsc", "nsd"} <= set(told["cases"][0])
    table = capsys.readouterr().out
    assert "WhiteBloodCells" in table
    assert f"{told['dsc']['mean']:.4f}" in table


def test_evaluate_joins_several_sets(tmp_path: Path) -> None:
    roots = [make_set(tmp_path / name) for name in ("BUSI", "Kvasir")]
    data = [argument for root in roots for argument in ("--data", str(root))]
    file = tmp_path / "figures.json"
    command = [
        "evaluate",
        *data,
        *QUICK,
        "--prompts",
        "class_name",
        "--json",
        str(file),
    ]
    assert main(command) == 0
    told = json.loads(file.read_text("utf-8"))
    assert [entry["set"] for entry in told["sets"]] == ["BUSI", "Kvasir"]
    means = [entry["dsc"]["mean"] for entry in told["sets"]]
    assert told["mean"]["dsc"]["mean"] == pytest.approx(np.mean(means))
    assert told["sets"][0]["cases"][0]["prompt"] == "breast tumor"


def test_a_label_that_does_not_fit_is_mendable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "BUSI")
    save_picture(root / "Val_Folder" / "label" / "a.png", (8, 8))
    assert main(["evaluate", "--data", str(root), *QUICK]) == 2
    assert "a label of the image's shape" in capsys.readouterr().err


def test_the_table_has_a_mean_row_only_for_several_sets() -> None:
    figures = {"n": 1, "dsc": {"mean": 0.5, "std": None}, "absent": 1.0}
    summary = {"set": "A", **figures, "nsd": figures["dsc"]}
    assert cli_data.table_rows([summary], summary) == [
        ("A", "", "1", "0.5000", "0.5000", "100.0%")
    ]
