from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from openpyxl import Workbook
from PIL import Image as Pillow

from napari_medvlseg.core.averages import join_sets
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.datasets import list_cases
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.evaluate import (
    CaseResult,
    evaluate_steps,
    read_case,
    summarise,
)
from napari_medvlseg.core.metrics import Confusion
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.reliability import case_reliability

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIG = SegmentConfig(num_samples=1, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("compact", device="cpu", precision="float32")


def make_set(root: Path, labels: dict[str, int]) -> Path:
    """Return pictures whose right half is labelled with a value."""
    for kind in ("img", "label"):
        (root / "Val_Folder" / kind).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)
    for stem, value in labels.items():
        label = np.zeros((24, 30), dtype=np.uint8)
        label[:, 15:] = value
        Pillow.fromarray(pixels).save(root / "Val_Folder" / "img" / f"{stem}.png")
        Pillow.fromarray(label).save(root / "Val_Folder" / "label" / f"{stem}.png")
    return root


def result(dsc: float, **fields: object) -> CaseResult:
    p = np.linspace(0, 1, 12).reshape(3, 4)
    values: dict[str, object] = {
        "image": "a.png",
        "target": "tumor",
        "prompt": "tumor",
        "captioned": False,
        "samples": 30,
        "dsc": dsc,
        "nsd": dsc / 2,
        "hd95": 10 * (1 - dsc),
        "hd95_mm": None,
        "sensitivity": dsc,
        "specificity": 1.0,
        "present": dsc > 0,
        "pixels": 1,
        "reference_pixels": 1,
        "mean_predictive_entropy": 0.1,
        "mean_mutual_information": 0.1,
        "doubt": 1 - dsc,
        "brier_union": 0.2,
        "brier_image": 0.1,
        "confusion": Confusion(1, 1, 9, 1),
        "reliability": case_reliability(p, (p, p / 10), p > 0.5, p > 0.2),
    }
    return CaseResult(**{**values, **fields})  # type: ignore[arg-type]


def test_a_summary_has_the_mean_and_the_sample_deviation() -> None:
    told = summarise([result(0.2), result(0.8), result(0.0)], {"set": "BUSI"})
    scores = np.array([0.2, 0.8, 0.0])
    assert next(iter(told)) == "set"
    assert told["n"] == 3
    assert told["dsc"]["mean"] == pytest.approx(scores.mean())
    assert told["dsc"]["std"] == pytest.approx(scores.std(ddof=1))
    assert told["nsd"]["mean"] == pytest.approx(scores.mean() / 2)
    assert told["absent"] == pytest.approx(1 / 3)
    assert told["hd95"]["mean"] == pytest.approx(10 - 10 * scores.mean())
    assert "hd95_mm" not in told
    assert told["sensitivity"]["mean"] == pytest.approx(scores.mean())
    assert told["specificity"] == {"mean": 1.0, "std": 0.0}
    assert told["pooled"] == {"sensitivity": 0.5, "specificity": 0.9, "f1": 0.5}
    assert "targets" not in told
    assert "sample_counts" not in told
    assert told["reliability"]["mutual_information_share"] == pytest.approx(0.1)
    assert json.loads(json.dumps(told)) == told
    assert [case["dsc"] for case in told["cases"]] == scores.tolist()


def test_one_case_has_no_deviation_and_several_targets_have_their_own_figures() -> None:
    told = summarise([result(0.2), result(0.6, target="rim")], {})
    assert told["dsc"]["mean"] == pytest.approx(0.4)
    assert told["targets"]["rim"]["dsc"] == {"mean": 0.6, "std": None}


def test_several_sets_are_joined_by_the_mean_of_their_means() -> None:
    first = summarise([result(0.2), result(0.4)], {"set": "A"})
    second = summarise([result(0.9)], {"set": "B"})
    joined = join_sets([first, second])
    assert [entry["set"] for entry in joined["sets"]] == ["A", "B"]
    assert joined["mean"]["dsc"]["mean"] == pytest.approx((0.3 + 0.9) / 2)
    assert joined["mean"]["dsc"]["std"] == pytest.approx(np.std([0.3, 0.9], ddof=1))


def test_empty_answers_to_empty_references_count_one(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "BUSI", {"empty": 0, "half": 255})
    certain = SegmentConfig(
        num_samples=1, device="cpu", precision="float32", threshold=1.0
    )
    cases = list_cases(root, "val")
    results = list(evaluate_steps(cases, "original", predictor, certain))
    scores = {r.image: (r.dsc, r.nsd, r.sensitivity, r.present) for r in results}
    assert scores == {"empty.png": (1, 1, 1, False), "half.png": (0, 0, 0, False)}
    distances = {r.image: (r.hd95, r.hd95_mm) for r in results}
    diagonal = pytest.approx(math.hypot(24, 30))
    assert distances == {"empty.png": (0, None), "half.png": (diagonal, None)}


def test_a_full_answer_scores_what_algebra_says(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "BUSI", {"empty": 0, "half": 255})
    anything = SegmentConfig(
        num_samples=1, device="cpu", precision="float32", threshold=0.0
    )
    cases = list_cases(root, "val")
    results = {
        r.image: r for r in evaluate_steps(cases, "original", predictor, anything)
    }
    assert results["empty.png"].dsc == 0
    assert results["half.png"].pixels == 24 * 30
    assert results["half.png"].dsc == pytest.approx(2 * 0.5 / 1.5)
    assert results["half.png"].sensitivity == 1
    assert results["half.png"].specificity == 0
    assert results["empty.png"].hd95 == pytest.approx(math.hypot(24, 30))
    assert 0 <= results["half.png"].mean_mutual_information <= math.log(2)


