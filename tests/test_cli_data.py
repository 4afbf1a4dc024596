from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_medvlseg.cli import main
from napari_medvlseg.core import evaluate
from napari_medvlseg.core.datasets import DESIGNS, list_cases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_medvlseg.core.datasets import Case

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


def test_a_set_that_is_not_known_is_captioned_with_the_name_that_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "Clinic")
    command = ["caption", "--data", str(root), "--split", "val"]
    assert main(command) == 0
    assert "lesion" in capsys.readouterr().out
    named = ["--class", "polyp", "--modality", "colonoscopy image"]
    assert main([*command, *named]) == 0
    said = capsys.readouterr().out
    assert "polyp" in said
    assert "colonoscopy" in said
    assert "lesion" not in said
    several = make_set(tmp_path / "WhiteBloodCells")
    assert main(["caption", "--data", str(several), "--split", "val", *named]) == 2
    assert "a set with one structure for --class" in one_line(capsys.readouterr().err)


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


def test_everything_that_evaluate_tells_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [make_set(tmp_path / name) for name in ("BUSI", "BUSBRA")]
    data = [argument for root in roots for argument in ("--data", str(root))]
    out = tmp_path / "out"
    files = ["--csv", str(out / "a.csv"), "--json", str(out / "a.json")]
    files += ["--figures", str(out / "plots")]
    asked = ["--sample-counts", "1,2", "--out-of-domain", "BUSBRA"]
    assert main(["evaluate", *data, *QUICK, *files, *asked]) == 0
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.png" for name in ("reliability", "uncertainty", "samples")}
    assert {name.replace("\\", "/") for name in names} == {
        *("a.csv", "a_cases.csv", "a.json"),
        *plots,
    }
    told = json.loads((out / "a.json").read_text("utf-8"))
    assert [one["domain"] for one in told["sets"]] == ["in", "out"]
    means = [told["domains"][side]["dsc"] for side in ("in", "out")]
    assert means == [one["dsc"]["mean"] for one in told["sets"]]
    assert [one["samples"] for one in told["sample_counts"]] == [1, 2]
    cases = (out / "a_cases.csv").read_text("utf-8").splitlines()
    assert len(cases) == 1 + 2 * 2 * 2
    shown = capsys.readouterr().out
    assert "harmonic mean" in shown
    assert "Pearson" in shown


def test_an_interrupted_evaluation_goes_on_where_it_was(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = make_set(tmp_path / "BUSI")
    out = tmp_path / "out"
    command = ["evaluate", "--data", str(root), *QUICK, "--json", str(out / "a.json")]
    measured: list[str] = []
    ask = evaluate._ask

    def interrupted(cases: list[Case], design: str) -> object:
        if measured:
            raise KeyboardInterrupt
        measured.append(cases[0].image_path.name)
        return ask(cases, design)

    monkeypatch.setattr(evaluate, "_ask", interrupted)
    assert main(command) == 130
    assert "results of 1 images are kept" in capsys.readouterr().err
    (left,) = out.iterdir()
    assert left.name.startswith(".a.json.BUSI-")
    monkeypatch.setattr(evaluate, "_ask", ask)
    monkeypatch.setattr(evaluate, "read_case", counted := Counted(evaluate.read_case))
    assert main(command) == 0
    assert "goes on after 1 finished images" in capsys.readouterr().err
    assert counted.names == ["b.png"]
    assert [path.name for path in out.iterdir()] == ["a.json"]
    first = json.loads((out / "a.json").read_text("utf-8"))
    assert main([*command, "--no-resume"]) == 0
    assert json.loads((out / "a.json").read_text("utf-8")) == first


class Counted:
    """A function that remembers the images it was called for."""

    def __init__(self, function: Callable[[Case], object]) -> None:
        self.function = function
        self.names: list[str] = []

    def __call__(self, case: Case) -> object:
        self.names.append(case.image_path.name)
        return self.function(case)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample-counts", "1,5"], "from 1 to the 2 of --samples, got 5"),
        (["--out-of-domain", "BUSBRA"], "one of the sets (BUSI), got 'BUSBRA'"),
        (["--json", "{file}/a.json"], "cannot write here"),
    ],
)
def test_what_cannot_be_evaluated_is_told_at_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    root = make_set(tmp_path / "BUSI")
    (tmp_path / "file").touch()
    flags = [flag.format(file=tmp_path / "file") for flag in flags]
    assert main(["evaluate", "--data", str(root), *QUICK, *flags]) == 2
    assert message in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("design", DESIGNS[:5])
def test_a_sheet_of_a_design_is_what_evaluate_asks_in_it(
    tmp_path: Path, design: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "BUSI")
    sheet = root / "Prompts_Folder" / f"Val_text_{design}.xlsx"
    command = ["caption", "--data", str(root), "--split", "val", "--design", design]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([*command, "--output", str(sheet)]) == 0
    cases = list_cases(root, "val", design)
    assert [case.prompt for case in cases] == [line.split("\t")[1] for line in lines]
    others = [name for name in DESIGNS[:5] if name != design]
    for other in others:
        assert {case.prompt for case in list_cases(root, "val", other)} == {None}
