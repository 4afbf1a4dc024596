"""MedCLIPSeg learns on volumes: seeded, resumable, exported whole."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_medvlseg.cli import main
from napari_medvlseg.core.bundle import card_text, read_card
from napari_medvlseg.core.errors import CheckpointError, DatasetError
from napari_medvlseg.core.io.read import read
from napari_medvlseg.core.metrics import dice_similarity_coefficient
from napari_medvlseg.core.models.medclipseg.words import BERT
from napari_medvlseg.core.models.probabilistic_attention import zero_noise
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.preprocess.resample import ModelGrid
from napari_medvlseg.core.preprocess.volumes import network_volume
from napari_medvlseg.core.training.bipvlseg.data import augmentation, patch_of, prepare
from napari_medvlseg.core.training.medclipseg3d.config import (
    PRESETS_MEDCLIP_3D,
    MedCLIPVolumeConfig,
)
from napari_medvlseg.core.training.medclipseg3d.export import (
    BUNDLE,
    export_medclip_volume_bundle,
)
from napari_medvlseg.core.training.medclipseg3d.objective import Objective
from napari_medvlseg.core.training.medclipseg3d.run import train_medclip_volume_steps
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.volume_predictor import VolumePredictor
from napari_medvlseg.core.volume_sets import volume_cases
from napari_medvlseg.core.volume_spec import world_letters
from tests.processes import distance, in_processes

if TYPE_CHECKING:
    from pathlib import Path

TINY = replace(
    PRESETS_MEDCLIP_3D["medclipseg-3d"],
    structures="bright blob=1+2,front blob=1,back blob=2",
    patch=(32, 16, 16),
    cell=(4, 4, 4),
    width=24,
    vision_heads=2,
    shared_dim=16,
    adapter_dim=8,
    adapted=(1,),
    upscale_blocks=1,
    epochs=5,
    validate_every=5,
    learning_rate=5e-3,
    precision="float32",
    average_decay=0.0,
    rotation_degrees=(0.0, 0.0, 0.0),
    zoom=0.0,
)
WHOLE = replace(
    TINY,
    patch=(8, 16, 12),
    resized=True,
    orientation="SPL",
    min_max=True,
    intensity_change=0.0,
    flip_axes=(),
    flipped_draws="",
)
"""As M3D-CLIP sees a volume."""
TOGETHER = replace(TINY, epochs=1, contrastive_weight=1.0, learning_rate=1e-3)
STEPS, EPOCH = 20, 4


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight training and one validation volume with two bright blobs each."""
    root = tmp_path_factory.mktemp("blobs")
    generator = np.random.default_rng(0)
    for split, count in (("Tr", 8), ("Val", 1)):
        for index in range(count):
            voxels = generator.normal(100, 10, (30, 18, 16)).astype(np.float32)
            label = np.zeros(voxels.shape, np.uint8)
            label[4 : 10 + index % 4, 4:14, 4:12] = 1
            label[20 : 26 - index % 4, 4:14, 4:12] = 2
            voxels += 80.0 * (label > 0)
            for kind, array in (("images", voxels), ("labels", label)):
                folder = root / f"{kind}{split}"
                folder.mkdir(exist_ok=True)
                nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{index}.nii.gz")
    return root


class _Finished:
    """A run, and the losses of its steps."""

    def __init__(self, data: Path, output: Path) -> None:
        self.output = output
        records = list(train_medclip_volume_steps(data, output, TINY))
        self.losses = [record["loss"] for record in records]
        self.validation = records[-1]["validation"]


