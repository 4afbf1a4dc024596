"""A 3D model on a volume: windows, draws, the image's own grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from scipy.special import softmax

from napari_medvlseg.core.class_texts import ClassSheet, ClassText
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import (
    ImageError,
    PromptError,
    UnsupportedFormatError,
)
from napari_medvlseg.core.io.class_sheet import class_sheet_text
from napari_medvlseg.core.io.kept import KeptSlices
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.pipeline import segment, segment_steps
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.types import Image, Segmentation
from tests.volume_models import SPEC, GreyNetwork, grey_predictor

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (11, 14, 9)


def _volume(affine: Any = None, units: str = "mm") -> Image:
    voxels = np.random.default_rng(0).normal(0, 0.7, SHAPE).astype(np.float32)
    affine = np.diag([-1.0, 2.0, 3.0, 1.0]) if affine is None else affine
    return Image(voxels, affine, units=units, slice_axis=2, name="volume")


def _direct(image: Image, draws: int) -> Any:
    """Return the probability of each draw, (S, C, *SHAPE), of one window over all."""
    grey = ((image.voxels + 1) / 2).clip(0, 1)
    noise = DrawNoise(0, range(draws), Place(0, 0))((draws, 1, 1, 1)).numpy()
    steep = 8 * (grey - 0.5)[None] + 0 * noise
    logits = np.stack([np.ones_like(steep), steep + noise, -steep + noise], axis=1)
    return softmax(logits.astype(np.float64), axis=1)


def _same(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
    for name in ("predictive_entropy", "mutual_information", "expected_entropy"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)


def test_streamed_maps_are_those_of_all_draws_at_once() -> None:
    """In nats: H[mean p], mean H[p], and their difference, over the three classes."""
    image = _volume()
    found = segment(image, "all", grey_predictor(patch=(11, 14, 9)), num_samples=7)
    each = _direct(image, 7)
    mean = each.mean(axis=0)
    expected = -(each * np.log(each)).sum(axis=1).mean(axis=0)
    total = -(mean * np.log(mean)).sum(axis=0)
    np.testing.assert_allclose(found.probability, mean[1:], atol=1e-5)
    np.testing.assert_allclose(found.predictive_entropy[0], total, atol=1e-5)
    np.testing.assert_allclose(found.expected_entropy[0], expected, atol=1e-5)
    np.testing.assert_allclose(found.mutual_information[0], total - expected, atol=1e-5)
    np.testing.assert_array_equal(found.labels, mean.argmax(axis=0))
    assert found.predictive_entropy.shape == (1, *SHAPE)
    assert found.predictive_entropy.max() <= np.log(3)
    assert found.exclusive
    assert found.overlap_fraction == 0


def test_windows_are_blended_as_monai_blends_them() -> None:
    """Each window's draws have a noise of their own; here there is none."""
    network = GreyNetwork(noise=0.0)
    image = _volume(np.eye(4))
    found = segment(image, "all", grey_predictor(network), num_samples=3)

    def probability(window: torch.Tensor) -> torch.Tensor:
        logits = network.draw(window, len(window), zero_noise)
        return logits.softmax(dim=1)

    grey = torch.from_numpy(((image.voxels + 1) / 2).clip(0, 1))[None, None]
    blended: Any = sliding_window_inference(
        grey, SPEC.patch, 1, probability, overlap=0.5, mode="gaussian"
    )
    np.testing.assert_allclose(found.probability, blended[0, 1:], atol=1e-6)
    assert found.provenance["num_samples"] == 1  # further draws would be the same
    assert found.provenance["windows"] > 4
    assert float(found.mutual_information.max()) < 1e-5


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_the_result_lies_on_the_images_own_grid(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """The same world in another order of voxels gives the same answer, turned."""
    image = _volume(np.eye(4))
    turned = np.flip(
        image.voxels.transpose(order),
        tuple(axis for axis, sign in enumerate(signs) if sign < 0),
    )
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * signs
    straight = segment(image, "all", grey_predictor(), num_samples=3)
    other = segment(
        replace(image, voxels=turned, affine=affine),
        "all",
        grey_predictor(),
        num_samples=3,
    )
    back = np.flip(
        other.labels, tuple(axis for axis, sign in enumerate(signs) if sign < 0)
    ).transpose(np.argsort(order))
    np.testing.assert_array_equal(back, straight.labels)


class _LeaningNetwork(GreyNetwork):
    """Believes more in what lies at higher indices: flips do not leave it alone."""

    def draw(self, seen: torch.Tensor, draws: int, noise: Any) -> torch.Tensor:
        logits = super().draw(seen, draws, noise)
        for axis in (2, 3, 4):
            ramp = torch.linspace(-1, axis, logits.shape[axis])
            logits = logits + ramp.reshape(-1, *[1] * (4 - axis)) * (
                torch.tensor([0.0, 1.0, -1.0]).reshape(-1, 1, 1, 1)
            )
        return logits


def test_flips_are_undone_and_averaged() -> None:
    """A network whose draws are alike is asked once a view, and the views differ."""
    network = _LeaningNetwork(noise=0.0)
    image = _volume(np.eye(4))
    predictor = grey_predictor(network, patch=SHAPE)
    found = segment(image, "all", predictor, num_samples=30, flips="RS")
    grey = torch.from_numpy(((image.voxels + 1) / 2).clip(0, 1))[None, None]
    views = []
    for axes in ((), (2,), (4,), (2, 4)):
        logits = network.draw(grey.flip(axes), 1, zero_noise).flip(axes)
        views.append(logits.softmax(dim=1)[0])
    mean = torch.stack(views).mean(dim=0)
    np.testing.assert_allclose(found.probability, mean[1:], atol=1e-6)
    expected = [-(p * p.log()).sum(dim=0) for p in views]
    np.testing.assert_allclose(
        found.expected_entropy[0], torch.stack(expected).mean(dim=0), atol=1e-5
    )
    assert found.provenance["num_samples"] == 4
    assert found.provenance["flips"] == "RS"
    assert float(found.mutual_information.max()) > 0.01


def test_a_model_may_say_how_its_draws_are_flipped() -> None:
    image, network = _volume(np.eye(4)), _LeaningNetwork()
    plain = grey_predictor(network, patch=SHAPE)
    turned = grey_predictor(network, patch=SHAPE, flips="R")
    own = segment(image, "all", turned, num_samples=4)
    assert own.provenance["flips"] == "R"
    _same(own, segment(image, "all", plain, num_samples=4, flips="R"))
    off = segment(image, "all", turned, num_samples=4, flips="none")
    _same(off, segment(image, "all", plain, num_samples=4))
    assert float(np.abs(own.probability - off.probability).max()) > 0.01


def test_draws_see_the_flips_by_turns() -> None:
    """Each keeps the noise of its number; a batch more or less changes nothing."""
    image, predictor = _volume(), grey_predictor()
    plain = segment(image, "all", predictor, num_samples=6)
    _same(plain, segment(image, "all", predictor, num_samples=6, flips="AS"))
    steps = list(
        segment_steps(
            image,
            ["all"],
            predictor,
            SegmentConfig(num_samples=6, flips="AS", batch_size=1),
        )
    )
    assert steps[-1].done == steps[-1].total
    _same(plain, steps[-1].snapshot())


class _MeanNetwork(GreyNetwork):
    """Looks at the mean of the channels."""

    def look(self, window: torch.Tensor, _words: Any) -> torch.Tensor:
        return window.mean(dim=1, keepdim=True)


def test_a_model_of_several_channels_sees_them_all() -> None:
    image, predictor = _volume(), grey_predictor(_MeanNetwork(), channels=2)
    lower = (image.voxels - 0.5).clip(-1, 1)
    upper = (image.voxels + 0.5).clip(-1, 1)
    both = replace(image, voxels=lower, channels=(upper,))
    mean = replace(image, voxels=(lower + upper) / 2)
    found = segment(both, "all", predictor, num_samples=2)
    _same(found, segment(mean, "all", grey_predictor(), num_samples=2))
    with pytest.raises(ImageError, match="volume of 2 channels for grey, got 1"):
        segment(image, "all", predictor)
    with pytest.raises(ImageError, match="volume of 1 channels for grey, got 2"):
        segment(both, "all", grey_predictor())


def test_another_spacing_is_undone(phantom: Image) -> None:
    predictor = grey_predictor(spacing_mm=(0.5, 0.5, 2.5), window=(0.0, 1.0))
    found = segment(phantom, "bright blob", predictor, num_samples=2)
    assert found.labels.shape == phantom.spatial_shape
    assert found.provenance["voxel_mm"][0] == pytest.approx(0.5, abs=0.05)
    bright = phantom.voxels > 0.65
    assert (found.labels[bright] == 1).mean() > 0.9
    assert (found.labels[~bright] == 1).mean() < 0.05
    lost = segment(replace(phantom, units="pixel"), "all", predictor, num_samples=1)
    assert "does not tell" in lost.provenance["hints"][0]


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 5}])
def test_the_size_of_a_batch_changes_nothing(changes: dict[str, int]) -> None:
    image = _volume()
    whole = segment(image, "all", grey_predictor(), num_samples=5, batch_size=2)
    _same(whole, segment(image, "all", grey_predictor(), num_samples=5, **changes))


