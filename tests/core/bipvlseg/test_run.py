"""A tiny run: seeded, resumable, in one process or two."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_medvlseg.cli import main
from napari_medvlseg.core.bundle import card_text, model_card
from napari_medvlseg.core.class_texts import ClassSheet
from napari_medvlseg.core.errors import CheckpointError, DatasetError, DeviceError
from napari_medvlseg.core.io.class_sheet import find_sheet, write_class_sheet
from napari_medvlseg.core.models.bipvlseg.config import BiPVLConfig
from napari_medvlseg.core.models.bipvlseg.network import BiPVLSeg
from napari_medvlseg.core.training.bipvlseg.config import PRESETS_3D
from napari_medvlseg.core.training.bipvlseg.objective import load_text_encoder
from napari_medvlseg.core.training.bipvlseg.run import train_volume_steps
from napari_medvlseg.core.training.bipvlseg.start import start_from
from napari_medvlseg.core.training.checkpoint import CHECKPOINT
from napari_medvlseg.core.training.processes import Processes
from napari_medvlseg.core.training.volumes.run import cosine_rate
from tests.core.bipvlseg.conftest import TINY
from tests.processes import distance, in_processes

if TYPE_CHECKING:
    from pathlib import Path


NAMES = ["Anterior hippocampus", "Posterior hippocampus"]


@pytest.fixture(scope="module")
def finished(tiny_volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    records = list(train_volume_steps(tiny_volumes, output, TINY))
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    last = records[-1]["validation"]
    assert last is not None
    assert list(last) == NAMES
    return output


def _weights(output: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(output / "model.safetensors"))


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    first: Any = train_volume_steps(tiny_volumes, tmp_path, TINY)
    for _ in range(2):  # to the end of an epoch, where it saves
        next(first)
    first.close()
    rest = list(train_volume_steps(tiny_volumes, tmp_path, TINY))
    assert [record["step"] for record in rest] == [3, 4]
    resumed = _weights(tmp_path)
    for name, value in _weights(finished).items():
        torch.testing.assert_close(value, resumed[name], msg=name)


def test_other_processes_prepare_the_same_patches(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    list(train_volume_steps(tiny_volumes, tmp_path, replace(TINY, workers=1)))
    prepared = _weights(tmp_path)
    for name, value in _weights(finished).items():
        assert torch.equal(value, prepared[name]), name


def test_a_finished_run_has_nothing_to_do_and_no_other_goes_on_from_it(
    tiny_volumes: Path, finished: Path
) -> None:
    assert list(train_volume_steps(tiny_volumes, finished, TINY)) == []
    with pytest.raises(CheckpointError, match="same configuration, got another seed"):
        next(train_volume_steps(tiny_volumes, finished, replace(TINY, seed=1)))


def test_what_is_left_is_enough_to_build_the_network_again(
    tiny_volumes: Path, finished: Path
) -> None:
    names = {path.name for path in finished.iterdir()}
    files = {"checkpoint.pt", "config.json", "curves.csv", "curves.png"}
    left = {"model.safetensors", "network.json", "classes.json", "hippocampus-3d"}
    assert names == {*files, *left}
    told = json.loads((finished / "network.json").read_text(encoding="utf-8"))
    network = BiPVLSeg(BiPVLConfig.from_dict(told["config"]))
    load_text_encoder(network, TINY)
    state = _weights(finished)
    assert [name for name in state if name.startswith("text.")] == []
    lacking = network.load_state_dict(state, strict=False)
    assert lacking.unexpected_keys == []
    assert [key for key in lacking.missing_keys if not key.startswith("text.")] == []
    assert told["data"] == {
        "folder": tiny_volumes.name,
        "volumes": 4,
        "validation_volumes": 1,
    }
    text = card_text(str(finished / "hippocampus-3d"))
    assert f"4 volumes of the folder {tiny_volumes.name}, of whoever trained it" in text
    assert "Decathlon" not in text
    assert told["classes"][0]["name"] == "Anterior hippocampus"
    assert told["classes"][0]["description"].startswith("Anterior hippocampus in an MR")


def test_each_part_that_should_learn_has_moved(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    run: Any = train_volume_steps(tiny_volumes, tmp_path, TINY)
    next(run)
    next(run)
    run.close()
    early = torch.load(tmp_path / CHECKPOINT, weights_only=True)["objective"]
    late = torch.load(finished / CHECKPOINT, weights_only=True)["objective"]
    moved = {name for name, x in late.items() if not torch.equal(x, early[name])}
    assert [name for name in moved if name.startswith("network.text.")] == []
    for part in ("network.vision.", *(f"network.fusion.{n}." for n in (1, 2, 3, 4))):
        assert [name for name in moved if name.startswith(part)], part
    assert {"weights.log_sigma", "network.alignment.to_text.weight"} <= moved
    assert "network.class_embed.0.weight" in moved


@pytest.mark.parametrize(
    ("training", "learning"), [("all", 101), ("norms", 26), ("none", 0)]
)
def test_what_of_the_text_encoder_learns(training: str, learning: int) -> None:
    """MiniLM has 5 tensors of embeddings and 16 of each of 6 layers; 26 of norms."""
    network = BiPVLSeg(TINY.network(2, 1))
    load_text_encoder(network, replace(TINY, text_training=training))
    assert network.text is not None
    found = [p for p in network.text.parameters() if p.requires_grad]
    assert len(found) == learning


def test_labels_without_a_class_are_told(tiny_volumes: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "one.json"
    told = {"format": "medvlseg-classes", "version": 1, "classes": [{"title": "A"}]}
    sheet.write_text(json.dumps(told), encoding="utf-8")
    config = replace(TINY, sheet=str(sheet))
    with pytest.raises(DatasetError, match="labels up to 2 and 1 classes"):
        next(train_volume_steps(tiny_volumes, tmp_path / "run", config))
    for name, wrong in (
        ("regions", replace(TINY, regions="1")),
        ("labels", replace(TINY, labels=(5,))),
    ):  # before anything is read
        message = f"expected --{name} of each of the 2 classes .* got 1"
        with pytest.raises(DatasetError, match=message):
            next(train_volume_steps(tmp_path / "nothing", tmp_path, wrong))


def test_fine_tuning_begins_where_another_run_ended(
    tiny_volumes: Path,
    finished: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On the same classes with all weights, on others without those of the classes."""
    same, other = BiPVLSeg(TINY.network(2, 1)), BiPVLSeg(TINY.network(5, 1))
    assert start_from(same, str(finished)) == []
    for name, value in _weights(finished).items():
        assert torch.equal(same.state_dict()[name], value)
    left_out = start_from(other, str(finished))
    assert {name.partition(".")[0] for name in left_out} == {"vision", "class_embed"}
    assert len(left_out) == 4  # weight and bias of both layers that name classes
    stem = "vision.network.input_block.conv1.conv.weight"
    assert torch.equal(other.state_dict()[stem], _weights(finished)[stem])
    config = replace(TINY, start=str(finished), epochs=1)
    assert len(list(train_volume_steps(tiny_volumes, tmp_path / "same", config))) == 2
    assert "not taken from it" not in caplog.text
    config = replace(config, sheet="cardiac-3d")
    assert len(list(train_volume_steps(tiny_volumes, tmp_path / "other", config))) == 2
    assert f"{finished}: not taken from it" in caplog.text
    assert all(name in caplog.text for name in left_out)