@pytest.fixture(scope="module")
def finished(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> _Finished:
    return _Finished(blobs, tmp_path_factory.mktemp("run"))


def test_the_loss_falls_and_the_structures_are_found(finished: _Finished) -> None:
    assert len(finished.losses) == STEPS
    assert np.mean(finished.losses[-4:]) < 0.8 * np.mean(finished.losses[:4])
    assert finished.validation is not None
    assert list(finished.validation) == ["bright blob", "front blob", "back blob"]
    assert finished.validation["bright blob"] > 0.5


def test_a_run_that_was_stopped_goes_on_where_it_was(
    blobs: Path, finished: _Finished, tmp_path: Path
) -> None:
    first: Any = train_medclip_volume_steps(blobs, tmp_path, TINY)
    early = [next(first)["loss"] for _ in range(EPOCH)]
    first.close()
    second: Any = train_medclip_volume_steps(blobs, tmp_path, TINY)
    late = [next(second)["loss"] for _ in range(2)]
    second.close()
    assert early + late == pytest.approx(finished.losses[: EPOCH + 2], abs=1e-6)


@pytest.fixture(scope="module")
def predictor(finished: _Finished) -> VolumePredictor:
    bundle = str(finished.output / BUNDLE)
    return VolumePredictor.load(bundle, device="cpu", precision="float32")


def test_a_run_ends_with_a_bundle_that_answers_as_it_was_trained(
    finished: _Finished, predictor: VolumePredictor
) -> None:
    """In half precision; MiniLM is not written: it comes with the package."""
    state = load_file(finished.output / BUNDLE / "model.safetensors")
    assert [name for name in state if name.startswith(BERT)] == []
    checkpoint = torch.load(finished.output / "checkpoint.pt", weights_only=True)
    windows: Any = predictor.network
    loaded = windows.network.state_dict()
    for name, value in checkpoint["average"].items():
        torch.testing.assert_close(loaded[name], value, atol=1e-3, rtol=1e-3, msg=name)
    spec = predictor.spec
    assert spec.names == ("bright blob", "front blob", "back blob")
    assert spec.labels == ((1, 2), (1,), (2,))
    assert spec.asks
    assert not spec.exclusive
    assert spec.learnt_flips == world_letters(TINY.flip_axes, TINY.orientation)
    assert spec.patch == (32, 16, 16)
    card = predictor.card
    assert card.summary.startswith(f"Segments whole volumes ({spec.picture}): bright")
    example = f"bright blob in the {spec.picture}"
    assert (card.concepts[0].example, card.concepts[0].modality) == (
        example,
        spec.picture,
    )
    predictor.check([example])


def test_the_bundle_segments_a_volume(
    blobs: Path, finished: _Finished, predictor: VolumePredictor
) -> None:
    """Larger than a window: several are blended; the validation's DSC comes again."""
    case = volume_cases(blobs, "val")[0]
    found = segment(case.images[0], "bright blob", predictor, num_samples=3)
    assert found.probability.shape == found.mutual_information.shape == (1, 30, 18, 16)
    assert found.labels.max() == 1
    reference = read(case.label).voxels > 0
    assert finished.validation is not None
    dsc = dice_similarity_coefficient(found.labels > 0, reference)
    assert dsc == pytest.approx(finished.validation["bright blob"], abs=0.1)
    several = segment(case.images[0], "front blob, back blob", predictor, num_samples=1)
    probability = several.probability
    best = np.where(probability.max(0) > 0.5, probability.argmax(0) + 1, 0)
    np.testing.assert_array_equal(several.labels, best)


def test_a_damaged_run_is_no_bundle(finished: _Finished, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="finished run"):
        export_medclip_volume_bundle(tmp_path, tmp_path / BUNDLE)
    for name in ("network.json", "config.json"):
        told = (finished.output / name).read_bytes()
        (tmp_path / name).write_bytes(told)
    with pytest.raises(CheckpointError, match="cannot read it"):
        export_medclip_volume_bundle(tmp_path, tmp_path / BUNDLE)
    assert not (tmp_path / BUNDLE).exists()


@pytest.fixture(scope="module")
def objective(predictor: VolumePredictor) -> Objective:
    windows: Any = predictor.network
    network = copy.deepcopy(windows.network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith((BERT, "logit_scale")))
    return Objective(network, TINY)


def test_every_part_that_should_learn_does(objective: Objective) -> None:
    objective.train()
    text = objective.network.text_model
    assert not text.training  # no dropout in what is frozen
    noise = SampleNoise(tuple(torch.Generator().manual_seed(n) for n in (0, 1)))
    image = torch.randn(2, 1, *TINY.patch, generator=torch.Generator().manual_seed(2))
    label = (image > 1).float()
    objective(image, label, noise, torch.float32).backward()
    without = [
        name
        for name, parameter in objective.network.named_parameters()
        if parameter.grad is None
    ]
    assert [name for name in without if not name.startswith(BERT)] == ["logit_scale"]
    assert all(name.startswith(BERT) for name in without if name != "logit_scale")


def test_each_question_is_asked_as_often(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = objective._choose(
        lambda shape: torch.randn(shape, generator=generator), 3000
    )
    counts = np.bincount(rows, minlength=15)
    assert len(counts) == 15
    assert counts.min() > 140
    assert counts.max() < 260


def test_the_first_of_the_wordings_is_the_bare_name(objective: Objective) -> None:
    assert objective._choose(zero_noise, 1) == [7]
    assert objective._labels[0] == (1, 2)
    assert objective._labels[7] == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"structures": "liver"}, "NAME=LABEL"),
        ({"structures": "liver=0"}, "labels above 0"),
        ({"text": "bert5"}, "text must be one of minilm, bert"),
        ({"patch": (30, 16, 16)}, "an image of whole patches"),
        ({"blocks": 5}, "two towers of one depth"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_labels_without_a_name_are_told(blobs: Path, tmp_path: Path) -> None:
    config = replace(TINY, structures="blob=1")
    with pytest.raises(DatasetError, match="labels up to 1, as --structures names"):
        next(train_medclip_volume_steps(blobs, tmp_path, config))


def test_without_its_towers_m3d_clip_is_not_begun(blobs: Path, tmp_path: Path) -> None:
    config = replace(TINY, text="bert", vision_heads=2, train_encoders=False)
    with pytest.raises(CheckpointError, match="give --towers FILE"):
        next(train_medclip_volume_steps(blobs, tmp_path, config))


def test_a_whole_volume_is_resized_as_m3d_clip_sees_it(blobs: Path) -> None:
    """Slices first, from 0 to 1, the whole volume in one patch."""
    config = WHOLE
    volume = prepare(volume_cases(blobs, "val")[0], config)
    assert volume.image.shape == volume.label.shape == (1, 8, 16, 12)
    assert 0 <= float(volume.image.min()) < 0.2
    assert 0.6 < float(volume.image.max()) <= 1  # averaged, so less than 1
    image, label = patch_of(volume, augmentation(config), 0, ())
    torch.testing.assert_close(image, volume.image.float(), atol=1e-6, rtol=0)
    front = (label[0] == 1).nonzero().float().mean(dim=0)
    back = (label[0] == 2).nonzero().float().mean(dim=0)
    assert front[2] > back[2]  # R of the file points the other way
    torch.testing.assert_close(front[:2], back[:2])


def test_its_bundle_sees_a_volume_as_it_was_trained_and_answers_on_its_grid(
    blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(WHOLE, epochs=1, batch_size=4, picture="toy MRI")
    list(train_medclip_volume_steps(blobs, tmp_path, config))
    predictor = VolumePredictor.load(
        str(tmp_path / BUNDLE), device="cpu", precision="float32"
    )
    spec = predictor.spec
    assert (spec.orientation, spec.resized, spec.min_max) == ("SPL", True, True)
    assert (spec.patch, spec.spacing_mm, spec.window) == ((8, 16, 12), None, None)
    case = volume_cases(blobs, "val")[0]
    image = read(case.images[0])
    seen = network_volume(image, ModelGrid.for_spec(image, spec), None, min_max=True)
    trained = prepare(case, config).image.float()
    np.testing.assert_allclose(seen, trained, atol=1e-3)  # kept in half precision
    asked = "the front blob in a toy MRI; back blob"
    found = segment(image, asked, predictor, num_samples=2)
    assert found.probability.shape == (2, 30, 18, 16)
    assert found.provenance["windows"] == 1
    assert found.provenance["hints"] == []
    assert "whole volume is resized to 8 x 16 x 12" in card_text(str(tmp_path / BUNDLE))
    again = tmp_path / "again"
    assert main(["models", "export", str(tmp_path), "--output", str(again)]) == 0
    assert f"--model {again}" in capsys.readouterr().out
    assert read_card(again).volume == spec


def test_the_command_trains(
    blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [
        *("train", "--preset", "medclipseg-3d", "--data", str(blobs)),
        *("--output", str(tmp_path / "run"), "--epochs", "1", "--batch-size", "4"),
        *("--structures", "blob=1+2", "--patch", "32,16,16", "--width", "24"),
        *("--vision-heads", "2", "--shared-dim", "8", "--adapter-dim", "4"),
        *("--average-decay", "0"),
    ]
    assert main(train) == 0
    said = capsys.readouterr().out
    assert "DSC blob" in said
    assert f"--model {tmp_path / 'run' / BUNDLE}" in said
    assert main([*train, "--vision", "unet"]) == 2
    assert "--vision means nothing to --preset medclipseg-3d" in capsys.readouterr().err
    assert main([*train, "--cell", "5,5,5"]) == 2
    assert "an image of whole patches" in capsys.readouterr().err


@pytest.mark.loopback
def test_two_processes_are_one_with_the_double_batch(
    blobs: Path, tmp_path: Path
) -> None:
    """A volume each: the contrastive loss, which is 0 of one, sees both."""
    config = replace(TOGETHER, contrastive_weight=0.0)
    without = next(train_medclip_volume_steps(blobs, tmp_path / "zero", config))
    records = train_medclip_volume_steps(blobs, tmp_path / "one", TOGETHER)
    expected = [record["loss"] for record in records]
    assert len(expected) == EPOCH
    assert expected[0] - without["loss"] > 0.5
    code = f"""
from tests.core.medclipseg3d.test_run import TOGETHER
from napari_medvlseg.core.training.medclipseg3d.run import train_medclip_volume_steps
data, output = Path({str(blobs)!r}), Path({str(tmp_path / "two")!r})
tell(train_medclip_volume_steps(data, output, TOGETHER))
"""
    for losses in in_processes(code):
        assert losses == pytest.approx(expected, abs=1e-4)
    first, second = (
        dict(load_file(tmp_path / run / "model.safetensors")) for run in ("one", "two")
    )
    assert distance(first, second) < 1e-3
    files = [{p.name for p in (tmp_path / run).iterdir()} for run in ("one", "two")]
    assert files[0] == files[1]


def test_the_full_size_is_m3d_clips() -> None:
    config: MedCLIPVolumeConfig = PRESETS_MEDCLIP_3D["medclipseg-3d-m3dclip"]
    network = config.network()
    assert network.vision_shape.grid == (8, 16, 16)
    assert network.layers == tuple(range(1, 11))
    assert (network.adapter_dim, network.beta, network.upscale_blocks) == (256, 2.35, 2)
    assert not config.train_encoders


def test_structures_of_one_name_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match="'blob' twice"):
        replace(TINY, structures="blob=1,the Blob=2")
