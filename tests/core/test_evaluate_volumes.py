"""Figures of labelled volumes against SciPy and MONAI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics.confusion_matrix import (
    compute_confusion_matrix_metric,
    get_confusion_matrix,
)
from monai.metrics.meandice import compute_dice
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from napari_medvlseg.core import evaluate_volumes as evaluate_module
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import DatasetError
from napari_medvlseg.core.evaluate_volumes import (
    class_figures,
    evaluate_volumes,
    summarise_volumes,
)
from napari_medvlseg.core.io.labels import read_labels
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.volume_sets import volume_cases
from tests.volume_models import GreyNetwork, grey_predictor

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.types import Image

    Mask = npt.NDArray[np.bool_]

SPACING = (1.0, 2.0, 3.5)


def _surface(mask: Mask, spacing: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return where the voxels lie that have a face outside the mask."""
    inner = binary_erosion(mask, generate_binary_structure(3, 1))
    places: npt.NDArray[np.float64] = np.argwhere(mask & ~inner) * np.array(spacing)
    return places


def _blob(shift: int = 0) -> Mask:
    generator = np.random.default_rng(1)
    mask = np.zeros((14, 12, 9), bool)
    mask[2 + shift : 9 + shift, 3:9, 2:7] = True
    flips = generator.random(mask.shape) < 0.05
    return mask ^ (flips & (np.roll(mask, 1, 0) | mask))


@pytest.mark.parametrize("spacing", [SPACING, None])
def test_figures_agree_with_scipy_and_monai(
    spacing: tuple[float, ...] | None,
) -> None:
    mask, reference = _blob(), _blob(2)
    steps = spacing or (1.0, 1.0, 1.0)
    found = class_figures(mask, reference, 1.5, spacing)
    one, other = _surface(mask, steps), _surface(reference, steps)
    distances = cdist(one, other)
    there, back = distances.min(axis=1), distances.min(axis=0)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found.hd95 == pytest.approx(expected, abs=1e-4)
    near = (there <= 1.5).sum() + (back <= 1.5).sum()
    assert found.nsd == pytest.approx(near / (len(one) + len(other)), abs=1e-6)
    assert found.dsc == pytest.approx(
        2 * (mask & reference).sum() / (mask.sum() + reference.sum())
    )
    one_hot, other_hot = (torch.from_numpy(m)[None, None] for m in (mask, reference))
    assert found.dsc == pytest.approx(float(compute_dice(one_hot, other_hot)))
    counted = get_confusion_matrix(one_hot.int(), other_hot.int())
    for kind in ("sensitivity", "specificity"):
        theirs = float(compute_confusion_matrix_metric(kind, counted))
        assert getattr(found, kind) == pytest.approx(theirs)
    theirs = float(compute_confusion_matrix_metric("f1 score", counted))
    assert found.confusion.f1 == pytest.approx(theirs)


