"""Write the tables and diagrams of docs/results.md from medvlseg evaluate's JSON.

    python scripts/results.py RESULTS

RESULTS holds ``original.json``, ``class_name.json`` and so on, one file a prompt
design with all sets in it, and on the original prompts ``one_pass.json`` and
``mirrored.json``, the same weights without noise, and ``twin.json``, ``flips.json``,
``dropout.json``, ``noise_words.json`` and ``noise.json``: models that were trained
alike but for how their draws differ. What is absent is left out. The tables
replace what stands between ``<!-- table: NAME -->`` and ``<!-- end -->`` in the page;
``--only accuracy,surface,counts,reliability`` is what ``original.json`` alone can tell.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from page_tables import markdown, put

from napari_medvlseg.core.averages import join_sets
from napari_medvlseg.core.datasets import DESIGNS
from napari_medvlseg.core.reports.figures import write_figures

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
OUT_OF_DOMAIN = "BUSBRA"
WORDINGS = ("class_name", "underdescriptive", "missing_location", "held_out")
METHODS = {
    "one_pass": "bundled weights, one pass",
    "mirrored": "bundled weights, mirrored pair",
    "original": "bundled weights, 30 draws",
    "twin": "twin, one pass",
    "flips": "twin, mirrored pair",
    "dropout": "dropout, 30 draws",
    "noise_words": "noise of words' values, 30 draws",
    "noise": "noise of all values, 30 draws",
}
JUDGED = {
    "DSC": 3,
    "Brier, union": 3,
    "Brier, image": 4,
    "ECE, union": 3,
    "entropy": 3,
    "mutual information": 3,
    "share of MI": 3,
    "ranking of pictures": 3,
}
"""Figures that methods are compared by, and their digits."""
UNCERTAINTIES = ("predictive_entropy", "mutual_information")
Results = dict[str, dict[str, dict[str, Any]]]


def main() -> None:
    """Read, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", metavar="TABLE,TABLE,...", help="Of the tables [all]")
    options = parser.parse_args()
    results = _read(options.results)
    page = PAGE.read_text(encoding="utf-8")
    tables = {
        "accuracy": _accuracy(results),
        "wording": _wording(results),
        "absence": _absence(results),
        "surface": _surface(results),
        "counts": _counts(results),
        "domains": _domains(results),
        "reliability": _reliability(results),
        "methods": _methods(results),
        "methods_by_set": _methods_by_set(results),
        "doubt": _doubt(results),
    }
    only = options.only.split(",") if options.only else [*tables]
    if unknown := set(only) - set(tables):
        parser.error(f"expected of {', '.join(tables)}, got {', '.join(unknown)}")
    for name in only:
        page = put(page, name, tables[name])
        print(f"{name}: {len(tables[name])} lines")
    PAGE.write_text(page, encoding="utf-8")
    _draw_curves(results["original"])
    _draw_counts(results["original"])


def _read(folder: Path) -> Results:
    """Return entries by file and set."""
    return {
        path.stem: {entry["set"]: entry for entry in told.get("sets", [told])}
        for path in sorted(folder.glob("*.json"))
        for told in [json.loads(path.read_text(encoding="utf-8"))]
    }


