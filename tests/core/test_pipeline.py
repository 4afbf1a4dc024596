"""From an image and prompts to a segmentation."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from napari_medvlseg import segment
from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    PromptError,
)
from napari_medvlseg.core.pipeline import segment_steps
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.models.promptable import ImageFeatures

MAPS = (
    *("probability", "predictive_entropy", "mutual_information", "expected_entropy"),
)


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_maps_agree_with_draws_that_are_stacked(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    result = segment(picture, "polyp", predictor, num_samples=5, seed=3)
    pyramid = predictor.pyramid(to_network_range(picture).contiguous())
    draws = torch.cat(
        [
            predictor.draw(
                pyramid, predictor.words("polyp"), 1, DrawNoise(3, [draw], Place())
            )
            for draw in range(5)
        ]
    )
    stacked = draws.double().sigmoid().numpy()
    mean = stacked.mean(axis=0)
    total = entropy(np.stack([mean, 1 - mean]))
    expected = entropy(np.stack([stacked, 1 - stacked])).mean(axis=0)
    np.testing.assert_allclose(result.probability[0], mean, atol=1e-5)
    np.testing.assert_allclose(result.predictive_entropy[0], total, atol=1e-5)
    np.testing.assert_allclose(result.expected_entropy[0], expected, atol=1e-5)
    np.testing.assert_allclose(
        result.mutual_information[0], (total - expected).clip(0), atol=2e-5
    )
    np.testing.assert_array_equal(result.labels, result.probability[0] > 0.5)


def test_the_seed_decides_and_the_batch_size_does_not(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    first = segment(picture, "polyp", predictor, num_samples=6, batch_size=1)
    same = segment(picture, "polyp", predictor, num_samples=6, batch_size=4)
    other = segment(picture, "polyp", predictor, num_samples=6, seed=1)
    for name in MAPS:
        a, b = getattr(first, name), getattr(same, name)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(first.probability - other.probability).max() > 1e-4


def test_other_prompts_change_nothing(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    alone = segment(picture, "polyp", predictor, num_samples=3)
    several = segment(picture, ["a nevus", "polyp"], predictor, num_samples=3)
    np.testing.assert_allclose(alone.probability[0], several.probability[1], atol=1e-5)
    assert several.probability.shape == (2, 64, 64)


def test_it_agrees_with_the_plain_loop(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    config = SegmentConfig(num_samples=4, seed=9)
    result = segment(picture, "polyp", predictor, num_samples=4, seed=9)
    probability, expected = naive_loop(
        predictor, Image(picture, rgb=True), "polyp", config
    )
    np.testing.assert_allclose(result.probability[0], probability, atol=1e-5)
    np.testing.assert_allclose(result.expected_entropy[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "voxels",
    [
        pytest.param(np.zeros((8, 8), np.uint8), id="tiny"),
        pytest.param(np.zeros((40, 70), np.uint16), id="constant"),
        pytest.param(np.arange(63 * 65, dtype=np.int16).reshape(63, 65), id="int16"),
        pytest.param(np.full((30, 30), np.nan) + np.eye(30), id="some-nan"),
        pytest.param(np.ones((20, 30, 3), np.uint8), id="rgb"),
        pytest.param(np.ones((20, 30, 4), np.uint8), id="rgba"),
        pytest.param(np.ones((20, 30, 3), np.float64), id="float-rgb"),
        pytest.param(np.zeros((1, 300), bool), id="a-line"),
    ],
)
def test_any_picture_gives_maps_on_its_own_grid(
    predictor: Predictor, voxels: npt.NDArray[Any]
) -> None:
    if voxels.dtype.kind == "f" and voxels.ndim == 2:
        voxels[np.isnan(voxels)] = np.nan
        voxels[0, 1] = 3.0
    result = segment(voxels, "polyp", predictor, num_samples=2)
    assert result.labels.shape == voxels.shape[:2]
    for name in MAPS:
        values = getattr(result, name)
        assert values.shape == (1, *voxels.shape[:2])
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        limit = 1.0 if name == "probability" else math.log(2)
        assert values.min() >= 0
        assert values.max() <= limit + 1e-6


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (np.full((9, 9), np.nan), "finite"),
        (np.zeros((0, 5)), "empty"),
        (np.zeros(5), "2 or 3 spatial axes"),
        (np.zeros((2, 2, 2, 2)), "2 or 3 spatial axes"),
        (np.zeros((4, 4), complex), "dtype"),
    ],
)
def test_what_is_no_image_is_refused(
    predictor: Predictor, voxels: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        segment(voxels, "polyp", predictor)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("polyp " * 2000, "at most 2000 characters"),
        ("a b " * 400, "word pieces"),
        ("息肉", "English"),
        ("полип", "English"),
        ("poly\x00p", "control"),
        ([], "at least one prompt"),
        (["polyp", ""], "empty"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused(
    predictor: Predictor,
    picture: npt.NDArray[np.uint8],
    prompt: str | list[str],
    message: str,
) -> None:
    with pytest.raises(PromptError, match=message):
        segment(picture, prompt, predictor)


def test_a_preview_comes_after_the_first_draw(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    config = SegmentConfig(num_samples=9, batch_size=4)
    steps = segment_steps(Image(picture, rgb=True), ["polyp"], predictor, config)
    previews = [(step.done, step.total, step.snapshot()) for step in steps]
    assert [(done, total) for done, total, _ in previews] == [(1, 9), (5, 9), (9, 9)]
    first, last = previews[0][2], previews[-1][2]
    assert (first.mutual_information < 1e-5).all()  # one draw cannot disagree
    assert np.abs(first.probability - last.probability).max() > 1e-6


def test_a_preview_is_not_changed_by_what_follows(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    config = SegmentConfig(num_samples=5)
    steps = segment_steps(Image(picture, rgb=True), ["polyp"], predictor, config)
    preview = next(steps).snapshot()
    before = preview.probability.copy()
    for step in steps:
        step.snapshot()
    np.testing.assert_array_equal(preview.probability, before)


def test_every_slice_of_a_volume_is_segmented_by_itself(predictor: Predictor) -> None:
    volume = np.random.default_rng(1).integers(0, 255, (3, 20, 24), dtype=np.uint8)
    result = segment(volume, "polyp", predictor, num_samples=2)
    assert result.labels.shape == volume.shape
    one = segment(volume, "polyp", predictor, num_samples=2, slice_index=1)
    np.testing.assert_allclose(
        one.probability[0, 1], result.probability[0, 1], atol=1e-5
    )
    assert (one.probability[0, [0, 2]] == 0).all()
    across = segment(volume, "polyp", predictor, num_samples=2, axis=2, slice_index=5)
    assert across.probability[0, :, :, 5].any()
    assert not across.probability[0, :, :, 4].any()


def test_the_orientation_of_a_volume_does_not_change_its_result(
    predictor: Predictor,
) -> None:
    voxels = np.random.default_rng(2).random((20, 24, 2)).astype(np.float32)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    plain = segment(
        Image(voxels, affine, units="mm", slice_axis=2),
        "polyp",
        predictor,
        num_samples=2,
    )
    turned = segment(
        Image(
            voxels[::-1].transpose(1, 0, 2),
            np.array([[0, 1, 0, -19], [-1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]),
            units="mm",
            slice_axis=2,
        ),
        "polyp",
        predictor,
        num_samples=2,
    )
    back = turned.probability[0].transpose(1, 0, 2)[::-1]
    np.testing.assert_allclose(back, plain.probability[0], atol=1e-5)


def test_large_pictures_are_tiled_where_the_card_or_the_user_says(
    predictor: Predictor,
) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (100, 150), dtype=np.uint8)
    choices = {"num_samples": 2}
    by_card = segment(picture, "retinal vessels", predictor, **choices)
    by_user = segment(picture, "polyp", predictor, **choices, tiling="tile")
    whole = segment(picture, "retinal vessels", predictor, **choices, tiling="whole")
    assert by_card.provenance["tiled"] == [True]
    assert by_user.provenance["tiled"] == [True]
    assert whole.provenance["tiled"] == [False]
    assert segment(picture[:70, :70], "vessels", predictor, **choices).provenance[
        "tiled"
    ] == [False]


def test_a_single_tile_is_the_picture_at_full_resolution(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    tiled = segment(picture, "polyp", predictor, num_samples=3, tiling="tile")
    whole = segment(picture, "polyp", predictor, num_samples=3, tiling="whole")
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=1e-5)
    np.testing.assert_allclose(
        tiled.expected_entropy, whole.expected_entropy, atol=1e-5
    )


def test_tiles_count_as_progress(predictor: Predictor) -> None:
    picture = np.zeros((64, 150), np.uint8)
    config = SegmentConfig(num_samples=3, tiling="tile")
    steps = list(segment_steps(Image(picture), ["polyp"], predictor, config))
    assert steps[-1].done == steps[-1].total == 3 * 3
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_a_second_prompt_reuses_the_pictures_features(
    predictor: Predictor,
    picture: npt.NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor.forget()
    calls = []
    encode = predictor.network.encode_image

    def counted(pixels: torch.Tensor) -> ImageFeatures:
        calls.append(1)
        return encode(pixels)

    monkeypatch.setattr(predictor.network, "encode_image", counted)
    segment(picture, "polyp", predictor, num_samples=1)
    segment(picture, "nevus", predictor, num_samples=1)
    assert len(calls) == 1
    segment(picture[::-1], "nevus", predictor, num_samples=1)
    assert len(calls) == 2


def test_memory_does_not_grow_with_the_samples(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    peaks = []
    for samples in (2, 40):
        tracemalloc.start()
        segment(picture, "polyp", predictor, num_samples=samples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 + 1e5


def test_provenance_tells_how_to_make_it_again(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    result = segment(picture, "  polyp ", predictor, num_samples=2, seed=5)
    said = result.provenance
    assert said["model"] == "random"
    assert said["weights_sha256"] == predictor.card.sha256
    assert said["prompts"] == ["polyp"]
    assert (said["num_samples"], said["seed"]) == (2, 5)
    assert said["versions"]["torch"] == torch.__version__
    again = segment(
        picture,
        said["prompts"],
        predictor,
        num_samples=said["num_samples"],
        seed=said["seed"],
    )
    np.testing.assert_array_equal(result.probability, again.probability)


def test_a_segmentation_is_frozen(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    result = segment(picture, "polyp", predictor, num_samples=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.threshold = 0.1  # type: ignore[misc]


def test_half_precision_agrees(
    random_bundle: Any, picture: npt.NDArray[np.uint8]
) -> None:
    full = Predictor.load(str(random_bundle), precision="float32")
    half = Predictor.load(str(random_bundle), precision="bfloat16")
    results = [segment(picture, "polyp", p, num_samples=4) for p in (full, half)]
    difference = np.abs(results[0].probability - results[1].probability)
    assert difference.max() < 0.02
    assert results[1].provenance["precision"] == "bfloat16"


def test_an_absent_model_or_device_is_refused(picture: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        segment(picture, "polyp", "nothing")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cpu"):
            segment(picture, "polyp", "compact", device="cuda")


def test_cancelling_leaves_the_predictor_usable(
    predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    config = SegmentConfig(num_samples=20)
    steps = segment_steps(Image(picture, rgb=True), ["polyp"], predictor, config)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    again = segment(picture, "polyp", predictor, num_samples=2)
    assert again.probability.any()