def test_fine_tuning_begins_with_the_bundle_of_a_run(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    """As with the run's weights, in the bundle's half precision."""
    bundle = finished / "hippocampus-3d"
    network = BiPVLSeg(TINY.network(2, 1))
    assert start_from(network, str(bundle)) == []
    for name, value in _weights(finished).items():
        assert torch.equal(network.state_dict()[name], value.half().float()), name
    flags = "--start", str(bundle), "--epochs", "1", "--learning-rate", "1e-12"
    rest = "--final-learning-rate", "0", "--weight-decay", "0"
    tiny = "--widths=4,4,4,8,8", "--patch=32,16,16", "--heads=2", "--key-side=2"
    data = "--preset", "hippocampus-3d", "--data", str(tiny_volumes)
    output = tmp_path / "tuned"
    assert main(["train", *data, "--output", str(output), *flags, *rest, *tiny]) == 0
    for name, value in _weights(output).items():  # such a rate leaves them
        torch.testing.assert_close(
            value, network.state_dict()[name], rtol=0, atol=1e-9, msg=name
        )


def test_fine_tuning_begins_with_a_model_by_its_id() -> None:
    """Draws may come to differ in another way: no layer depends on it."""
    config = replace(PRESETS_3D["hippocampus-3d"], noise_form="dropout")
    network = BiPVLSeg(config.network(2, 1))
    assert start_from(network, "hippocampus-3d") == []
    bundled = load_file(model_card("hippocampus-3d").path / "model.safetensors")
    for name, value in bundled.items():
        assert torch.equal(network.state_dict()[name], value.float()), name


def test_what_cannot_be_begun_with_is_told(finished: Path, tmp_path: Path) -> None:
    network = BiPVLSeg(replace(TINY, heads=1).network(2, 1))
    with pytest.raises(CheckpointError, match="got another heads; give"):
        start_from(network, str(finished))
    with pytest.raises(CheckpointError, match="got another widths, key_side, heads"):
        start_from(network, "hippocampus-3d")
    with pytest.raises(CheckpointError, match="of BiPVL-Seg, got one of compact"):
        start_from(network, "compact")
    with pytest.raises(CheckpointError, match="finished run or bundle, or expected a"):
        start_from(network, str(tmp_path))
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(CheckpointError, match="one that was stopped"):
        start_from(network, str(tmp_path))
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot read it"):
        start_from(network, str(tmp_path))


def test_a_network_of_fixed_patches_begins_with_no_other(tmp_path: Path) -> None:
    """The places of UNETR's tokens are weights; a U-Net takes patches of any size."""
    unetr = replace(TINY, vision="unetr", widths=(4, 24), patch=(16, 16, 16))
    told = replace(unetr, patch=(32, 16, 16)).network(2, 1).to_dict()
    (tmp_path / "network.json").write_text(json.dumps({"config": told}))
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="got another patch"):
        start_from(BiPVLSeg(unetr.network(2, 1)), str(tmp_path))
    told = replace(TINY, patch=(16, 16, 16)).network(2, 1).to_dict()
    (tmp_path / "network.json").write_text(json.dumps({"config": told}))
    assert start_from(BiPVLSeg(TINY.network(2, 1)), str(tmp_path)) == []


