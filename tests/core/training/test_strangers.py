"""Slices of volumes that show nothing of what any set marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import torch

from napari_medvlseg.core.targets import MISMATCHED, TARGETS, foreign_names
from napari_medvlseg.core.training.augment import Pose
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.questions import (
    Seen,
    further_question,
    true_question,
)
from napari_medvlseg.core.training.samples import (
    epoch_order,
    load_strangers,
    plan_batch,
    render,
)
from napari_medvlseg.core.training.vocabulary import VAGUE, clear_names
from napari_medvlseg.core.training.wording import Dice

if TYPE_CHECKING:
    from pathlib import Path

SETS = ("CardiacCine", "Hippocampus")


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Two small volumes whose slices get brighter, and a file of the system's."""
    folder = tmp_path / "CardiacCine" / "imagesTr"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        voxels = np.broadcast_to(np.arange(16, dtype=np.float32), (24, 20, 16)).copy()
        voxels[:12] += 2
        affine = np.diag([1.0, 1.0, 4.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    (folder / "._a.nii.gz").write_bytes(b"junk")
    return tmp_path


def test_slices_are_taken_about_the_middle_of_each_volume(volumes: Path) -> None:
    samples = load_strangers(volumes, SETS, per_volume=2)
    assert len(samples) == 4
    assert len({sample.case.image_path for sample in samples}) == 2
    first, second = (sample.image.mean() for sample in samples[:2])
    assert 0.3 * 255 < first < second < 0.75 * 255
    for sample in samples:
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == (*sample.mask.shape, 3)
        assert sample.case.absent
        assert not sample.mask.any()


def test_a_folder_without_such_sets_has_none(tmp_path: Path) -> None:
    assert load_strangers(tmp_path, SETS, per_volume=2) == []


def test_nothing_is_to_be_found_in_them(volumes: Path) -> None:
    (sample, *_) = load_strangers(volumes, SETS, per_volume=1)
    pose = Pose(mirrored=False, upended=False)
    seen = Seen(sample.case, sample.mask, sample.image, pose)
    dice = Dice(torch.Generator().manual_seed(0))
    asked = [question(seen, dice) for question in (true_question,) * 300]
    asked += [further_question(seen, dice) for _ in range(300)]
    assert not any(inside == 1 for _, inside in asked)
    prompts = [prompt.lower() for prompt, _ in asked]
    assert any("brain tumor" in prompt for prompt in prompts)
    # Words without an organ are kept for what is there.
    assert not any(prompt in words for words in VAGUE.values() for prompt in prompts)
    assert not any("heart" in prompt for prompt in prompts)  # which it does show
    names = {info.class_name for infos in TARGETS.values() for info in infos}
    spoken = {
        name
        for name in names
        for word in clear_names(name)
        if any(word in prompt for prompt in prompts)
    }
    assert spoken == names


def test_what_a_known_set_does_not_show_is_listed_and_another_shows_nothing() -> None:
    assert foreign_names("BUSI") == MISMATCHED["BUSI"]
    every = {info.class_name for infos in TARGETS.values() for info in infos}
    assert set(foreign_names("CardiacCine")) == every
    assert len(foreign_names("CardiacCine")) == len(every)


def test_they_match_no_prompt_and_come_up_as_often_as_their_weight_says(
    volumes: Path,
) -> None:
    samples = load_strangers(volumes, SETS, per_volume=2)
    noise = SampleNoise.seeded(range(len(samples)))
    plan = plan_batch(samples, 32, noise, range(0, len(samples), 2))
    assert not plan.matched.any()
    assert not render(plan, noise).masks.any()
    order = epoch_order(samples, {"CardiacCine": 0.5}, 0, 0, normal_weight=3.0)
    assert len(order) == 2
