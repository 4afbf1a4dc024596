"""Authors' checkpoints become bundles."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_medvlseg.core.bundle import (
    WEIGHTS,
    card_text,
    list_models,
    model_card,
    verify,
)
from napari_medvlseg.core.checkpoints import weights
from napari_medvlseg.core.checkpoints.importing import (
    Advance,
    ImportOptions,
    import_checkpoint,
)
from napari_medvlseg.core.checkpoints.store import check_model
from napari_medvlseg.core.errors import CheckpointError, OutputError
from napari_medvlseg.core.models.medclipseg import MedCLIPSegConfig
from napari_medvlseg.core.models.medclipseg_layout import VARIANTS, aliases
from tests.small_checkpoint import (
    WORDS,
    isolate,
    save_checkpoint,
    save_vocabulary,
    state_of,
)

if TYPE_CHECKING:
    from napari_medvlseg.core.bundle import ModelCard


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def _import(path: Path, **options: object) -> Advance:
    steps = list(import_checkpoint(path, ImportOptions(**options)))  # type: ignore[arg-type]
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    return steps[-1]


def _card(path: Path, **options: object) -> ModelCard:
    card = _import(path, **options).card
    assert card is not None
    return card


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_of_each_variant_is_recognised_and_kept_to_the_bit(
    tmp_path: Path, variant: str
) -> None:
    state = state_of(variant)
    path = save_checkpoint(tmp_path / "latest.pth", state)
    card = _card(path, tokenizer=save_vocabulary(tmp_path / "bert"))
    assert card.model_id == f"medclipseg-{variant}"
    assert card.network["architecture"] == "medclipseg"
    assert card.network["config"]["variant"] == variant
    assert MedCLIPSegConfig.from_dict(card.network["config"]).compatible
    assert card.network["config"]["compatible"] is True  # told, not left to a default
    assert "(BGR)" in card_text(card.model_id)
    written = load_file(card.path / WEIGHTS)
    assert written.keys() == state.keys() - aliases(variant).keys()
    assert all(torch.equal(written[key], state[key]) for key in written)
    check_model(card)
    assert card.model_id in [each.model_id for each in list_models()]


def test_weights_are_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "latest.pth")
    monkeypatch.setattr(weights, "PART_BYTES", 50_000)
    card = _card(path)
    state = state_of()
    written = load_file(card.path / WEIGHTS)
    assert all(torch.equal(written[key], state[key]) for key in written)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_import_never_holds_the_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_medvlseg.core.models.medclipseg_layout.DIM", 192)
    monkeypatch.setattr(weights, "PART_BYTES", 4_000_000)
    path = save_checkpoint(tmp_path / "latest.pth")
    size = path.stat().st_size
    assert size > 30e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak_bytes()
    _import(path)
    assert _peak_bytes() - before < size / 2


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_dice", np.float64(0.5)),
        ("best_dice", np.float32(0.5)),
        ("best_loss", float("inf")),
    ],
)
def test_a_numpy_float_in_a_checkpoint_is_read(
    tmp_path: Path, name: str, value: float
) -> None:
    assert _import(save_checkpoint(tmp_path / "best.pth", None, **{name: value})).card


@pytest.mark.parametrize("value", [os.system, np.int64(1), Path("x"), np.zeros(2)])
def test_anything_else_in_a_checkpoint_is_refused(
    tmp_path: Path, value: object
) -> None:
    path = save_checkpoint(tmp_path / "bad.pth", best_dice=value)
    with pytest.raises(CheckpointError, match=r"refused|expected a PyTorch checkpoint"):
        _import(path)
    assert not (tmp_path / "cache" / "models").exists()


def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "bad.pth", best_dice=_Trap(str(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="open"):
        _import(path)
    assert not (tmp_path / "ran").exists()


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self._path, "w")


def test_a_checkpoint_of_the_old_format_and_of_a_parallel_model_is_read(
    tmp_path: Path,
) -> None:
    state = {f"module.{key}": value for key, value in state_of().items()}
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert _card(path).network["config"]["variant"] == "unimedclip"


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    state = state_of()
    state["text_model.position_ids"] = torch.zeros(3)
    path = save_checkpoint(tmp_path / "more.pth", state)
    assert _import(path).unexpected == ("text_model.position_ids",)
    config = json.loads(
        (model_card("medclipseg-unimedclip").path / "config.json").read_text()
    )
    assert config["imported"]["left_out"] == ["text_model.position_ids"]
    del state["mask_head.0.bias"]
    state["mask_head.2.bias"] = torch.zeros(99)
    path = save_checkpoint(tmp_path / "less.pth", state)
    with pytest.raises(CheckpointError) as caught:
        _import(path, name="less")
    for part in (
        "missing: mask_head.0.bias",
        "mask_head.2.bias [99] instead of [4]",
        "unexpected: text_model.position_ids",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "cache" / "models" / "less").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "found none"),
        (b"", "whole PyTorch checkpoint"),
        (b"hello world", "whole PyTorch checkpoint|expected a PyTorch checkpoint"),
        (b"PK\x03\x04 cut off", "whole PyTorch checkpoint"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    path = tmp_path / "x.pth"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        _import(path)


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "x.pth")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="whole PyTorch checkpoint"):
        _import(path)


@pytest.mark.parametrize("held", [{"a": torch.zeros(2)}, {"model": 3}, [1, 2], {}])
def test_another_checkpoint_is_refused(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        _import(tmp_path / "x.pth")


def test_a_model_that_is_there_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "x.pth")
    _import(path, name="mine")
    with pytest.raises(OutputError, match="--overwrite"):
        _import(path, name="mine")
    _import(path, name="mine", overwrite=True)
    with pytest.raises(OutputError, match="package"):
        _import(path, name="compact", overwrite=True)
    with pytest.raises(CheckpointError, match="name of letters"):
        _import(path, name="../mine")
    assert [p.name for p in (tmp_path / "cache" / "models").iterdir()] == ["mine"]


def test_a_released_checkpoint_gets_its_id_and_what_is_known_of_it(
    tmp_path: Path,
) -> None:
    name = "MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"
    folder = tmp_path / "BUSI_10" / "trained_models" / "seed666"
    card = _card(save_checkpoint(folder / name))
    assert card.model_id == "medclipseg-unimedclip-busi-10"
    assert [concept.name for concept in card.concepts] == ["breast tumor"]
    assert "10 % of BUSI" in card.summary


def test_without_a_tokenizer_the_model_is_incomplete_and_says_what_to_copy(
    tmp_path: Path,
) -> None:
    card = _card(save_checkpoint(tmp_path / "x.pth"))
    assert card.missing == ("vocab.txt",)
    source = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    assert f"copy vocab.txt of {source} (Hugging Face) to {card.path}" in card.lack
    with pytest.raises(CheckpointError, match="expected a complete model"):
        verify(card)
    save_vocabulary(card.path)
    complete = model_card(card.model_id)
    assert not complete.lack
    check_model(complete)


def test_the_hubs_cache_is_looked_at_for_the_tokenizer(tmp_path: Path) -> None:
    repo = (
        tmp_path
        / "hub"
        / "models--microsoft--BiomedNLP-BiomedBERT-base-uncased-abstract"
    )
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    save_vocabulary(repo / "snapshots" / "abc")
    card = _card(save_checkpoint(tmp_path / "x.pth"))
    assert not card.missing
    assert (card.path / "vocab.txt").read_text().split() == list(WORDS)


def test_a_fast_tokenizers_file_is_as_good(tmp_path: Path) -> None:
    vocab = {word: number for number, word in reversed(list(enumerate(WORDS)))}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    card = _card(save_checkpoint(tmp_path / "x.pth"), tokenizer=tmp_path)
    assert (card.path / "vocab.txt").read_text().split() == list(WORDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "found none"),
        ("[PAD]\n[unused0]\n", "which begin with"),
        ("\n".join(["[PAD]", "[unused0]", *WORDS[2:]]), "which begin with"),
    ],
)
def test_another_models_vocabulary_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        _import(save_checkpoint(tmp_path / "x.pth"), tokenizer=tmp_path)
