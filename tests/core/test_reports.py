"""What an evaluation leaves: kept results, tables and figures."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pillow

from napari_medvlseg.core.averages import join_sets
from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.errors import OutputError
from napari_medvlseg.core.evaluate import CaseResult, summarise
from napari_medvlseg.core.evaluate_volumes import (
    VolumeResult,
    class_figures,
    summarise_volumes,
)
from napari_medvlseg.core.metrics import confusion, surface_distances
from napari_medvlseg.core.reliability import case_reliability, class_reliability
from napari_medvlseg.core.reports.figures import write_figures
from napari_medvlseg.core.reports.kept import KeptResults, KeptVolumes
from napari_medvlseg.core.reports.tables import (
    cases_csv,
    count_rows,
    domain_rows,
    overlap_rows,
    sets_csv,
)
from napari_medvlseg.core.targets import TARGETS
from napari_medvlseg.core.uncertainty import binary_entropy
from napari_medvlseg.core.volume_sets import VolumeCase

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"split": "val", "model": "m", "prompts": "original", "samples": 4}


def answer(
    seed: int, *, samples: int = 4, target: str = "polyp", empty: bool = False
) -> CaseResult:
    """Return the result of a made-up probability."""
    generator = np.random.default_rng([seed, samples])
    p = generator.uniform(0.01, 0.99, (12, 14)).astype(np.float32)
    reference = generator.random(p.shape) < p
    if empty:
        p, reference = p * 0, reference & False
    mask, entropy = p > 0.5, binary_entropy(p)
    found = case_reliability(p, (entropy, entropy / 10), mask, reference)
    counts, surfaces = confusion(mask, reference), surface_distances(mask, reference)
    return CaseResult(
        image=f"{seed}.png",
        target=target,
        prompt=f"a {target}, no. {seed}",
        captioned=True,
        samples=samples,
        dsc=counts.f1,
        nsd=surfaces.within(2),
        hd95=surfaces.hd95(),
        hd95_mm=None,
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        present=bool(mask.any()),
        pixels=int(mask.sum()),
        reference_pixels=int(reference.sum()),
        mean_predictive_entropy=float(entropy.mean()),
        mean_mutual_information=float(entropy.mean() / 10),
        doubt=found.doubt,
        brier_union=found.union.brier if found.union else None,
        brier_image=found.image.brier,
        confusion=counts,
        reliability=found,
    )


def a_set(name: str, domain: str | None) -> tuple[dict[str, Any], list[CaseResult]]:
    """Return a set with two targets and two sample counts."""
    results = [
        answer(seed, samples=samples, target=target)
        for seed in range(4)
        for target in ("polyp", "rim")
        for samples in (2, 4)
    ]
    facts = {"set": name, **FACTS, "domain": domain}
    return summarise(results, facts), results


@pytest.fixture(scope="module")
def sets() -> list[tuple[dict[str, Any], list[CaseResult]]]:
    return [a_set("Kvasir", "in"), a_set("BUSBRA", "out")]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def cases_of(folder: Path) -> list[Case]:
    """Return the cases of two pictures that are there."""
    cases = []
    for stem in ("a", "b"):
        path = folder / f"{stem}.png"
        Pillow.new("L", (4, 4)).save(path)
        info = TARGETS["Kvasir"][0]
        cases.append(
            Case(
                dataset="Kvasir",
                image_path=path,
                label_path=path,
                target="polyp",
                info=info,
                prompt="a polyp",
            )
        )
    return cases


def test_kept_results_come_back_as_they_were(tmp_path: Path) -> None:
    cases, file = cases_of(tmp_path), tmp_path / "out" / "figures.json"
    kept = KeptResults(file, cases, {"seed": 0})
    results = [answer(0), answer(1, samples=2), answer(2, empty=True)]
    kept.save(1, results)
    again = KeptResults(file, cases, {"seed": 0})
    assert again.count == 1
    assert again.load(0) is None
    back = again.load(1)
    assert back is not None
    assert [b.to_dict() for b in back] == [r.to_dict() for r in results]
    assert summarise(back, FACTS) == summarise(results, FACTS)
    again.forget()
    assert not list(file.parent.iterdir())


def test_what_is_kept_of_other_settings_or_files_is_not_taken(tmp_path: Path) -> None:
    cases, file = cases_of(tmp_path), tmp_path / "figures.json"
    kept = KeptResults(file, cases, {"seed": 0})
    for index in (0, 1):
        kept.save(index, [answer(index)])
    other = KeptResults(file, cases, {"seed": 1})
    assert other.count == 0
    assert other.differs == "seed 0, not 1"
    os.utime(cases[1].label_path, (1, 1))  # the label was mended
    prompts = [cases[0], dataclasses.replace(cases[1], prompt="a small polyp")]
    for changed in (cases, prompts):
        again = KeptResults(file, changed, {"seed": 0})
        assert again.load(0) is not None
        assert again.load(1) is None


def test_damaged_results_are_not_taken(tmp_path: Path) -> None:
    cases, file = cases_of(tmp_path), tmp_path / "figures.json"
    kept = KeptResults(file, cases, {"seed": 0})
    kept.save(0, [answer(0)])
    (path,) = kept.folder.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-40])
    assert kept.load(0) is None


def test_the_table_has_a_mean_row_only_for_several_sets(
    sets: list[tuple[dict[str, Any], list[CaseResult]]],
) -> None:
    summaries = [summary for summary, _ in sets]
    alone = overlap_rows(summaries[:1], summaries[0])
    assert [row[:2] for row in alone] == [*(("Kvasir", ""), ("", "polyp"), ("", "rim"))]
    joined = join_sets(summaries)
    rows = overlap_rows(summaries, joined)
    assert rows[-1][0] == "mean of sets"
    assert rows[-1][3].startswith(f"{joined['mean']['dsc']['mean']:.4f}")
    counted = count_rows(summaries, joined)
    assert [row[1] for row in counted] == ["2", "4"] * 2 + ["2", "2", "4", "4"]
    assert counted[-1][0] == "harmonic mean"
    compared = domain_rows(joined)
    assert [row[:2] for row in compared[:2]] == [
        ("in domain", "Kvasir"),
        ("out of domain", "BUSBRA"),
    ]
    assert not domain_rows(summaries[0])


def test_the_csv_of_sets_has_a_row_for_everything_that_is_told(
    sets: list[tuple[dict[str, Any], list[CaseResult]]],
) -> None:
    summaries = [summary for summary, _ in sets]
    joined = join_sets(summaries)
    rows = rows_of(sets_csv(summaries, joined))
    kinds = [row["row"] for row in rows]
    each = ["set", "target", "target", "sample count", "sample count"]
    means = ["mean of sets", "in domain", "out of domain", "harmonic mean"]
    assert kinds == [*each, *each, *means, *means, *means]
    assert float(rows[0]["dsc"]) == summaries[0]["dsc"]["mean"]
    assert float(rows[3]["dsc"]) == summaries[0]["sample_counts"][0]["dsc"]["mean"]
    assert (rows[3]["samples"], rows[0]["samples"]) == ("2", "4")
    assert rows[0]["hd95_mm"] == ""
    harmonic = joined["domains"]["harmonic_mean"]["dsc"]
    assert float(rows[13]["dsc"]) == harmonic
    assert (rows[13]["samples"], rows[17]["samples"]) == ("4", "2")
    alone = rows_of(sets_csv(summaries[:1], summaries[0]))
    assert [row["row"] for row in alone] == each


def test_the_csv_of_cases_has_a_row_a_case_and_count(
    sets: list[tuple[dict[str, Any], list[CaseResult]]],
) -> None:
    rows = rows_of(cases_csv(sets))
    assert len(rows) == 2 * 4 * 2 * 2
    results = sets[0][1]
    assert float(rows[3]["hd95"]) == results[3].hd95
    assert rows[3]["prompt"] == results[3].prompt  # with a comma in it
    assert {row["set"] for row in rows} == {"Kvasir", "BUSBRA"}
    assert cases_csv([]).strip() == ""


def test_figures_are_drawn_whole(
    sets: list[tuple[dict[str, Any], list[CaseResult]]], tmp_path: Path
) -> None:
    paths = write_figures([summary for summary, _ in sets], tmp_path / "plots")
    names = ["reliability.png", "uncertainty.png", "samples.png"]
    assert [path.name for path in paths] == names
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(names)
    for path in paths:
        with Pillow.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_figures_of_nothing_but_empty_answers_are_drawn(tmp_path: Path) -> None:
    summary = summarise([answer(0, empty=True)], {"set": "Kvasir", **FACTS})
    paths = write_figures([summary], tmp_path)
    assert [path.name for path in paths] == ["reliability.png", "uncertainty.png"]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_figures([summary], tmp_path / "file")


def volume_answer(
    seed: int, *, samples: int = 4, exclusive: bool = True, empty: bool = False
) -> VolumeResult:
    """Return the result of made-up probabilities of two classes."""
    generator = np.random.default_rng([seed, samples])
    p = generator.dirichlet((1, 1, 1), (6, 5, 4)).astype(np.float32)[..., :2]
    p = np.moveaxis(p, -1, 0) * (not empty)
    right = generator.integers(0, 3, p.shape[1:]) * (not empty)
    found = np.where(p.max(axis=0) > 0.4, p.argmax(axis=0) + 1, 0)
    entropy = binary_entropy(p)
    names, references = ("front", "back"), [right == number for number in (1, 2)]
    masks = [found == number for number in (1, 2)]
    if exclusive:
        maps = entropy.sum(axis=0), entropy[0] / 10
        reliability = {"all": class_reliability(p, maps, found, right)}
    else:
        each = zip(names, p, entropy, masks, references, strict=True)
        reliability = {
            name: case_reliability(one, (doubt, doubt / 10), mask, reference)
            for name, one, doubt, mask, reference in each
        }
    compared = zip(names, masks, references, strict=True)
    return VolumeResult(
        image=str(seed),
        units="mm",
        classes={
            name: class_figures(mask, reference, 1.0, (1.0, 1.0, 2.0))
            for name, mask, reference in compared
        },
        mean_predictive_entropy=float(entropy.mean()),
        mean_mutual_information=float(entropy.mean() / 10),
        samples=samples,
        seconds=1.5,
        reliability=reliability,
    )


def volume_set(name: str, *, exclusive: bool) -> dict[str, Any]:
    """Return the summary of a set of volumes with two sample counts."""
    results = [
        volume_answer(seed, samples=samples, exclusive=exclusive)
        for seed in range(4)
        for samples in (2, 4)
    ]
    facts = {"set": name, **FACTS, "prompts": "all", "exclusive": exclusive}
    return summarise_volumes(results, facts)


@pytest.mark.parametrize("exclusive", [True, False])
def test_kept_volumes_come_back_as_they_were(
    tmp_path: Path, *, exclusive: bool
) -> None:
    paths = [tmp_path / f"{name}.nii.gz" for name in ("a", "b", "label")]
    for path in paths:
        path.write_bytes(b"volume")
    cases = [VolumeCase("a", (paths[0],), paths[2])] * 2
    file = tmp_path / "out" / "figures.json"
    kept = KeptVolumes(file, "Heart", cases, {"seed": 0})
    results = [
        volume_answer(0, exclusive=exclusive),
        volume_answer(1, exclusive=exclusive, samples=2),
        volume_answer(2, exclusive=exclusive, empty=True),
    ]
    kept.save(1, results)
    again = KeptVolumes(file, "Heart", cases, {"seed": 0})
    assert again.load(0) is None
    back = again.load(1)
    assert back is not None
    assert [b.to_dict() for b in back] == [r.to_dict() for r in results]
    assert [b.rows() for b in back] == [r.rows() for r in results]
    assert summarise_volumes(back, FACTS) == summarise_volumes(results, FACTS)
    assert KeptVolumes(file, "Heart", cases, {"seed": 1}).differs == "seed 0, not 1"
    assert KeptVolumes(file, "Lung", cases, {"seed": 0}).count == 0
    os.utime(paths[2], (1, 1))  # the label was mended
    assert KeptVolumes(file, "Heart", cases, {"seed": 0}).load(1) is None
    again.forget()
    assert not list(file.parent.iterdir())


def test_the_csv_of_volumes_has_a_row_for_each_class_and_count() -> None:
    summary = volume_set("Heart", exclusive=True)
    rows = rows_of(sets_csv([summary], summary))
    each = ["class", "class", "sample count", "class", "class"]
    assert [row["row"] for row in rows] == ["set", *each, *each[2:]]
    assert [row["samples"] for row in rows] == [*"444", *"222", *"444"]
    assert (rows[1]["target"], rows[1]["units"]) == ("front", "mm")
    front = summary["classes"]["front"]
    assert float(rows[1]["f1"]) == front["pooled"]["f1"]
    assert float(rows[1]["sensitivity"]) == front["sensitivity"]["mean"]
    assert rows[1]["brier"] == ""  # of all classes together
    assert float(rows[0]["brier"]) == summary["reliability"]["brier"]["union"]
    counted = count_rows([summary], summary)
    assert [row[1] for row in counted] == ["2", "4"]


@pytest.mark.parametrize("exclusive", [True, False])
def test_figures_of_volumes_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exclusive: bool
) -> None:
    summary = volume_set("Heart", exclusive=exclusive)
    drawn: list[tuple[str, int, list[str]]] = []
    save = Figure.savefig

    def seen(figure: Figure, *args: Any, **choices: Any) -> None:
        for axis in figure.axes:
            points = sum(
                len(np.asarray(part.get_offsets())) for part in axis.collections
            )
            lines = [str(line.get_label()) for line in axis.lines]
            drawn.append((axis.get_xlabel(), points, lines))
        save(figure, *args, **choices)

    monkeypatch.setattr(Figure, "savefig", seen)
    paths = write_figures([summary], tmp_path / "plots")
    names = ["reliability.png", "uncertainty.png", "samples.png"]
    assert [path.name for path in paths] == names
    best = "probability of the winning class" if exclusive else "probability"
    assert drawn[0][0] == best
    assert drawn[2][:2] == (
        "doubt (nats a voxel expected to belong)",
        4 if exclusive else 8,  # a point a volume, or a question about it
    )
    assert all(any("Heart" in name for name in line[2]) for line in drawn if line[2])
