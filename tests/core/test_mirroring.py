"""Draws that see the picture mirrored, where a model's card asks for them."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_medvlseg import segment
from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.models.compact import Compact, Settled
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.preprocess.pixels import to_network_range
from napari_medvlseg.core.sampling import DrawNoise, Place
from napari_medvlseg.core.types import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_medvlseg.core.models.compact import Pyramid
    from napari_medvlseg.core.predictor import Predictor


@pytest.fixture
def mirroring(predictor: Predictor) -> Predictor:
    """Return a model with random weights whose card asks for mirrored draws."""
    spec = dataclasses.replace(predictor.card.input, mirror=True)
    changed = copy.copy(predictor)
    changed.card = dataclasses.replace(predictor.card, input=spec)
    return changed


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def _draw_the_mean(
    predictor: Predictor, pyramid: Pyramid, words: Any, count: int, _: object
) -> torch.Tensor:
    return predictor.draw(pyramid, words, count, zero_noise)


def test_every_second_draw_sees_the_mirrored_picture_and_words(
    mirroring: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    prompt, exchanged = "polyp at the upper left", "polyp at the upper right"
    result = segment(picture, prompt, mirroring, num_samples=5, seed=3)
    assert result.provenance["mirrored_draws"]
    pixels = to_network_range(picture).contiguous()
    views = [
        (mirroring.pyramid(pixels), mirroring.words(prompt)),
        (mirroring.pyramid(torch.flip(pixels, dims=[2])), mirroring.words(exchanged)),
    ]
    total = np.zeros((64, 64))
    for draw in range(5):
        noise = DrawNoise(3, [draw], Place())
        seen = mirroring.draw(*views[draw % 2], 1, noise)[0].double().sigmoid().numpy()
        total += seen[:, ::-1] if draw % 2 else seen
    np.testing.assert_allclose(result.probability[0], total / 5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_plain_loop_finds_the_same(
    mirroring: Predictor, picture: npt.NDArray[np.uint8], batch_size: int
) -> None:
    config = SegmentConfig(num_samples=6, seed=2, precision="float32")
    plain, _ = naive_loop(mirroring, Image(picture, rgb=True), "left polyp", config)
    result = segment(
        picture, "left polyp", mirroring, num_samples=6, seed=2, batch_size=batch_size
    )
    np.testing.assert_allclose(result.probability[0], plain, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_what_is_settled_once_gives_the_plain_loops_answer(
    mirroring: Predictor, picture: npt.NDArray[np.uint8], batch_size: int
) -> None:
    """Noise at the last attention alone, as large as the bundled model's."""
    known: Any = mirroring.network
    factors = {"pixels_noise": (0, 0, 0), "words_noise": (0, 0, 15)}
    network = Compact(dataclasses.replace(known.config, **factors))
    network.load_state_dict(known.state_dict())
    quiet: Any = network.eval().requires_grad_(requires_grad=False)
    mirroring.network = quiet
    settled = mirroring.settle(
        mirroring.pyramid(torch.zeros(3, 64, 64)), mirroring.words("left polyp")
    )
    assert isinstance(settled, Settled)
    assert settled.done == 2
    config = SegmentConfig(num_samples=6, seed=2, precision="float32")
    plain, _ = naive_loop(mirroring, Image(picture, rgb=True), "left polyp", config)
    result = segment(
        picture, "left polyp", mirroring, num_samples=6, seed=2, batch_size=batch_size
    )
    np.testing.assert_allclose(result.probability[0], plain, atol=1e-5)
    assert result.mutual_information.max() > 1e-4


def test_a_mirror_image_gets_the_mirrored_answer(
    mirroring: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    """Exactly so without noise, from one draw of each view."""
    silent = copy.copy(mirroring)
    silent.draw = partial(_draw_the_mean, mirroring)  # type: ignore[method-assign]
    there = segment(picture, "left polyp", silent, num_samples=2)
    back = segment(picture[:, ::-1].copy(), "right polyp", silent, num_samples=2)
    np.testing.assert_allclose(
        back.probability[0][:, ::-1], there.probability[0], atol=1e-5
    )


def test_a_single_draw_is_not_mirrored(
    mirroring: Predictor, predictor: Predictor, picture: npt.NDArray[np.uint8]
) -> None:
    single = segment(picture, "left polyp", mirroring, num_samples=1)
    plain = segment(picture, "left polyp", predictor, num_samples=1)
    np.testing.assert_array_equal(single.probability, plain.probability)
    assert not single.provenance["mirrored_draws"]
