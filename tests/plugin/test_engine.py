"""The core's models as the widget runs them: a cancelled volume is gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core.config import SegmentConfig
from napari_medvlseg.core.types import Image
from napari_medvlseg.plugin.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_medvlseg.core.types import Segmentation

CONFIG = SegmentConfig(num_samples=2, device="cpu")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def scan(slices: int = 3) -> Image:
    random = np.random.default_rng(0)
    return Image(random.integers(0, 255, (slices, 24, 20), dtype=np.uint8))


def finish(engine: Engine, config: SegmentConfig = CONFIG) -> Segmentation:
    *_, last = engine(scan(), ["polyp"], "compact", config)
    return last.snapshot()


def test_a_cancelled_volume_is_gone_on_with(engine: Engine) -> None:
    whole = finish(engine)
    steps = engine(scan(), ["polyp"], "compact", CONFIG)
    while not bool(getattr(engine, "can_go_on")):  # noqa: B009 - mypy recalls it
        next(steps)
    del steps
    again = finish(engine)
    assert whole.provenance["resumed_slices"] == 0
    assert again.provenance["resumed_slices"] == 1
    np.testing.assert_array_equal(again.probability, whole.probability)
    np.testing.assert_array_equal(again.expected_entropy, whole.expected_entropy)
    assert not engine.can_go_on


def test_another_run_begins_anew_and_a_closed_engine_keeps_nothing(
    engine: Engine,
) -> None:
    for _ in range(2):
        steps = engine(scan(), ["polyp"], "compact", CONFIG)
        while not engine.can_go_on:
            next(steps)
        del steps
        other = finish(engine, SegmentConfig(num_samples=1, device="cpu"))
        assert other.provenance["resumed_slices"] == 0
    steps = engine(scan(), ["polyp"], "compact", CONFIG)
    while not bool(getattr(engine, "can_go_on")):  # noqa: B009 - mypy recalls it
        next(steps)
    engine.close()
    assert not engine.can_go_on