def test_nothing_on_both_sides_is_agreement_and_on_one_is_as_far_as_can_be() -> None:
    empty = np.zeros((3, 3, 3), bool)
    both = class_figures(empty, empty, 1.0, None)
    assert (both.dsc, both.nsd, both.hd95) == (1.0, 1.0, 0.0)
    one = class_figures(~empty, empty, 1.0, None)
    assert (one.dsc, one.nsd) == (0.0, 0.0)
    assert one.hd95 == pytest.approx(27**0.5)
    assert (both.sensitivity, both.specificity) == (1.0, 1.0)
    assert (one.sensitivity, one.specificity) == (0.0, 0.0)
    scaled = class_figures(empty, ~empty, 1.0, (2.0, 2.0, 1.0))
    assert scaled.hd95 == pytest.approx(9.0)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Write two volumes whose labels the grey network finds, but for one layer."""
    for index in range(2):
        voxels = np.zeros((10, 9, 8), np.float32)
        label = np.zeros(voxels.shape, np.uint8)
        voxels[1:4], voxels[6:8] = 1.0, -1.0
        label[1 : 4 + index], label[6:8] = 1, 2
        affine = np.diag([-1.0, 1.0, 2.0, 1.0])
        for kind, array in (("images", voxels), ("labels", label)):
            folder = tmp_path / f"{kind}Val"
            folder.mkdir(exist_ok=True)
            picture = nib.Nifti1Image(array, affine)
            picture.header.set_xyzt_units("mm")
            nib.save(picture, folder / f"{index}.nii.gz")
    return tmp_path


def test_each_class_of_each_case_is_measured(volumes: Path) -> None:
    predictor = grey_predictor(GreyNetwork(noise=0.0), patch=(10, 9, 8))
    config = SegmentConfig(num_samples=1)
    results = list(evaluate_volumes(volume_cases(volumes, "val"), predictor, config))
    assert [result.image for result in results] == ["0", "1"]
    assert all(result.units == "mm" for result in results)
    told = summarise_volumes(results, {"set": "blobs"})
    assert (told["n"], told["units"]) == (2, "mm")
    bright, dark = told["classes"]["Bright blob"], told["classes"]["Dark blob"]
    assert dark["dsc"] == {"mean": 1.0, "std": 0.0, "quartiles": [1.0] * 3}
    assert bright["dsc"]["mean"] == pytest.approx((1 + 6 / 7) / 2)  # 3 of 4 layers
    assert bright["hd95"]["mean"] == pytest.approx(0.5)  # 1 mm in one of two cases
    assert told["dsc"]["mean"] == pytest.approx((1 + (1 + 6 / 7) / 2) / 2)
    assert told["cases"][1]["classes"]["Bright blob"]["dsc"] == pytest.approx(6 / 7)
    layer = 9 * 8
    assert bright["sensitivity"]["mean"] == pytest.approx((1 + 3 / 4) / 2)
    assert bright["pooled"]["sensitivity"] == pytest.approx(6 / 7)  # of both cases
    assert bright["pooled"]["f1"] == pytest.approx(2 * 6 / (6 + 7))
    assert told["pooled"]["f1"] == pytest.approx(2 * 10 / (10 + 11))
    assert (bright["specificity"]["mean"], told["absent"], bright["n"]) == (1, 0, 2)
    assert told["cases"][1]["classes"]["Bright blob"]["voxels"] == 3 * layer
    assert told["cases"][1]["classes"]["Bright blob"]["reference_voxels"] == 4 * layer


@pytest.mark.parametrize("exclusive", [True, False])
def test_fewer_samples_are_the_first_of_the_same_draws(
    volumes: Path, *, exclusive: bool
) -> None:
    """In several windows, and in views by turns."""
    predictor = grey_predictor(GreyNetwork(exclusive=exclusive))
    config = SegmentConfig(num_samples=7, flips="R", batch_size=2)
    cases = volume_cases(volumes, "val")[:1]
    found = list(evaluate_volumes(cases, predictor, config, (5, 2)))
    assert [result.samples for result in found] == [2, 5, 7]
    for result in found:
        fewer = SegmentConfig(num_samples=result.samples, flips="R", batch_size=2)
        (alone,) = evaluate_volumes(cases, predictor, fewer)
        for name, figures in alone.classes.items():
            assert result.classes[name] == figures
        assert result.mean_mutual_information == pytest.approx(
            alone.mean_mutual_information, abs=1e-6
        )
    found_information = {result.mean_mutual_information for result in found}
    assert len(found_information) == 3
    told = summarise_volumes(found, {"set": "blobs"})
    assert (told["n"], len(told["cases"])) == (1, 1)
    assert [one["samples"] for one in told["sample_counts"]] == [2, 5, 7]
    last = told["sample_counts"][-1]
    assert last["dsc"] == told["dsc"]
    assert "calibration" not in last["reliability"]
    assert last["reliability"]["brier"] == told["reliability"]["brier"]


def test_draws_that_are_all_alike_have_no_counts(volumes: Path) -> None:
    predictor = grey_predictor(GreyNetwork(noise=0.0))
    config = SegmentConfig(num_samples=2, flips="RA")
    cases = volume_cases(volumes, "val")[:1]
    (result,) = evaluate_volumes(cases, predictor, config, (1,))
    assert result.samples == 4  # once a view


def test_volumes_that_are_kept_are_not_made_again(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: dict[int, Any] = {}

    class Store:
        def load(self, index: int) -> Any:
            return store.get(index)

        def save(self, index: int, results: Any) -> None:
            store[index] = results

    cases, predictor = volume_cases(volumes, "val"), grey_predictor()
    config = SegmentConfig(num_samples=2)
    first = next(evaluate_volumes(cases, predictor, config, (1,), Store()))
    assert (list(store), store[0][0]) == ([0], first)
    read: list[str] = []
    original = read_labels

    def counted(path: Path, image: Image) -> Any:
        read.append(path.name)
        return original(path, image)

    monkeypatch.setattr(evaluate_module, "read_labels", counted)
    results = list(evaluate_volumes(cases, predictor, config, (1,), Store()))
    assert read == [cases[1].label.name]
    assert (results[0], len(results)) == (first, 4)


def test_the_uncertainty_of_a_set_is_compared_with_its_error(volumes: Path) -> None:
    """Against sums over the maps that `segment` gives, with SciPy's correlation."""
    predictor = grey_predictor(patch=(10, 9, 8))
    config = SegmentConfig(num_samples=4)
    cases = volume_cases(volumes, "val")
    told = summarise_volumes(list(evaluate_volumes(cases, predictor, config)), {})
    briers, correlations = [], []
    for case, of_case in zip(cases, told["cases"], strict=True):
        found = segment(case.images[0], "all", predictor, num_samples=4)
        right = read(case.label).voxels
        union = (found.labels > 0) | (right > 0)
        p = np.stack([1 - found.probability.sum(axis=0), *found.probability])
        one_hot = np.stack([right == n for n in range(3)])
        briers.append(np.square(p - one_hot).sum(axis=0)[union].mean() / 2)
        error = 1 - (p * one_hot).sum(axis=0)
        correlations.append(
            spearmanr(error[union], found.mutual_information[0][union]).statistic
        )
        figures = of_case["reliability"]["all"]
        assert figures["brier"] == pytest.approx(briers[-1], abs=1e-6)
        assert of_case["samples"] == 4
    believed = told["reliability"]
    assert believed["brier"]["union"] == pytest.approx(np.mean(briers), abs=1e-6)
    spread = believed["cases"]["brier"]
    assert spread["std"] == pytest.approx(np.std(briers, ddof=1), abs=1e-6)
    assert spread["quartiles"] == pytest.approx(np.quantile(briers, (0.25, 0.5, 0.75)))
    of_information = believed["cases"]["spearman_mutual_information"]["mean"]
    assert of_information == pytest.approx(np.mean(correlations), abs=1e-3)
    assert 0 < believed["mutual_information_share"] < 1
    json.dumps(told, allow_nan=False)


