"""The benchmark of 3D models."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core.bench_volumes import bench_volume_steps
from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.errors import ImageError
from napari_medvlseg.core.types import Image
from tests.volume_models import TINY_3D, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_a_3d_model_is_timed_beside_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of the processor, so that other programs do not decide which is longer."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    bundle = str(write_tiny_bundle(tmp_path / "models" / "tiny-3d"))
    config = SegmentConfig(num_samples=4, device="cpu", precision="float32")
    stages = list(bench_volume_steps(bundle, None, config, repeats=1))
    assert [stage.done for stage in stages] == list(range(stages[-1].total + 1))
    result = stages[-1].result
    assert result is not None
    assert (result.model, result.shape, result.windows) == (
        "tiny-3d",
        TINY_3D.patch,
        1,
    )
    assert 0 < result.one.cpu_s < result.samples.cpu_s
    assert result.speedup.wall_s == pytest.approx(
        4 * result.naive_one.wall_s / result.samples.wall_s
    )
    assert result.speedup_one.cpu_s == pytest.approx(
        result.naive_one.cpu_s / result.one.cpu_s
    )
    assert 0 < result.difference_float32 < 1e-5  # the plain loop's network is MONAI's
    assert result.difference == result.difference_float32
    picture = Image(np.zeros((8, 9), np.uint8))
    with pytest.raises(ImageError, match="expected a whole grey volume"):
        list(bench_volume_steps(bundle, picture, config))