def test_an_image_that_tells_its_spacing_has_distances_in_mm(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "Kvasir", {"a.ome": 255})
    (root / "Val_Folder" / "img" / "a.ome.png").unlink()
    spacing = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 2.0}
    units = {"PhysicalSizeXUnit": "mm", "PhysicalSizeYUnit": "mm"}
    tifffile.imwrite(
        root / "Val_Folder" / "img" / "a.ome.tif",
        np.zeros((24, 30), np.uint8),
        metadata={"axes": "YX", **spacing, **units},
    )
    all_of_it = dataclasses.replace(CONFIG, threshold=0.0)
    cases = list_cases(root, "val")
    (found,) = evaluate_steps(cases, "original", predictor, all_of_it)
    # The answer is everything, the right half is right: 15 columns of 0.5 mm away.
    assert found.hd95 == 15
    assert found.hd95_mm == 7.5
    assert summarise([found], {})["hd95_mm"]["mean"] == 7.5


def test_fewer_samples_are_the_first_of_the_same_draws(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "Kvasir", {"a": 255})
    cases = list_cases(root, "val")
    four = dataclasses.replace(CONFIG, num_samples=4, threshold=0.2)
    found = list(evaluate_steps(cases, "original", predictor, four, (3, 1)))
    assert [r.samples for r in found] == [1, 3, 4]
    image = read_case(cases[0])[0]
    for answer in found:
        config = dataclasses.replace(four, num_samples=answer.samples)
        alone = segment(image, answer.prompt, predictor, **dataclasses.asdict(config))
        entropy = float(alone.predictive_entropy[0].mean(dtype=np.float64))
        assert answer.mean_predictive_entropy == pytest.approx(entropy, abs=1e-5)
        assert answer.doubt == pytest.approx(alone.doubt[0], rel=1e-4)
    told = summarise(found, {"set": "Kvasir"})
    assert [one["samples"] for one in told["sample_counts"]] == [1, 3, 4]
    assert told["sample_counts"][-1]["dsc"] == told["dsc"]
    assert [case["samples"] for case in told["cases"]] == [4]


def test_finished_images_are_not_measured_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells", {"a": 255, "b": 128})
    cases = list_cases(root, "val")
    kept: dict[int, list[CaseResult]] = {}

    class Store:
        def load(self, index: int) -> list[CaseResult] | None:
            return kept.get(index)

        def save(self, index: int, results: Sequence[CaseResult]) -> None:
            kept[index] = list(results)

    steps = evaluate_steps(cases, "original", predictor, CONFIG, (), Store())
    first = [next(steps), next(steps)]
    assert list(kept) == [0]
    steps = evaluate_steps(cases, "original", predictor, CONFIG, (), Store())
    monkeypatch.setattr(predictor, "draw", None)
    assert [next(steps), next(steps)] == first
    with pytest.raises(TypeError):
        next(steps)


def test_prompts_come_from_the_sheet_and_else_from_the_reference(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "Kvasir", {"a": 255, "b": 255})
    cases = list_cases(root, "val")
    results = list(evaluate_steps(cases, "original", predictor, CONFIG))
    assert all(r.captioned and "right" in r.prompt for r in results)
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Image", "Description", "Ground Truth"])
    sheet.append(["a.png", "one polyp ", "a.png"])
    (root / "Prompts_Folder").mkdir()
    book.save(root / "Prompts_Folder" / "Val_text.xlsx")
    again = list(evaluate_steps(list_cases(root, "val"), "original", predictor, CONFIG))
    assert (again[0].prompt, again[0].captioned) == ("one polyp", False)
    assert again[1].prompt == results[1].prompt


def test_every_design_words_the_prompts_in_its_way(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "Kvasir", {"a": 255})
    said = {}
    for design in ("original", "contradictory", "missing_location", "overdescriptive"):
        cases = list_cases(root, "val", design)
        (answer,) = evaluate_steps(cases, design, predictor, CONFIG)
        said[design] = answer.prompt
    assert "left" in said["contradictory"]
    assert "right" not in said["missing_location"]
    assert len(said["overdescriptive"]) > len(said["original"])


def test_mismatched_expects_nothing_of_every_foreign_class(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "Nuclei", {"a": 255})
    cases = list_cases(root, "val", "mismatched")
    results = list(evaluate_steps(cases, "mismatched", predictor, CONFIG))
    assert [r.prompt for r in results] == [case.prompt for case in cases]
    told = summarise(results, {})
    assert told["absent"] == told["dsc"]["mean"]


def test_answers_do_not_depend_on_the_other_questions_about_an_image(
    predictor: Predictor, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "WhiteBloodCells", {"a": 255, "b": 128})
    cases = list_cases(root, "val")
    together = list(evaluate_steps(cases, "original", predictor, CONFIG))
    alone = [
        answer
        for case in cases
        for answer in evaluate_steps([case], "original", predictor, CONFIG)
    ]
    assert [a.pixels for a in alone] == [t.pixels for t in together]
    assert [t.target for t in together] == ["nucleus", "cytoplasm"] * 2


def test_a_label_of_another_size_is_refused(tmp_path: Path) -> None:
    root = make_set(tmp_path / "BUSI", {"a": 255})
    Pillow.new("L", (7, 7)).save(root / "Val_Folder" / "label" / "a.png")
    with pytest.raises(DatasetError, match=r"shape \(24, 30\), got \(7, 7\)"):
        read_case(list_cases(root, "val")[0])


def test_real_polyps_are_found_better_than_by_chance(
    real_data: Path, predictor: Predictor
) -> None:
    cases = list_cases(real_data / "Kvasir", "val")[:6]
    results = list(evaluate_steps(cases, "original", predictor, CONFIG))
    assert summarise(results, {})["dsc"]["mean"] > 0.5
