"""Means over sets, and in domain beside out of domain."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import hmean

from napari_medvlseg.core.averages import (
    domain_of,
    harmonic_mean,
    headline,
    join_sets,
)


def summary(
    name: str, dsc: float, domain: str | None = None, spearman: float | None = 0.5
) -> dict[str, Any]:
    spread = {"mean": dsc, "std": 0.1}
    return {
        "set": name,
        "domain": domain,
        "dsc": spread,
        "nsd": {"mean": dsc / 2, "std": 0.1},
        "hd95": {"mean": 10 * dsc, "std": 1.0},
        "sensitivity": spread,
        "specificity": spread,
        "pooled": {"sensitivity": dsc, "specificity": dsc, "f1": dsc},
        "reliability": {
            "brier": {"union": 0.1, "image": 0.01},
            "ece": {"union": None, "image": 0.01},
            "spearman": {"predictive_entropy": {"pixels": spearman, "cases": 0.4}},
            "ranking": 0.7,
        },
    }


def test_a_headline_is_one_number_a_figure_and_none_where_there_is_none() -> None:
    told = headline(summary("A", 0.8))
    assert (told["dsc"], told["f1"], told["brier"]) == (0.8, 0.8, 0.1)
    assert told["spearman"] == 0.5
    assert told["ece"] is None
    assert told["pearson"] is None


def test_the_harmonic_mean_is_that_of_the_paper() -> None:
    sets = [
        summary("A", 0.8911 - 0.05, "in"),
        summary("B", 0.8911 + 0.05, "in"),
        summary("C", 0.7902, "out", spearman=0.25),
    ]
    told = join_sets(sets)["domains"]
    assert told["in"]["sets"] == ["A", "B"]
    assert told["in"]["dsc"] == pytest.approx(0.8911)
    assert told["out"]["dsc"] == pytest.approx(0.7902)
    found = told["harmonic_mean"]
    assert found["dsc"] == pytest.approx(0.8376, abs=5e-5)  # its table 3
    assert found["dsc"] == pytest.approx(hmean([0.8911, 0.7902]))
    assert found["spearman"] == pytest.approx(hmean([0.5, 0.25]))
    assert found["pearson"] is None
    assert "hd95" not in found  # less is better


def test_without_both_domains_there_is_no_harmonic_mean() -> None:
    for domain in ("in", "out", None):
        joined = join_sets([summary("A", 0.8, domain), summary("B", 0.7, domain)])
        assert "domains" not in joined
        assert joined["mean"]["dsc"]["mean"] == pytest.approx(0.75)


def test_a_mean_is_over_the_sets_that_have_the_figure() -> None:
    joined = join_sets([summary("A", 0.8), summary("B", 0.6, spearman=None)])
    assert joined["mean"]["spearman"] == {"mean": 0.5, "std": None}
    assert joined["mean"]["ece"] == {"mean": None, "std": None}
    assert joined["mean"]["hd95"]["mean"] == pytest.approx(7)


def test_every_number_of_draws_has_its_own_means_and_domains() -> None:
    sets = []
    for name, domain, shift in (("A", "in", 0.0), ("B", "out", -0.3)):
        counts = [
            {**summary(name, 0.9 + shift - 0.1 / n), "samples": n} for n in (5, 10)
        ]
        for one in counts:
            del one["set"], one["domain"]
        one = {**summary(name, 0.9 + shift, domain), "sample_counts": counts}
        sets.append(one)
    five, ten = join_sets(sets)["sample_counts"]
    assert (five["samples"], ten["samples"]) == (5, 10)
    assert five["mean"]["dsc"]["mean"] == pytest.approx((0.88 + 0.58) / 2)
    assert ten["domains"]["harmonic_mean"]["dsc"] == pytest.approx(hmean([0.89, 0.59]))
    del sets[1]["sample_counts"]
    assert "sample_counts" not in join_sets(sets)


def test_a_correlation_below_zero_has_no_harmonic_mean() -> None:
    assert harmonic_mean(0.5, -0.1) is None
    assert harmonic_mean(None, 0.5) is None
    assert harmonic_mean(0.5, 0) == 0


def test_the_user_decides_the_domain_before_the_card() -> None:
    assert domain_of("BUSBRA", ["BUSBRA"], []) == "out"
    assert domain_of("BUSI", ["BUSBRA"], ["ISIC"]) == "in"
    assert domain_of("BUSI", [], ["ISIC"]) == "out"
    assert domain_of("ISIC", [], ["ISIC"]) == "in"
    assert domain_of("ISIC", [], []) is None