def _number(value: float | None, digits: int = 3) -> str:
    """Return a figure, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(results: Results) -> list[str]:
    """DSC and NSD with their spread, a row a set and target."""
    rows = []
    for name, entry in results["original"].items():
        parts = {"": entry, **entry.get("targets", {})}
        for target, part in parts.items():
            label = f"{name}, {target}" if target else name
            figures = [
                f"{_number(part[key]['mean'])} ± {_number(part[key]['std'])}"
                for key in ("dsc", "nsd")
            ]
            absent = f"{100 * part['absent']:.1f} %"
            rows.append((label, str(part["n"]), *figures, absent))
    return markdown(("set", "cases", "DSC", "NSD 2 px", "answered with nothing"), rows)


def _surface(results: Results) -> list[str]:
    """Outline, overlap by kind of error, Pearson, a row a set that has them."""
    rows = []
    for name, entry in results["original"].items():
        if "hd95" in entry:
            means = (_number(entry[k]["mean"]) for k in ("sensitivity", "specificity"))
            f1 = _number(entry["pooled"]["f1"])
            pearson = entry["reliability"]["pearson"]
            told = (_number(pearson[k]["pixels"]) for k in UNCERTAINTIES)
            rows.append((name, _number(entry["hd95"]["mean"], 1), *means, f1, *told))
    header = ("set", "HD95 (px)", "sensitivity", "specificity", "F1")
    return markdown((*header, "Pearson: entropy", "mutual information"), rows)


def _counts(results: Results) -> list[str]:
    """DSC of the first draws alone, a row a set that has them."""
    told = {
        name: {one["samples"]: one for one in entry["sample_counts"]}
        for name, entry in results["original"].items()
        if "sample_counts" in entry
    }
    counts = sorted({count for by_count in told.values() for count in by_count})
    rows = [
        (name, *(_number(by_count[count]["dsc"]["mean"]) for count in counts))
        for name, by_count in told.items()
    ]
    return markdown(("set", *(str(count) for count in counts)), rows)


def _domains(results: Results) -> list[str]:
    """DSC in and out of domain and their harmonic mean, a row a prompt design."""
    rows = []
    for design in ("original", *DESIGNS[1:]):
        entries = results.get(design, {}).values()
        told = [
            {**entry, "domain": "out" if entry["set"] == OUT_OF_DOMAIN else "in"}
            for entry in entries
        ]
        domains = join_sets(told).get("domains") if told else None
        if domains:
            sides = ("in", "out", "harmonic_mean")
            rows.append((design, *(_number(domains[side]["dsc"]) for side in sides)))
    return markdown(("prompts", "in domain", "out of domain", "harmonic mean"), rows)


def _wording(results: Results) -> list[str]:
    """DSC by wording, a row a set."""
    designs = ["original", *(d for d in WORDINGS if d in results)]
    rows = [
        (
            name,
            *(
                _number(results[design][name]["dsc"]["mean"])
                if name in results[design]
                else "-"
                for design in designs
            ),
        )
        for name in results["original"]
    ]
    return markdown(("set", *designs), rows)


def _absence(results: Results) -> list[str]:
    """Share of questions that are rightly answered with nothing."""
    rows = []
    for name, entry in results.get("mismatched", {}).items():
        share = f"{100 * entry['absent']:.1f} %"
        rows.append((f"{name}, other sets' classes", str(entry["n"]), share))
    for design in ("original", *WORDINGS):
        cases = results.get(design, {}).get("BUSI", {}).get("cases", [])
        normal = [case for case in cases if not case["reference_pixels"]]
        if normal:
            found = np.mean([case["present"] for case in normal])
            label = f"BUSI's normal pictures, {design}"
            rows.append((label, str(len(normal)), f"{100 * (1 - found):.1f} %"))
    return markdown(("asked", "questions", "answered with nothing"), rows)


def _reliability(results: Results) -> list[str]:
    """How well uncertainty follows the error, a row a set."""
    rows = []
    for name, entry in results["original"].items():
        told = entry["reliability"]
        spearman = told["spearman"]
        rows.append(
            (
                f"{name} (out of domain)" if name == OUT_OF_DOMAIN else name,
                _number(spearman["predictive_entropy"]["pixels"]),
                _number(spearman["mutual_information"]["pixels"]),
                _number(told["brier"]["union"]),
                _number(told["brier"]["image"], 4),
                _number(told["ece"]["union"]),
                _number(told["ece"]["image"], 4),
                _number(told["mutual_information_share"]),
                _number(told["ranking"]),
            )
        )
    header = (
        *("set", "entropy", "mutual information", "Brier, union", "Brier, image"),
        *("ECE, union", "ECE, image", "share of MI", "ranking of pictures"),
    )
    return markdown(header, rows)


def _methods(results: Results) -> list[str]:
    """In and out of domain, a row a method: those that have all sets."""
    rows = []
    for method, label in METHODS.items():
        told = {name: _judged(entry) for name, entry in results.get(method, {}).items()}
        if told.keys() != results["original"].keys():
            continue
        outside = told.pop(OUT_OF_DOMAIN)
        inside = (_mean(column) for column in zip(*told.values(), strict=True))
        pairs = zip(inside, outside, JUDGED.values(), strict=True)
        cells = (
            " / ".join(_number(x, digits) for x in (i, o)) for i, o, digits in pairs
        )
        rows.append((label, *cells))
    return markdown(("method", *JUDGED), rows)


def _methods_by_set(results: Results) -> list[str]:
    """Return the same, a row a set and method."""
    rows = []
    for name in results["original"]:
        for method, label in METHODS.items():
            entry = results.get(method, {}).get(name)
            if entry is not None:
                pairs = zip(_judged(entry), JUDGED.values(), strict=True)
                rows.append((name, label, *(_number(*pair) for pair in pairs)))
    return markdown(("set", "method", *JUDGED), rows)


def _judged(entry: dict[str, Any]) -> list[float | None]:
    """Return the figures of `JUDGED` of one set."""
    told = entry["reliability"]
    spearman = told["spearman"]
    return [
        entry["dsc"]["mean"],
        told["brier"]["union"],
        told["brier"]["image"],
        told["ece"]["union"],
        spearman["predictive_entropy"]["pixels"],
        spearman["mutual_information"]["pixels"],
        told["mutual_information_share"],
        told["ranking"],
    ]


def _mean(values: tuple[float | None, ...]) -> float | None:
    """Return the mean, or None if one is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _doubt(results: Results) -> list[str]:
    """Share of cases that a doubtful prompt makes more doubtful."""
    rows = []
    for name, good in results["original"].items():
        before = {(c["image"], c["target"]): c for c in good["cases"]}
        row = [name]
        for design in ("contradictory", "made_up"):
            entry = results.get(design, {}).get(name)
            if entry is None:
                row += ["-", "-"]
                continue
            pairs = [(before[(c["image"], c["target"])], c) for c in entry["cases"]]
            pairs = [(a, b) for a, b in pairs if a["prompt"] != b["prompt"]]
            for key in ("doubt", "mean_predictive_entropy"):
                share = np.mean([b[key] > a[key] for a, b in pairs]) if pairs else None
                row.append("-" if share is None else f"{100 * share:.0f} %")
        rows.append(tuple(row))
    header = (
        *("set", "contradictory: doubt", "contradictory: mean entropy"),
        *("made-up word: doubt", "made-up word: mean entropy"),
    )
    return markdown(header, rows)