def test_the_rate_falls_along_a_cosine() -> None:
    config = replace(TINY, learning_rate=1e-4, final_learning_rate=1e-7)
    rates = [cosine_rate(config, step, 101) for step in (0, 50, 100)]
    assert rates == pytest.approx([1e-4, (1e-4 + 1e-7) / 2, 1e-7])


def test_a_batch_is_shared_out_evenly_or_refused() -> None:
    assert [list(Processes(rank, 2).rows(4)) for rank in (0, 1)] == [[0, 1], [2, 3]]
    with pytest.raises(DeviceError, match="a multiple of 2"):
        Processes(0, 2).rows(3)


@pytest.mark.loopback
def test_two_processes_are_one_with_the_double_batch(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    """Losses, weights and what is written."""
    code = f"""
from tests.core.bipvlseg.conftest import TINY
from napari_medvlseg.core.training.bipvlseg.run import train_volume_steps
tell(train_volume_steps(Path({str(tiny_volumes)!r}), Path({str(tmp_path)!r}), TINY))
"""
    alone = torch.load(finished / CHECKPOINT, weights_only=True)["log"]
    for losses in in_processes(code):
        assert losses == pytest.approx([row["loss"] for row in alone], abs=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in finished.iterdir()
    }
    assert distance(_weights(finished), _weights(tmp_path)) < 1e-3


def test_the_command_trains_on_volumes(
    tiny_volumes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [
        *("train", "--preset", "hippocampus-3d", "--data", str(tiny_volumes)),
        *("--output", str(tmp_path / "run"), "--widths", "4,4,4,8,8", "--epochs", "1"),
        *("--patch", "32,16,16", "--text", "none", "--batch-size", "4"),
    ]
    assert main(train) == 0
    said = capsys.readouterr().out
    assert "DSC Anterior hippocampus" in said
    assert "bundle written to" in said
    card = model_card(str(tmp_path / "run" / "hippocampus-3d"))
    assert card.volume is not None
    assert card.volume.patch == (32, 16, 16)
    assert main([*train, "--side-weight", "2"]) == 2
    assert "--side-weight means nothing to --preset hippocampus-3d" in _err(capsys)
    assert main([*train, "--vision", "resnet"]) == 2
    assert "vision must be one of" in _err(capsys)
    compact = ["train", "--data", str(tiny_volumes), "--output", str(tmp_path)]
    assert main([*compact, "--window=-100,1.5"]) == 2
    assert "--window means nothing to --preset compact" in _err(capsys)


def _err(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_labels_of_their_own_are_trained_and_known_to_the_bundle(
    tiny_volumes: Path, finished: Path, tmp_path: Path
) -> None:
    """The same weights as with 1 and 2, and evaluate finds what belongs to them."""
    data = tmp_path / "data"
    shutil.copytree(tiny_volumes, data)
    for path in data.glob("labels*/*"):
        nifti = nib.nifti1.load(path)
        values = np.array([0, 820, 205], np.int16)[np.asarray(nifti.dataobj)]
        nib.save(nib.Nifti1Image(values, nifti.affine), path)
    with pytest.raises(DatasetError, match="labels up to 820 and 2 classes"):
        next(train_volume_steps(data, tmp_path / "other", TINY))
    config = replace(TINY, labels=(820, 205))
    list(train_volume_steps(data, tmp_path / "run", config))
    relabelled = _weights(tmp_path / "run")
    for name, value in _weights(finished).items():
        assert torch.equal(value, relabelled[name]), name
    spec = model_card(str(tmp_path / "run" / "hippocampus-3d")).volume
    assert spec is not None
    assert spec.labels == ((820,), (205,))
    assert spec.exclusive


def test_a_state_of_other_texts_is_not_gone_on_from(
    tiny_volumes: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    sheet = find_sheet("hippocampus-3d")
    write_class_sheet(path, sheet)
    config = replace(TINY, sheet=str(path), epochs=1)
    first: Any = train_volume_steps(tiny_volumes, tmp_path / "run", config)
    for _ in range(2):
        next(first)
    first.close()
    front = replace(sheet.classes[0], shape="Flat.")
    edited = ClassSheet((front, *sheet.classes[1:]))
    write_class_sheet(path, edited, overwrite=True)
    with pytest.raises(CheckpointError, match="got another texts_sha256"):
        next(train_volume_steps(tiny_volumes, tmp_path / "run", config))
    write_class_sheet(path, sheet, overwrite=True)
    assert list(train_volume_steps(tiny_volumes, tmp_path / "run", config)) == []
    bundle = model_card(str(tmp_path / "run" / "mine"))
    assert bundle.volume is not None
    assert bundle.volume.sheet == sheet


def test_vague_texts_are_learnt_under_the_plain_names(
    tiny_volumes: Path, tmp_path: Path
) -> None:
    config = replace(TINY, text_format="ambiguous", epochs=1)
    last = list(train_volume_steps(tiny_volumes, tmp_path, config))[-1]
    assert list(last["validation"] or ()) == NAMES
    spec = model_card(str(tmp_path / "hippocampus-3d")).volume
    assert spec is not None
    assert list(spec.names) == NAMES
    (first, _) = spec.sheet.descriptions(spec.text_format)
    assert first.startswith("Some part of the inner brain, perhaps towards its front")