def test_a_subset_is_the_whole_without_the_rest() -> None:
    image = _volume()
    whole = segment(image, "all", grey_predictor(), num_samples=2)
    dark = segment(image, "Dark blob", grey_predictor(), num_samples=2)
    assert dark.prompts == ("Dark blob",)
    assert dark.colors == ("#00ff00",)
    np.testing.assert_array_equal(dark.labels == 1, whole.labels == 2)
    np.testing.assert_array_equal(dark.probability[0], whole.probability[1])
    np.testing.assert_array_equal(dark.predictive_entropy, whole.predictive_entropy)
    both = segment(image, "dark blob; bright blob", grey_predictor(), num_samples=2)
    assert both.prompts == ("Dark blob", "Bright blob")
    np.testing.assert_array_equal(both.labels == 2, whole.labels == 1)


def test_overlapping_classes_are_questions_of_their_own() -> None:
    network = GreyNetwork(exclusive=False, noise=0.0)
    image = _volume(np.eye(4))
    found = segment(image, "all", grey_predictor(network), num_samples=1, threshold=0.2)
    grey = ((image.voxels + 1) / 2).clip(0, 1)
    p = 1 / (1 + np.exp(-8 * (grey - 0.5)))
    np.testing.assert_allclose(found.probability, [p, 1 - p], atol=1e-5)
    assert not found.exclusive
    assert found.overlap_fraction > 0
    assert found.predictive_entropy.shape == found.probability.shape


