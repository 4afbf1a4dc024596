"""Runs over volumes: going on from kept slices, smoothing, grey values, spacing."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from napari_medvlseg import segment
from napari_medvlseg.core import run
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.io.kept import KeptSlices
from napari_medvlseg.core.pipeline import segment_counts, segment_steps
from napari_medvlseg.core.preprocess.intensity import HINT
from napari_medvlseg.core.provenance import image_digest, run_settings
from napari_medvlseg.core.run import NO_SPACING
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_medvlseg.core.predictor import Predictor
    from napari_medvlseg.core.types import Segmentation

MAPS = (
    *("probability", "predictive_entropy", "mutual_information", "expected_entropy"),
)
PROMPTS = ["polyp", "retinal vessels"]


@pytest.fixture
def scan() -> Image:
    voxels = np.random.default_rng(4).integers(0, 255, (5, 20, 24), dtype=np.uint8)
    return Image(voxels, np.diag([4.0, 1.0, 1.0, 1.0]), units="mm", slice_axis=0)


def with_input(predictor: Predictor, **changes: Any) -> Predictor:
    """Return the model with another card."""
    other = copy.copy(predictor)
    spec = dataclasses.replace(predictor.card.input, **changes)
    other.card = dataclasses.replace(predictor.card, input=spec)
    return other


def count_draws(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    draws: list[int] = []
    draw = predictor.draw

    def counted(pyramid: Any, words: Any, count: int, noise: Any) -> Any:
        draws.append(count)
        return draw(pyramid, words, count, noise)

    monkeypatch.setattr(predictor, "draw", counted)
    return draws


def assert_same(one: Segmentation, other: Segmentation) -> None:
    for name in ("labels", *MAPS):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def kept_in(
    folder: Path, image: Image, predictor: Predictor, config: SegmentConfig
) -> KeptSlices:
    return KeptSlices(folder, "v", run_settings(image, PROMPTS, predictor, config))


@pytest.mark.parametrize("tiling", ["whole", "tile"])
def test_going_on_gives_what_the_uninterrupted_run_gives(
    predictor: Predictor,
    scan: Image,
    tmp_path: Path,
    tiling: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SegmentConfig(num_samples=2, tiling=tiling, smooth_slices=3.0)
    *_, last = segment_steps(scan, PROMPTS, predictor, config)
    whole = last.snapshot()
    kept = kept_in(tmp_path, scan, predictor, config)
    steps = segment_steps(scan, PROMPTS, predictor, config, kept)
    while kept.count < 2:
        next(steps)
    steps.close()  # type: ignore[attr-defined]

    draws = count_draws(predictor, monkeypatch)
    again = kept_in(tmp_path, scan, predictor, config)
    seen = [
        (step.done, step.total, step.snapshot())
        for step in segment_steps(scan, PROMPTS, predictor, config, again)
    ]
    assert sum(draws) == 3 * 2 * 2  # slices, prompts, draws
    assert (seen[0][0], seen[0][1]) == (2 * 4 + 2, 5 * 4)
    assert seen[-1][0] == 5 * 4
    assert_same(seen[-1][2], whole)
    assert seen[-1][2].provenance["resumed_slices"] == 2
    assert again.count == 5


@pytest.mark.parametrize(("slices", "encoded"), [(3, 0), (5, 5)])
def test_features_are_kept_only_of_volumes_that_a_next_prompt_finds_whole(
    predictor: Predictor,
    scan: Image,
    slices: int,
    encoded: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "REMEMBERED_PICTURES", 4)
    predictor.forget()
    image = dataclasses.replace(scan, voxels=scan.voxels[:slices])
    segment(image, PROMPTS[0], predictor, num_samples=1, tiling="whole")
    assert len(predictor._pyramids) == slices - encoded
    seen: list[Any] = []
    encode = predictor.network.encode_image

    def counted(pixels: Any) -> Any:
        seen.append(pixels)
        return encode(pixels)

    monkeypatch.setattr(predictor.network, "encode_image", counted)
    segment(image, PROMPTS[1], predictor, num_samples=1, tiling="whole")
    assert len(seen) == encoded


def test_a_run_that_only_was_not_written_is_there_at_once(
    predictor: Predictor,
    scan: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SegmentConfig(num_samples=1, smooth_slices=3.0)
    kept = kept_in(tmp_path, scan, predictor, config)
    *_, last = segment_steps(scan, PROMPTS, predictor, config, kept)
    whole = last.snapshot()
    draws = count_draws(predictor, monkeypatch)
    (step,) = segment_steps(scan, PROMPTS, predictor, config, kept)
    assert step.done == step.total == 5
    assert_same(step.snapshot(), whole)
    other = dataclasses.replace(config, threshold=0.2, smooth_slices=0.0)
    (step,) = segment_steps(scan, PROMPTS, predictor, other, kept)
    plain = segment(scan, PROMPTS, predictor, num_samples=1, threshold=0.2)
    assert sum(draws) == 5 * 2  # of the plain run alone
    assert_same(step.snapshot(), plain)


def test_what_a_slice_depends_on_is_in_the_settings(
    predictor: Predictor, scan: Image
) -> None:
    config = SegmentConfig(num_samples=2)
    ours = run_settings(scan, PROMPTS, predictor, config)
    changes: list[dict[str, Any]] = [
        {"num_samples": 3},
        {"seed": 1},
        {"tiling": "tile"},
        {"intensity": "percentile"},
        {"axis": 1},
    ]
    for change in changes:
        other = dataclasses.replace(config, **change)
        assert run_settings(scan, PROMPTS, predictor, other) != ours, change
    same = dataclasses.replace(config, threshold=0.1, smooth_slices=9.0)
    assert run_settings(scan, PROMPTS, predictor, same) == ours
    assert run_settings(scan, PROMPTS[::-1], predictor, config) != ours
    louder = copy.copy(predictor)  # the same weights, other factors of the noise
    network = {**predictor.card.network, "config": {"words_noise": [1.0, 1.0, 9.0]}}
    louder.card = dataclasses.replace(predictor.card, network=network)
    theirs = run_settings(scan, PROMPTS, louder, config)
    assert [k for k in ours if ours[k] != theirs[k]] == ["network_sha256"]


def test_another_voxel_or_place_is_another_image(scan: Image) -> None:
    changed = scan.voxels.copy()
    changed[4, 19, 23] ^= 1
    moved = scan.affine.copy()
    moved[0, 3] = 1
    others = [
        dataclasses.replace(scan, voxels=changed),
        dataclasses.replace(scan, affine=moved),
        dataclasses.replace(scan, slice_axis=1),
        dataclasses.replace(scan, voxels=scan.voxels.reshape(5, 24, 20)),
    ]
    digests = {image_digest(image) for image in (scan, *others)}
    assert len(digests) == 5
    order = dataclasses.replace(scan, voxels=np.asfortranarray(scan.voxels))
    assert image_digest(order) == image_digest(scan)


def test_slices_stream_in_as_they_are_and_the_last_step_is_smoothed(
    predictor: Predictor, scan: Image
) -> None:
    plain = segment(scan, PROMPTS, predictor, num_samples=1)
    config = SegmentConfig(num_samples=1, smooth_slices=6.0)
    seen: list[tuple[int, npt.NDArray[np.float32]]] = []
    for step in segment_steps(scan, PROMPTS, predictor, config):
        found = step.snapshot()
        seen.append((step.done, found.probability.copy()))
    assert [done for done, _ in seen] == [2, 4, 6, 8, 10]
    (_, first), (_, last) = seen[0], seen[-1]
    np.testing.assert_array_equal(first[:, 0], plain.probability[:, 0])
    expected = gaussian_filter1d(plain.probability, 6.0 / 4.0, axis=1)
    np.testing.assert_allclose(last, expected, atol=1e-6)
    again = step.snapshot()
    assert again.provenance["smoothing"] == {"sigma": 6.0, "unit": "mm"}
    np.testing.assert_array_equal(again.probability, last)
    assert plain.provenance["smoothing"] is None


def test_without_a_spacing_the_smoothing_counts_slices(
    predictor: Predictor, scan: Image
) -> None:
    stack = scan.voxels
    plain = segment(stack, "polyp", predictor, num_samples=1)
    smooth = segment(stack, "polyp", predictor, num_samples=1, smooth_slices=1.5)
    expected = gaussian_filter1d(plain.probability, 1.5, axis=1)
    np.testing.assert_allclose(smooth.probability, expected, atol=1e-6)
    assert smooth.provenance["smoothing"] == {"sigma": 1.5, "unit": "slices"}
    choices: dict[str, Any] = {"num_samples": 1, "smooth_slices": 1.5, "slice_index": 2}
    one = segment(stack, "polyp", predictor, **choices)
    np.testing.assert_array_equal(one.probability[:, 2], plain.probability[:, 2])
    assert one.provenance["smoothing"] is None


def test_a_window_shows_the_network_the_same_as_a_picture_made_with_it(
    predictor: Predictor,
) -> None:
    hounsfield = np.random.default_rng(0).integers(-1000, 2000, (64, 64)).astype("i2")
    bytes_ = np.clip((hounsfield - 0) / 80 * 255, 0, 255)
    shown = np.round(bytes_).astype(np.uint8)
    by_window = segment(
        hounsfield, "polyp", predictor, num_samples=1, intensity="brain"
    )
    by_hand = segment(shown, "polyp", predictor, num_samples=1)
    np.testing.assert_allclose(by_window.probability, by_hand.probability, atol=0.01)
    told = by_window.provenance["intensity"]
    assert told == {"choice": "brain", "from": "user", "black": 0.0, "white": 80.0}
    by_card = segment(
        hounsfield, "polyp", with_input(predictor, intensity="L40W80"), num_samples=1
    )
    np.testing.assert_array_equal(by_card.probability, by_window.probability)
    assert by_card.provenance["intensity"]["from"] == "card"
    plain = segment(hounsfield, "polyp", predictor, num_samples=1)
    assert plain.provenance["hints"] == [HINT]
    assert by_window.provenance["hints"] == []


def test_what_a_prompt_names_decides_how_small_it_may_be(
    predictor: Predictor, scan: Image
) -> None:
    polyp, vessels = predictor.card.concepts
    none_is_enough = dataclasses.replace(polyp, min_foreground=1.1)
    other = copy.copy(predictor)
    other.card = dataclasses.replace(predictor.card, concepts=(none_is_enough, vessels))
    settings = {"num_samples": 1, "threshold": 0.01}
    assert segment(scan, "retinal vessels", other, **settings).present == (True,)
    result = segment(scan, "polyp", other, **settings)
    assert result.present == (False,)
    assert result.min_foreground == 1.1


def test_pictures_at_the_model_s_spacing_are_what_they_were(
    predictor: Predictor, scan: Image
) -> None:
    asks = with_input(predictor, spacing_mm=(1.0, 1.0))
    result = segment(scan, "polyp", asks, num_samples=1)
    tiled = segment(scan, "polyp", predictor, num_samples=1, tiling="tile")
    assert_same(result, tiled)
    assert result.provenance["pixel_mm"] == [1.0, 1.0]
    whole = segment(scan, "polyp", asks, num_samples=1, tiling="whole")
    assert_same(whole, segment(scan, "polyp", predictor, num_samples=1))
    assert whole.provenance["pixel_mm"] is None


def test_the_model_sees_pixels_of_its_own_size(predictor: Predictor) -> None:
    fine = np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)
    coarse = Image(fine, np.diag([2.0, 2.0, 1.0, 1.0]), units="mm")
    asks = with_input(predictor, spacing_mm=[1.0, 1.0])
    result = segment(coarse, "polyp", asks, num_samples=1)
    assert result.labels.shape == (30, 40)
    assert result.provenance["pixel_mm"] == [1.0, 1.0]
    plain = segment(coarse, "polyp", predictor, num_samples=1, tiling="tile")
    assert np.abs(result.probability - plain.probability).max() > 1e-3
    unknown = segment(fine, "polyp", asks, num_samples=1)
    assert unknown.provenance["hints"] == [NO_SPACING]
    assert unknown.provenance["pixel_mm"] is None


@pytest.mark.parametrize(("axes", "flips"), [((1, 2, 0), (-1, 1, -1))])
def test_a_volume_at_the_model_s_spacing_is_the_same_in_another_order(
    predictor: Predictor,
    tmp_path: Path,
    axes: tuple[int, ...],
    flips: tuple[int, ...],
) -> None:
    voxels = np.random.default_rng(7).random((24, 20, 3)).astype(np.float32)
    affine = np.diag([1.0, 1.5, 4.0, 1.0])
    asks = with_input(predictor, spacing_mm=[1.5, 1.5, 3.0])
    plain = Image(voxels, affine, units="mm", slice_axis=2)
    choices: dict[str, Any] = {"num_samples": 1, "smooth_slices": 2.0}
    one = segment(plain, "polyp", asks, **choices)
    assert one.provenance["voxel_mm"] == [1.5, 1.5, 3.0]
    assert (one.slice_axis, one.provenance["axis"]) == (2, 2)

    order = np.array(list(zip(axes, flips, strict=True)))
    other = nib.Nifti1Image(voxels, affine).as_reoriented(order)
    walk = axes[2]
    turned = Image(np.asarray(other.dataobj), other.affine, units="mm", slice_axis=walk)
    config = SegmentConfig(**choices)
    kept = KeptSlices(tmp_path, "v", run_settings(turned, ["polyp"], asks, config))
    *_, last = segment_steps(turned, ["polyp"], asks, config, kept)
    two = last.snapshot()
    assert kept.count == 4  # slices of 3 mm in 12 mm
    assert two.slice_axis == walk
    np.testing.assert_allclose(two.affine, other.affine)
    for name in MAPS:
        there = nib.Nifti1Image(getattr(one, name)[0], affine).as_reoriented(order)
        np.testing.assert_allclose(
            getattr(two, name)[0], np.asarray(there.dataobj), atol=1e-5
        )
    total = two.predictive_entropy
    np.testing.assert_allclose(
        two.mutual_information, (total - two.expected_entropy).clip(0), atol=1e-6
    )


def test_one_slice_of_a_volume_is_resampled_within_itself(
    predictor: Predictor,
) -> None:
    voxels: npt.NDArray[np.float32] = np.random.default_rng(8).random((24, 20, 3), "f4")
    image = Image(voxels, np.diag([2.0, 1, 4, 1]), units="mm", slice_axis=2)
    asks = with_input(predictor, spacing_mm=[1.0, 0.5, 3.0])
    result = segment(image, "polyp", asks, num_samples=1, slice_index=1)
    assert result.provenance["pixel_mm"] == [0.5, 1.0]  # rows are A, columns R
    assert result.probability[0, :, :, 1].any()
    assert not result.probability[0, :, :, [0, 2]].any()


@pytest.mark.parametrize("tiling", ["whole", "tile"])
@pytest.mark.parametrize("mirror", [False, True])
def test_one_run_tells_what_its_first_draws_alone_would_give(
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tiling: str,
    mirror: bool,
) -> None:
    model = with_input(predictor, mirror=mirror)
    pixels = np.random.default_rng(5).integers(0, 255, (70, 66, 3), dtype=np.uint8)
    image, prompts = Image(pixels, rgb=True), ["polyp", "skin lesion"]
    config = SegmentConfig(num_samples=7, tiling=tiling)
    drawn = count_draws(model, monkeypatch)
    found = dict(segment_counts(image, prompts, model, config, (2, 5, 7)))
    windows = 1 if tiling == "whole" else 4
    assert sum(drawn) == 7 * 2 * windows
    for count, prefix in found.items():
        alone = segment(
            image, prompts, model, num_samples=count, tiling=tiling, batch_size=1
        )
        for name in MAPS:
            np.testing.assert_allclose(
                getattr(prefix, name), getattr(alone, name), atol=2e-5
            )
    assert not np.allclose(found[2].probability, found[7].probability, atol=1e-4)


def test_a_run_that_stopped_early_gives_its_result_for_every_count(
    predictor: Predictor,
) -> None:
    image = Image(np.zeros((64, 64, 3), np.uint8), rgb=True)
    config = SegmentConfig(num_samples=12, tolerance=1.0)
    found = dict(segment_counts(image, ["polyp"], predictor, config, (6, 12)))
    assert found[12].provenance["samples_drawn"] == [5]
    np.testing.assert_array_equal(found[6].probability, found[12].probability)


def test_a_volume_has_no_sample_counts_with_a_model_of_pictures(
    predictor: Predictor, scan: Image
) -> None:
    with pytest.raises(ImageError, match="expected a picture for several counts"):
        next(segment_counts(scan, ["polyp"], predictor, SegmentConfig(), (5,)))
