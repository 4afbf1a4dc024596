from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_medvlseg.core.baseline import naive_loop
from napari_medvlseg.core.bench import (
    ANY_PROMPT,
    OTHER_PROMPT,
    _prompts,
    bench_image,
    bench_steps,
)
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import CheckpointError, ImageError
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.types import Image
from tests.volume_models import SPEC


def test_a_benchmark_tells_times_agreement_and_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Times of the processor, so that other programs do not decide which is longer."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = Image(pixels, rgb=True)
    config = SegmentConfig(num_samples=6, device="cpu", tolerance=1.0, batch_size=1)
    stages = list(bench_steps("compact", image, config, repeats=1))
    assert [stage.done for stage in stages] == list(range(stages[-1].total + 1))
    assert all(stage.result is None for stage in stages[:-1])
    result = stages[-1].result
    assert result is not None
    assert (result.model, result.num_samples, result.shape) == (
        "compact",
        6,
        (48, 64, 3),
    )
    assert 0 < result.preview_s < result.naive_s
    assert result.speedup == pytest.approx(result.naive_s / result.samples_s)
    assert result.speedup_float32 == pytest.approx(result.naive_s / result.float32_s)
    assert result.speedup_adaptive == pytest.approx(result.naive_s / result.adaptive_s)
    assert (result.tolerance, result.adaptive_drawn) == (1.0, 5)
    assert 0 <= result.adaptive_dsc <= 1
    assert 0 <= result.foreground < 1
    assert result.difference_float32 < 1e-5
    assert result.difference < 0.02
    if sys.platform != "win32":
        assert result.peak_bytes is not None
        assert 100e6 < result.peak_bytes < 1.5e9


def test_the_picture_measured_on_is_512_by_512_in_colour() -> None:
    image = bench_image()
    assert (image.spatial_shape, image.rgb) == ((512, 512), True)


def test_a_volume_is_not_measured() -> None:
    volume = Image(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ImageError, match="expected one picture"):
        next(bench_steps("compact", volume, SegmentConfig()))


def test_the_plain_loop_makes_and_discards_a_pass_as_the_authors_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = Predictor.load("compact", device="cpu", precision="float32")
    passes: list[int] = []
    draw = predictor.draw

    def counted(*arguments: Any) -> Any:
        passes.append(1)
        return draw(*arguments)

    monkeypatch.setattr(predictor, "draw", counted)
    picture = Image(np.full((32, 32, 3), 90, np.uint8), rgb=True)
    config = SegmentConfig(num_samples=2)
    plain, _ = naive_loop(predictor, picture, "a polyp", config)
    assert len(passes) == 2
    more, _ = naive_loop(predictor, picture, "a polyp", config, discarded=1)
    assert len(passes) == 5
    np.testing.assert_array_equal(plain, more)


def test_two_prompts_differ_also_where_a_card_names_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = _prompts("compact", "")
    assert first != second
    bare = replace(model_card("compact"), concepts=())
    monkeypatch.setattr("napari_medvlseg.core.bench.model_card", lambda _model: bare)
    assert _prompts("bare", "") == [ANY_PROMPT, OTHER_PROMPT]
    assert _prompts("bare", "a polyp") == ["a polyp", OTHER_PROMPT]


def test_a_model_of_volumes_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = replace(model_card("compact"), volume=SPEC)
    monkeypatch.setattr("napari_medvlseg.core.bench.model_card", lambda _model: volumes)
    picture = Image(np.zeros((8, 8, 3), np.uint8), rgb=True)
    with pytest.raises(CheckpointError, match="expected a model of pictures"):
        next(bench_steps("volumes", picture, SegmentConfig()))
