"""Values and their checks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medvlseg.core.config import SegmentConfig, cache_folder, data_folder
from napari_medvlseg.core.errors import GeometryError, ImageError
from napari_medvlseg.core.types import Image, Segmentation


def test_spacing_is_the_length_of_the_affines_columns() -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -2, 0], [3, 0, 0], [0, 0, 0.5]])
    image = Image(np.zeros((2, 3, 4)), affine, units="mm")
    assert image.spacing_mm == (3.0, 2.0, 0.5)
    assert Image(np.zeros((2, 3))).spacing_mm is None


@pytest.mark.parametrize(
    "affine", [np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan)]
)
def test_an_affine_that_is_no_map_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="expected"):
        Image(np.zeros((2, 2)), affine)


def test_colours_must_be_three_or_four() -> None:
    assert Image(np.zeros((5, 6, 3)), rgb=True).spatial_shape == (5, 6)
    with pytest.raises(ImageError, match="colour"):
        Image(np.zeros((5, 6, 2)), rgb=True)


@pytest.mark.parametrize(
    "choice",
    [
        {"num_samples": 0},
        {"num_samples": 101},
        {"threshold": 1.5},
        {"seed": -1},
        {"device": "tpu"},
        {"precision": "int8"},
        {"tiling": "some"},
        {"batch_size": 0},
    ],
)
def test_a_choice_out_of_range_is_refused(choice: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(choice))):
        SegmentConfig(**choice)  # type: ignore[arg-type]


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVLSEG_DATA", "/elsewhere")
    monkeypatch.setenv("MEDVLSEG_CACHE", "/cache")
    assert (str(data_folder()), str(cache_folder())) == ("/elsewhere", "/cache")


def _segmentation(probability: np.ndarray, **fields: object) -> Segmentation:
    maps = probability.astype(np.float32)
    given: dict[str, object] = {
        "prompts": tuple("ab"[: len(maps)]),
        "labels": np.zeros(maps.shape[1:], np.uint8),
        "probability": maps,
        "predictive_entropy": maps,
        "mutual_information": maps,
        "expected_entropy": maps,
        "affine": np.eye(4),
        "threshold": 0.5,
        "min_foreground": 0.1,
        "slice_axis": None,
        "provenance": {},
    }
    return Segmentation(**{**given, **fields})  # type: ignore[arg-type]


def test_overlaps_are_reported_and_both_prompts_are_present() -> None:
    probability = np.zeros((2, 4, 5))
    probability[0, :2] = 0.9
    probability[1, 1:3] = 0.8
    result = _segmentation(probability)
    assert result.present == (True, True)
    assert result.overlap_fraction == pytest.approx(5 / 20)


def test_less_than_the_smallest_foreground_is_absent() -> None:
    probability = np.zeros((1, 4, 5))
    probability[0, 0, 0] = 0.9
    assert _segmentation(probability).present == (False,)
    assert _segmentation(probability, min_foreground=0.05).present == (True,)


@pytest.mark.parametrize("slice_axis", [None, 0, 1, 2])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_prompt_is_present_exactly_where_its_mask_is_not_empty(
    *, slice_axis: int | None, exclusive: bool
) -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(40):
        probability = rng.random((2, 3, 4, 5)) ** 8
        labels = (rng.random((3, 4, 5)) > 0.97).astype(np.uint8)
        result = _segmentation(
            probability, labels=labels, slice_axis=slice_axis, exclusive=exclusive
        )
        assert result.present == tuple(mask.any() for mask in result.masks)
        seen |= set(result.present)
    assert seen == {True, False}


def test_doubt_is_the_entropy_of_a_pixel_that_is_expected_to_belong() -> None:
    probability = np.zeros((2, 4, 5))
    probability[0, :2] = 0.5  # five pixels are expected
    probability[1, 0, 0] = 1.0
    entropy = np.where(probability == 0.5, np.log(2), 0.0).astype(np.float32)
    result = _segmentation(probability, predictive_entropy=entropy, doubtful_from=0.5)
    assert result.doubt == pytest.approx((10 * np.log(2) / 6, 0.0), rel=1e-5)
    assert result.doubtful == (True, False)
    unknown = _segmentation(probability, predictive_entropy=entropy)
    assert unknown.doubtful == (False, False)  # no level is known
