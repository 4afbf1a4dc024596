"""How many draws at once: by the memory that is free, with one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_medvlseg.core import volume_predictor
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.types import Image
from napari_medvlseg.core.volume_predictor import CPU_BYTES, free_bytes
from tests.volume_models import GreyNetwork, grey_predictor

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the folder tell of the memory: 100 MiB, in no container."""
    monkeypatch.setattr(volume_predictor, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(volume_predictor, "GROUP", tmp_path)
    told = f"MemTotal: {400 * 1024} kB\nMemFree: 8 kB\nMemAvailable: {100 * 1024} kB\n"
    (tmp_path / "meminfo").write_text(told, encoding="utf-8")
    return tmp_path


def test_what_is_free_is_what_the_system_or_the_container_leaves(system: Path) -> None:
    assert free_bytes() == 100 * MIB
    (system / "memory.current").write_text(f"{30 * MIB}\n", encoding="utf-8")
    for limit, left in (("max", 100), (str(50 * MIB), 20), (str(10 * MIB), 0)):
        (system / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        assert free_bytes() == left * MIB
    (system / "memory.max").write_text(f"{50 * MIB}\n", encoding="utf-8")
    stat = f"file 7\ninactive_file {5 * MIB}\n"
    (system / "memory.stat").write_text(stat, encoding="utf-8")
    assert free_bytes() == 25 * MIB
    for path in system.iterdir():
        path.unlink()
    assert free_bytes() == 2 * CPU_BYTES


def test_a_batch_takes_half_of_it_and_at_least_one_draw(system: Path) -> None:
    network = GreyNetwork()
    network.width = 10 * MIB // (4 * 8 * 8**3)  # 10 MiB a draw of a window of 8 voxels
    predictor = grey_predictor(network)
    assert [predictor.fitting_batch(n) for n in (1, 4, 8)] == [1, 4, 5]
    (system / "meminfo").write_text("MemAvailable: 99999999 kB\n", encoding="utf-8")
    assert predictor.fitting_batch(99) == CPU_BYTES // (10 * MIB)  # more gains nothing
    (system / "meminfo").write_text("MemAvailable: 1 kB\n", encoding="utf-8")
    assert predictor.fitting_batch(8) == 1


def test_little_memory_changes_nothing_but_the_batch(system: Path) -> None:
    voxels = np.random.default_rng(0).normal(0, 0.7, (11, 9, 8)).astype(np.float32)
    image = Image(voxels, np.eye(4), units="mm")
    many = segment(image, "all", grey_predictor(), num_samples=7, batch_size=4)
    (system / "meminfo").write_text("MemAvailable: 0 kB\n", encoding="utf-8")
    single = segment(image, "all", grey_predictor(), num_samples=7, batch_size=4)
    np.testing.assert_allclose(many.probability, single.probability, atol=1e-5)
