"""The staged text encoder, its published weights and its word pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from napari_medvlseg.core.backbones import text_encoders
from napari_medvlseg.core.backbones.bert import Bert, BertShape
from napari_medvlseg.core.backbones.minilm import MiniLM
from napari_medvlseg.core.backbones.text_encoders import (
    TEXT_ENCODERS,
    TextSpec,
    TextTokenizer,
    find_text_folder,
    load_weights,
)
from napari_medvlseg.core.errors import CheckpointError, PromptError
from napari_medvlseg.core.models.bipvlseg.text import StagedText

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "left",
    "Left",
    "ventri",
    "##cle",
)
SPEC = TextSpec(
    hub_id="nobody/tiny",
    shape=BertShape(
        dim=8, layers=12, heads=2, hidden_dim=16, vocabulary=len(WORDS), positions=12
    ),
    stages=(6, 2, 2, 2),
    lower_case=False,
    pooling="first",
)


@pytest.fixture(scope="module")
def text() -> StagedText:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return StagedText(SPEC).eval()


def _pieces() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[2, 5, 7, 8, 3], [2, 6, 3, 0, 0]])
    return ids, ids != 0


def test_the_stages_are_the_layers_1_to_6_then_two_by_two_as_in_transformers(
    text: StagedText,
) -> None:
    from transformers import BertConfig, BertModel

    theirs = BertModel(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_hidden_layers=12,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=12,
        ),
        add_pooling_layer=False,
    ).eval()
    told = theirs.load_state_dict(text.bert.state_dict(), strict=False)
    assert told.unexpected_keys == []
    ids, mask = _pieces()
    with torch.inference_mode():
        expected = theirs(
            ids, attention_mask=mask.long(), output_hidden_states=True
        ).hidden_states
        hidden = text.embed(ids)
        for index, layers in enumerate((6, 8, 10, 12)):
            hidden = text.stage(index, hidden, mask)
            ours, published = hidden[mask], expected[layers][mask]
            torch.testing.assert_close(ours, published, atol=1e-5, rtol=1e-5)
        whole = text.encode(ids, mask)
    torch.testing.assert_close(whole, hidden[:, 0])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_moved_text_stands_for_what_it_was_moved_to(pooling: str) -> None:
    text = StagedText(replace(SPEC, pooling=pooling))
    ids, mask = _pieces()
    hidden = text.embed(ids)
    wanted = torch.rand(2, 8)
    moved = text.moved(hidden, mask, wanted)
    torch.testing.assert_close(text.summary(moved, mask), wanted)
    still = text.moved(hidden, mask, text.summary(hidden, mask))
    torch.testing.assert_close(still, hidden)
    assert torch.equal(moved[:, 1:], hidden[:, 1:]) is (pooling == "first")


def test_padding_changes_no_text(text: StagedText) -> None:
    ids, mask = _pieces()
    alone = text.encode(ids[1:, :3], mask[1:, :3])
    torch.testing.assert_close(text.encode(ids, mask)[1:], alone)


def test_stages_that_miss_a_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="12 layers"):
        StagedText(replace(SPEC, stages=(6, 2, 2, 1)))


def test_each_encoder_is_divided_wholly_and_has_its_own_sizes() -> None:
    assert TEXT_ENCODERS["clinicalbert"].stages == (6, 2, 2, 2)
    for name, spec in TEXT_ENCODERS.items():
        assert sum(spec.stages) == spec.shape.layers, name
        assert spec.shape.dim == (384 if name == "minilm" else 768)


def test_minilm_in_stages_is_minilm() -> None:
    folder = find_text_folder("minilm")
    spec = TEXT_ENCODERS["minilm"]
    staged = StagedText(spec).eval()
    staged.bert.load_state_dict(load_weights(spec, folder))
    titles = ["Anterior hippocampus in an MR image", "Liver"]
    texts = TextTokenizer(spec, folder)(titles)
    with torch.inference_mode():
        found = staged.encode(*texts)
    expected = [words.mean(dim=0) for words in MiniLM(folder).encode_many(titles)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


def _old_names(bert: Bert) -> dict[str, torch.Tensor]:
    """Return weights as ClinicalBERT's file has them."""
    old = {f"bert.{name}": x.clone() for name, x in bert.state_dict().items()}
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): x
        for name, x in old.items()
    }
    return {**renamed, "cls.predictions.bias": torch.zeros(9)}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_published_weights_are_read_under_old_and_new_names(
    text: StagedText, tmp_path: Path, file: str
) -> None:
    if file.endswith(".bin"):
        torch.save(_old_names(text.bert), tmp_path / file)
    else:
        save_file(_old_names(text.bert), tmp_path / file)
    found = load_weights(SPEC, tmp_path)
    assert set(found) == set(text.bert.state_dict())
    for name, tensor in text.bert.state_dict().items():
        assert torch.equal(found[name], tensor)


def test_weights_of_another_encoder_are_refused(
    text: StagedText, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="found neither"):
        load_weights(SPEC, tmp_path)
    save_file(text.bert.state_dict(), tmp_path / "model.safetensors")
    other = replace(SPEC, shape=replace(SPEC.shape, vocabulary=99))
    with pytest.raises(CheckpointError, match="word_embeddings"):
        load_weights(other, tmp_path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_weights(replace(SPEC, sha256="0" * 64), tmp_path)


def test_a_vocabulary_is_enough_to_cut_words(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json or vocab\.txt"):
        TextTokenizer(SPEC, tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    cased = TextTokenizer(SPEC, tmp_path)
    found = cased(["Left ventricle", "left"])
    assert found.ids.tolist() == [[2, 6, 7, 8, 3], [2, 5, 3, 0, 0]]
    assert found.mask.sum(dim=1).tolist() == [5, 3]
    lower = TextTokenizer(replace(SPEC, lower_case=True), tmp_path)
    assert lower(["Left"]).ids.tolist() == [[2, 5, 3]]
    with pytest.raises(PromptError, match="at most 12 word pieces, got 14"):
        cased(["left " * 12])


def test_an_encoder_that_was_not_downloaded_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="hf download emilyalsentzer"):
        find_text_folder("clinicalbert")
    spec = text_encoders.TEXT_ENCODERS["clinicalbert"]
    repo = tmp_path / f"models--{spec.hub_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    (snapshot / "pytorch_model.bin").write_bytes(b"weights")
    assert find_text_folder("clinicalbert") == snapshot