def _draw_curves(original: dict[str, dict[str, Any]]) -> None:
    """Frequency against probability, error against entropy, DSC against doubt."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    axes[0].plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    for number, (name, entry) in enumerate(original.items()):
        colour = f"C{number}"
        told = entry["reliability"]
        label = f"{name} (out of domain)" if name == OUT_OF_DOMAIN else name
        style = {"color": colour, "label": label, "marker": ".", "linewidth": 1.2}
        for axis, curve, least in (
            (axes[0], told["calibration"], 1e-4),
            (axes[1], told["error_by_entropy"], 0.005),
        ):
            known = np.array([row for row in curve if row[2] > least])
            axis.plot(*known[:, :2].T, **style)
        doubt, dsc = zip(*((c["doubt"], c["dsc"]) for c in entry["cases"]), strict=True)
        axes[2].scatter(doubt, dsc, s=6, alpha=0.6, color=colour)
    titles = (
        ("Reliability, whole images", "probability", "share that belongs to it"),
        ("Error follows entropy", "predictive entropy (nats)", "mean error"),
        ("Doubtful pictures are the bad ones", "doubt (nats a pixel)", "DSC"),
    )
    for axis, (title, x, y) in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel=x, ylabel=y)
        axis.spines[["top", "right"]].set_visible(False)
    axes[2].set_xscale("log")
    axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(IMAGES / "reliability.png", dpi=110)
    plt.close(figure)


def _draw_counts(original: dict[str, dict[str, Any]]) -> None:
    """Accuracy and ranking by draws, as medvlseg evaluate draws them."""
    with TemporaryDirectory() as folder:
        for path in write_figures(list(original.values()), Path(folder)):
            if path.name == "samples.png":
                shutil.copyfile(path, IMAGES / path.name)


if __name__ == "__main__":
    main()
