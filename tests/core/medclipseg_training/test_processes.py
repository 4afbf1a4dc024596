"""Two processes train MedCLIPSeg as one with the whole batch does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_medvlseg.core.errors import DeviceError
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.medclipseg.run import _Run, train_medclipseg_steps
from napari_medvlseg.core.training.processes import ALONE, Processes
from tests.core.medclipseg_training.conftest import tiny, write_pictures
from tests.processes import distance, in_processes

if TYPE_CHECKING:
    from pathlib import Path

CHOICES: dict[str, Any] = {
    "batch_size": 3,  # 2 + 1, and 1 + 0 at an epoch's end
    "epochs": 1,
    "augmentation": "full",
    "contrastive_weight": 1.0,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ten pictures whose prompts, captions, are of several lengths."""
    root = tmp_path_factory.mktemp("captioned") / "Kvasir"
    write_pictures(root / "Train_Folder", 10, 0)
    write_pictures(root / "Val_Folder", 2, 1)
    return root


def _together(data: Path, output: Path, **choices: Any) -> list[list[float]]:
    return in_processes(f"""
import pytest
from tests.core.medclipseg_training.conftest import make_thin, tiny
from napari_medvlseg.core.training.medclipseg.run import train_medclipseg_steps
with pytest.MonkeyPatch.context() as patch:
    make_thin(patch)
    config = tiny(**{choices!r})
    tell(train_medclipseg_steps([Path({str(data)!r})], Path({str(output)!r}), config))
""")


def _alone(data: Path, output: Path, **choices: Any) -> list[float]:
    records = train_medclipseg_steps([data], output, tiny(**choices))
    return [record["loss"] for record in records]


@pytest.mark.loopback
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_are_one_with_the_whole_batch(
    pictures: Path, tmp_path: Path, accumulate: int
) -> None:
    """Also where a process has fewer rows, or none, and in parts."""
    choices = {**CHOICES, "accumulate": accumulate}
    expected = _alone(pictures, tmp_path / "one", **choices)
    assert len(expected) == 4
    for losses in _together(pictures, tmp_path / "two", **choices):
        assert losses == pytest.approx(expected, abs=1e-4)
    first, second = (
        torch.load(tmp_path / run / CHECKPOINT, weights_only=True)
        for run in ("one", "two")
    )
    assert distance(first["learnt"], second["learnt"]) < 1e-3
    assert first["log"][-1].keys() == second["log"][-1].keys()  # with a DSC
    files = [{p.name for p in (tmp_path / run).iterdir()} for run in ("one", "two")]
    assert files[0] == files[1]


def test_the_contrastive_loss_counts_and_prompts_differ_in_length(
    pictures: Path, tmp_path: Path
) -> None:
    """What the test above would not notice if it were otherwise."""
    with_it = _alone(pictures, tmp_path / "a", **CHOICES)
    without = _alone(pictures, tmp_path / "b", **{**CHOICES, "contrastive_weight": 0.0})
    assert with_it[0] - without[0] > 0.5
    run = _Run([pictures], tmp_path / "c", tiny(**CHOICES), ALONE)
    lengths = {run.asked([each.prompt]).shape[1] for each in run.train}
    assert len(lengths) > 1


@pytest.mark.loopback
def test_another_number_of_processes_goes_on_from_a_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _alone(pictures, tmp_path / "whole", **CHOICES)
    monkeypatch.setattr(_Run, "save_every", 1)
    begun = train_medclipseg_steps([pictures], tmp_path / "run", tiny(**CHOICES))
    next(begun)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    for losses in _together(pictures, tmp_path / "run", **CHOICES):
        assert losses == pytest.approx(expected[2:], abs=1e-4)


def test_a_process_without_a_row_of_any_batch_is_refused(
    pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match="--batch-size 3; choose 4 or more"):
        _Run([pictures], tmp_path / "run", tiny(**CHOICES), Processes(0, 4))
    assert not (tmp_path / "run").exists()
