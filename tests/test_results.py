"""The page of results, the bundle's figures and its card tell the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.training.card import WORDINGS, card_markdown

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
        for column, key in (("DSC", "dsc"), ("NSD 2 px", "nsd")):
            told = entry[key]
            assert row[column] == f"{told['mean']:.3f} ± {told['std']:.3f}"
        assert row["cases"] == str(entry["n"])
        assert row["answered with nothing"] == f"{100 * entry['absent']:.1f} %"


def test_surface_and_counts_agree(
    figures: dict[tuple[str, str], dict[str, Any]],
) -> None:
    names = {name for design, name in figures if design == "original"}
    rows = _rows("surface")
    assert {row["set"] for row in rows} == names
    for row in rows:
        entry = figures["original", row["set"]]
        assert row["HD95 (px)"] == f"{entry['hd95']['mean']:.1f}"
        assert row["sensitivity"] == f"{entry['sensitivity']['mean']:.3f}"
        assert row["specificity"] == f"{entry['specificity']['mean']:.3f}"
        assert row["F1"] == f"{entry['pooled']['f1']:.3f}"
        pearson = entry["reliability"]["pearson"]
        for column, key in (
            ("Pearson: entropy", "predictive_entropy"),
            ("mutual information", "mutual_information"),
        ):
            assert row[column] == f"{pearson[key]['pixels']:.3f}"
    rows = _rows("counts")
    assert {row["set"] for row in rows} == names
    for row in rows:
        told = figures["original", row["set"]]["sample_counts"]
        counts = {str(one["samples"]): one["dsc"]["mean"] for one in told}
        assert {"5", "10", "20", "30"} <= set(counts)
        for count, dsc in counts.items():
            assert row[count] == f"{dsc:.3f}"


def test_domains_agree(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    rows = _rows("domains")
    assert rows[0]["prompts"] == "original"
    for row in rows:
        told = {
            name: entry["dsc"]["mean"]
            for (design, name), entry in figures.items()
            if design == row["prompts"]
        }
        out = told.pop("BUSBRA")
        inside = sum(told.values()) / len(told)
        assert len(told) == 8
        assert row["in domain"] == f"{inside:.3f}"
        assert row["out of domain"] == f"{out:.3f}"
        harmonic = 2 * inside * out / (inside + out)
        assert row["harmonic mean"] == f"{harmonic:.3f}"


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
            "Brier, image": told["brier"]["image"],
            "ECE, union": told["ece"]["union"],
            "ECE, image": told["ece"]["image"],
            "share of MI": told["mutual_information_share"],
            "ranking of pictures": told["ranking"],
        }
        assert set(row) == {"set", *expected}
        for column, value in expected.items():
            digits = 4 if column.endswith("image") else 3
            assert row[column] == f"{value:.{digits}f}", (name, column)


def test_the_card_agrees(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    folder = model_card("compact").path
    card = (folder / "card.md").read_text(encoding="utf-8")
    config, told = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("config.json", "figures.json")
    )
    assert card == card_markdown(config, told)
    dsc = figures["original", "Kvasir"]["dsc"]
    assert f"| {dsc['mean']:.3f} ± {dsc['std']:.3f} |" in card


def test_one_checkpoint_gave_all_figures(
    figures: dict[tuple[str, str], dict[str, Any]],
) -> None:
    card = model_card("compact")
    weights = {entry["weights_sha256"] for entry in figures.values()}
    assert weights == {card.sha256}
    networks = {entry["network_sha256"] for entry in figures.values()}
    assert networks == {card.network_sha256}  # the factors of the noise are in it