def test_each_class_that_may_overlap_is_a_question_of_its_own(volumes: Path) -> None:
    network = GreyNetwork(exclusive=False)
    predictor = grey_predictor(network, patch=(10, 9, 8))
    cases = volume_cases(volumes, "val")[:1]
    config = SegmentConfig(num_samples=2)
    (result,) = evaluate_volumes(cases, predictor, config)
    assert set(result.reliability) == {"Bright blob", "Dark blob"}
    assert result.overlap == [each.dsc for each in result.classes.values()]
    believed = summarise_volumes([result], {})["reliability"]
    expected = [one.union.brier for one in result.reliability.values() if one.union]
    assert believed["brier"]["union"] == pytest.approx(np.mean(expected))


def test_labels_of_another_grid_are_refused(volumes: Path) -> None:
    other = nib.Nifti1Image(np.zeros((10, 9, 7), np.uint8), np.eye(4))
    nib.save(other, volumes / "labelsVal" / "0.nii.gz")
    cases = volume_cases(volumes, "val")
    with pytest.raises(DatasetError, match="labels on the grid of their image"):
        next(evaluate_volumes(cases, grey_predictor(), SegmentConfig()))


def test_labels_stored_the_other_way_round_are_those_of_the_image(
    volumes: Path,
) -> None:
    cases = volume_cases(volumes, "val")
    predictor = grey_predictor(GreyNetwork(noise=0.0), patch=(10, 9, 8))
    (before, _) = evaluate_volumes(cases, predictor, SegmentConfig(num_samples=1))
    for case in cases:
        label = nib.nifti1.load(case.label)
        turned = label.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        nib.save(turned, case.label)
    (after, _) = evaluate_volumes(cases, predictor, SegmentConfig(num_samples=1))
    assert after.classes == before.classes
    assert before.classes["Dark blob"].dsc == 1.0


def test_distances_are_in_voxels_where_the_spacing_is_unknown(volumes: Path) -> None:
    """Two voxels of 2 mm apart are 2 and not 4, and nothing is resampled."""
    for path in volumes.rglob("*.nii.gz"):
        nifti = nib.nifti1.load(path)
        voxels = np.asarray(nifti.dataobj)
        if path.parent.name == "labelsVal":  # one layer less along the last axis
            voxels = voxels.copy()
            voxels[:, :, 6:] = 0
        lost = nib.Nifti1Image(voxels, np.eye(4))
        lost.header.set_xyzt_units("unknown")
        nib.save(lost, path)
    predictor = grey_predictor(
        GreyNetwork(noise=0.0), patch=(10, 9, 8), spacing_mm=(0.5, 0.5, 0.5)
    )
    cases = volume_cases(volumes, "val")
    results = list(evaluate_volumes(cases, predictor, SegmentConfig(num_samples=1)))
    assert [result.units for result in results] == ["voxels"] * 2
    assert results[0].classes["Dark blob"].hd95 == pytest.approx(2.0)
    told = summarise_volumes(results, {})
    assert told["units"] == "voxels"
    assert told["n"] == 2
