"""Two processes train the compact model as one with the whole batch does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_medvlseg.core.errors import DeviceError
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.launch import is_first, process_count
from napari_medvlseg.core.training.processes import Processes
from napari_medvlseg.core.training.run import _Run, train_steps
from tests.processes import distance, in_processes

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(
    epochs=1,
    batch_size=3,  # pictures 1 + 2, and a question more about one of them
    further_questions=0.34,
    sizes=(64,),
    draws=(2,),
    weights={"Kvasir": 3.0},
    precision="float32",
    contrastive_weight=1.0,
    learning_rate=2e-4,
    strangers=(),
)


def _alone(data: Path, output: Path, config: TrainConfig) -> list[float]:
    return [record["loss"] for record in train_steps(data, output, config)]


@pytest.mark.loopback
@pytest.mark.parametrize("fold", [False, True])
def test_two_processes_are_one_with_the_whole_batch(
    tiny_set: Path, tmp_path: Path, *, fold: bool
) -> None:
    """With the statistics of all rows, or kept ones."""
    config = replace(CONFIG, fold=fold, start="compact" if fold else "")
    expected = _alone(tiny_set, tmp_path / "one", config)
    assert len(expected) == 4
    code = f"""
from napari_medvlseg.core.training.config import TrainConfig
from napari_medvlseg.core.training.run import train_steps
config = TrainConfig(**{config.to_dict()!r})
tell(train_steps(Path({str(tiny_set)!r}), Path({str(tmp_path / "two")!r}), config))
"""
    for losses in in_processes(code):
        assert losses == pytest.approx(expected, abs=1e-4)
    first, second = (
        torch.load(tmp_path / run / CHECKPOINT, weights_only=True)
        for run in ("one", "two")
    )
    for part in ("model", "average"):
        assert distance(first[part], second[part]) < 1e-3
    files = [{p.name for p in (tmp_path / run).iterdir()} for run in ("one", "two")]
    assert files[0] == files[1]


def test_the_contrastive_loss_counts(tiny_set: Path, tmp_path: Path) -> None:
    """What the test above would not notice if it were otherwise."""
    with_it, without = (
        next(train_steps(tiny_set, tmp_path / str(weight), config))["loss"]
        for weight in (1.0, 0.0)
        for config in (replace(CONFIG, contrastive_weight=weight),)
    )
    assert with_it - without > 0.5


def test_a_process_without_a_picture_is_refused(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="--batch-size 3; choose 4 or more"):
        _Run(tiny_set, tmp_path / "run", CONFIG, Processes(3, 4))
    assert not (tmp_path / "run").exists()


def test_rows_are_shared_out_in_turn() -> None:
    shares = [list(Processes(rank, 3).share(7)) for rank in range(3)]
    assert shares == [[0, 1], [2, 3], [4, 5, 6]]
    assert sum(Processes(0, 3).weight(len(each), 7) for each in shares) == 3


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("mps", "--device cpu or cuda for several processes, got mps"),
        ("cuda", "a GPU for each process of this machine, got 1 for process 2"),
    ],
)
def test_a_device_that_processes_cannot_share_is_told(
    monkeypatch: pytest.MonkeyPatch, device: str, told: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    names = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    for name, value in {**names, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert process_count() == 2
    assert not is_first()
    with (
        pytest.raises(DeviceError, match=told),
        Processes.joined(torch.device(device)),
    ):
        pass


def test_without_a_launcher_there_is_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where something else uses one of the names."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert process_count() == 1
    assert is_first()
    with Processes.joined(torch.device("cpu")) as processes:
        assert (processes.rank, processes.count) == (0, 1)