def test_a_sentence_is_a_question_and_several_give_a_multi_label_map() -> None:
    network = GreyNetwork(exclusive=False, noise=0.0)
    predictor = grey_predictor(network, picture="brain MRI")
    image = _volume(np.eye(4))
    names = segment(image, "all", predictor, num_samples=1)
    text = "the dark blob in a brain MRI; Bright blob in an MR image"
    found = segment(image, text, predictor, num_samples=1)
    assert network.texts == (
        "the dark blob in a brain MRI",
        "Bright blob in an MR image",
    )
    assert found.prompts == tuple(network.texts)
    assert found.provenance["hints"] == []
    np.testing.assert_array_equal(found.probability, names.probability[::-1])
    both = found.probability.max(axis=0) > 0.5
    expected = np.where(both, found.probability.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(found.labels, expected)
    strange = segment(image, "the left dark blob", predictor, num_samples=1)
    assert "not taught 'left'" in strange.provenance["hints"][0]
    with pytest.raises(PromptError, match="got 'kidney'"):
        segment(image, "bright blob; kidney", predictor)
    sheet = ClassSheet((ClassText(title="The bright blob"), ClassText(title="Liver")))
    texts = class_sheet_text(sheet)
    reworded = segment(image, "all", predictor, num_samples=1, class_texts=texts)
    assert network.texts == ("The bright blob", "Liver")
    (hint,) = reworded.provenance["hints"]
    assert "'Dark blob' was asked for as 'Liver'" in hint


@pytest.mark.parametrize("affine", [np.diag([-1.0, 2.0, 3.0, 1.0]), np.eye(4)])
def test_a_volume_is_resized_as_a_whole_in_the_order_of_the_training(
    affine: Any,
) -> None:
    """Twice as fine along each axis: what comes back is the native grid's own."""
    network = GreyNetwork(exclusive=False, noise=0.0)
    image = _volume(affine)
    predictor = grey_predictor(
        network,
        patch=(2 * SHAPE[2], 2 * SHAPE[1], 2 * SHAPE[0]),
        orientation="SPL",
        resized=True,
        min_max=True,
        window=None,
    )
    blocky = replace(image, voxels=np.kron(image.voxels[:1, :1, :1], np.ones(SHAPE)))
    blocky.voxels[3:, 4:, 2:] += 1.0
    found = segment(blocky, "bright blob", predictor, num_samples=1)
    assert found.provenance["windows"] == 1
    assert found.labels.shape == SHAPE
    inside = np.zeros(SHAPE, bool)
    inside[4:, 5:, 3:] = True
    assert (found.labels[inside] == 1).all()
    assert (found.labels[:3] == 0).all()
    np.testing.assert_allclose(
        found.probability[0][4:, 5:, 3:], 1 / (1 + np.exp(-4)), atol=1e-4
    )
    assert "does not tell" not in str(found.provenance["hints"])


def test_a_run_tells_its_progress_and_can_be_cut_off_within_a_window() -> None:
    predictor = grey_predictor()
    config = SegmentConfig(num_samples=3, batch_size=1)
    steps = segment_steps(_volume(), ["all"], predictor, config)
    first = next(steps)
    assert (first.done, first.total % 3) == (1, 0)
    early = first.snapshot()
    assert 0 < (early.probability.sum(axis=0) > 0).mean() < 1  # one window so far
    assert (early.labels[early.probability.sum(axis=0) == 0] == 0).all()
    rest = list(steps)
    assert [step.done for step in rest] == list(range(2, first.total + 1))
    whole = segment(_volume(), "all", predictor, num_samples=3, batch_size=1)
    _same(rest[-1].snapshot(), whole)  # although the run has gone on since


def test_a_run_goes_on_from_the_windows_that_are_kept(tmp_path: Path) -> None:
    predictor, config = grey_predictor(), SegmentConfig(num_samples=2, batch_size=1)
    kept = KeptSlices(tmp_path, "run", {})
    steps: Any = segment_steps(_volume(), ["all"], predictor, config, kept)
    total = next(steps).total
    for _ in range(4):  # two windows and a draw
        next(steps)
    steps.close()
    assert kept.count == 2
    again = list(segment_steps(_volume(), ["all"], predictor, config, kept))
    assert again[0].done == 5
    found = again[-1].snapshot()
    assert found.provenance["resumed_windows"] == 2
    _same(found, segment(_volume(), "all", predictor, num_samples=2))
    (done,) = segment_steps(_volume(), ["all"], predictor, config, kept)
    assert (done.done, done.total) == (total, total)


def test_draws_end_when_the_mean_is_known_well_enough() -> None:
    found = segment(_volume(), "all", grey_predictor(), num_samples=40, tolerance=0.5)
    assert found.provenance["samples_drawn"][0] < 40


def test_classes_can_be_put_in_other_words(tmp_path: Path) -> None:
    network = GreyNetwork()
    predictor = grey_predictor(network)
    one, two = SPEC.sheet.classes
    sheet = replace(SPEC.sheet, classes=(replace(one, title="Lamp"), two))
    text = class_sheet_text(sheet)
    found = segment(_volume(), "lamp", predictor, num_samples=1, class_texts=text)
    assert found.prompts == ("Lamp",)
    assert network.texts == ("Lamp", "Dark blob")
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")
    again = segment(_volume(), "lamp", predictor, num_samples=1, class_texts=str(file))
    assert again.provenance["class_texts"] == ["Lamp", "Dark blob"]
    short = class_sheet_text(replace(sheet, classes=(two,)))
    with pytest.raises(PromptError, match="texts of the model's 2 classes"):
        segment(_volume(), "all", predictor, class_texts=short)
    with pytest.raises(UnsupportedFormatError, match="expected JSON"):
        segment(_volume(), "all", predictor, class_texts="{no")


def test_what_is_no_whole_volume_is_refused() -> None:
    predictor = grey_predictor()
    picture = Image(np.zeros((5, 6)))
    with pytest.raises(ImageError, match="for grey, got a picture; choose a 2D model"):
        segment(picture, "all", predictor)
    with pytest.raises(ImageError, match="got one slice"):
        segment(_volume(), "all", predictor, slice_index=1)
    with pytest.raises(ImageError, match="of 4 channels"):
        segment(_volume(), "all", grey_predictor(channels=4))
    empty = replace(_volume(), voxels=np.full(SHAPE, np.nan))
    with pytest.raises(ImageError, match="none that is finite"):
        segment(empty, "all", predictor)


def test_what_a_3d_model_does_not_heed_is_told() -> None:
    found = segment(_volume(), "all", grey_predictor(), num_samples=1, intensity="lung")
    assert "had no effect" in found.provenance["hints"][-1]
