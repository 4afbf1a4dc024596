"""The page of results, the bundle's figures and its card tell the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.training.card import WORDINGS

PAGE = Path(__file__).parents[1] / "docs" / "results.md"


@pytest.fixture(scope="module")
def figures() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the bundle's entries by prompt design and set."""
    path = model_card("compact").path / "figures.json"
    sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
    return {(entry["prompts"], entry["set"]): entry for entry in sets}


def _rows(table: str) -> list[dict[str, str]]:
    """Return the rows of a table of the page, by column."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(rf"<!-- table: {table} -->(.*?)<!-- end -->", text, re.DOTALL)
    assert block, table
    lines = [line for line in block[1].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(cells) > 2, table
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_accuracy_agrees(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    rows = _rows("accuracy")
    names = {name for design, name in figures if design == "original"}
    assert {row["set"] for row in rows} >= names
    for row in rows:
        name, _, target = row["set"].partition(", ")
        entry = figures["original", name]
        entry = entry["targets"][target] if target else entry
        dsc = entry["dsc"]
        assert row["DSC"] == f"{dsc['mean']:.3f} ± {dsc['std']:.3f}"
        assert row["cases"] == str(entry["n"])


def test_wording_and_absence_agree(
    figures: dict[tuple[str, str], dict[str, Any]],
) -> None:
    compared = 0
    for row in _rows("wording"):
        for design in ("original", *WORDINGS):
            if row.get(design, "-") != "-":
                mean = figures[design, row["set"]]["dsc"]["mean"]
                assert row[design] == f"{mean:.3f}"
                compared += 1
    assert compared > 9
    for row in _rows("absence"):
        name, _, what = row["asked"].partition(", ")
        if what == "other sets' classes":
            absent = figures["mismatched", name]["absent"]
            assert row["answered with nothing"] == f"{100 * absent:.1f} %"


def test_reliability_agrees(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    for row in _rows("reliability"):
        name = row["set"].removesuffix(" (out of domain)")
        told = figures["original", name]["reliability"]
        spearman = told["spearman"]
        expected = {
            "entropy": spearman["predictive_entropy"]["pixels"],
            "mutual information": spearman["mutual_information"]["pixels"],
            "Brier, union": told["brier"]["union"],
            "ECE, union": told["ece"]["union"],
            "ranking of pictures": told["ranking"],
        }
        for column, value in expected.items():
            assert row[column] == f"{value:.3f}", (name, column)


def test_the_card_agrees(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    card = (model_card("compact").path / "card.md").read_text(encoding="utf-8")
    for (design, name), entry in figures.items():
        if design == "original":
            dsc = f"{entry['dsc']['mean']:.3f} ± {entry['dsc']['std']:.3f}"
            assert f"| {name} | original | {entry['n']} | {dsc} |" in card


def test_one_checkpoint_gave_all_figures(
    figures: dict[tuple[str, str], dict[str, Any]],
) -> None:
    weights = {entry["weights_sha256"] for entry in figures.values()}
    assert weights == {model_card("compact").sha256}
