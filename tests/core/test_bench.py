from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from napari_medvlseg.core.bench import bench_image, bench_steps
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.types import Image


def test_a_benchmark_tells_times_agreement_and_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Times of the processor, so that other programs do not decide which is longer."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = Image(pixels, rgb=True)
    config = SegmentConfig(num_samples=2, device="cpu")
    stages = list(bench_steps("compact", image, config, repeats=1))
    assert [stage.done for stage in stages] == list(range(stages[-1].total + 1))
    assert all(stage.result is None for stage in stages[:-1])
    result = stages[-1].result
    assert result is not None
    assert (result.model, result.num_samples, result.shape) == (
        "compact",
        2,
        (48, 64, 3),
    )
    assert 0 < result.preview_s < result.naive_s
    assert result.speedup == pytest.approx(result.naive_s / result.samples_s)
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
