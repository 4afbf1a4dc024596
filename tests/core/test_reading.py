"""Names that the model was not taught: read as the nearest one, or said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_medvlseg.core.backbones.minilm import MiniLM, find_minilm
from napari_medvlseg.core.bundle import model_card
from napari_medvlseg.core.errors import CheckpointError
from napari_medvlseg.core.name_book import NAMES, NameBook, load_names
from napari_medvlseg.core.pipeline import segment
from napari_medvlseg.core.predictor import Predictor
from napari_medvlseg.core.reading import NameReader
from napari_medvlseg.core.targets import HELD_OUT, MADE_UP

if TYPE_CHECKING:
    from pathlib import Path

TAUGHT_BY_WORDS = {"mole", "bowel polyp", "body of the white blood cell"}
"""Held-out words that stay as typed: the network itself answers them."""


@pytest.fixture(scope="module")
def reader() -> NameReader:
    """Read for the bundled model."""
    card = model_card("compact")
    return NameReader(card, load_names(card.path), MiniLM(find_minilm()).encode)


@pytest.mark.parametrize(
    ("class_name", "words"),
    [(name, words) for name, phrases in HELD_OUT.items() for words in phrases],
)
def test_a_held_out_name_is_read_as_its_class(
    reader: NameReader, class_name: str, words: str
) -> None:
    reading = reader.read(words)
    if words in TAUGHT_BY_WORDS:
        assert reading.text == words
    else:
        assert reading.text == class_name
        assert reading.hint == f'read "{words}" as "{class_name}"'


@pytest.mark.parametrize(
    "words",
    [
        *MADE_UP,
        *("kidney", "left kidney", "tumor in the liver", "bone tumor", "brain", "hair"),
        *("breast implant", "pneumonia", "white blood cell", "optic disc", "dog"),
    ],
)
def test_what_was_not_taught_is_said_and_asked_as_typed(
    reader: NameReader, words: str
) -> None:
    reading = reader.read(words)
    assert reading.text == words
    assert reading.hint.startswith(f'"{words}" is no name that this model was taught')
    assert "brain tumor" in reading.hint


@pytest.mark.parametrize(
    "prompt",
    [
        *("polyp", "Two polyps?", "tumor", "a suspicious lesion", "cyst"),
        *("a large cancer", "a small bright growth", "mass", "two masses"),
        "a large cancer in the contrast-enhanced brain MRI image",
        "one suspicious mass in the chest X-ray image",
        "malignant tumour in the upper left of the breast",
        "Two oval regular tumors at the top, center in the breast ultrasound image.",
        "The breast scan reveals a malignant lesion in the center quadrant.",
        "Presence of a benign lesion located at the upper section.",
        "No tumor in the breast ultrasound image.",
        *("no breast lump", "absence of a breast lump", "no growth in the bowel"),
        *("normal bowel", "no cancer in the head", "lesion-free skin"),
        *("a bowel without a growth", "left breast lump"),
        "one small oval brown melanoma, located in the center of the image",
        "the lung, left",
    ],
)
def test_a_clear_or_vague_prompt_stays_as_typed(
    reader: NameReader, prompt: str
) -> None:
    reading = reader.read(prompt)
    assert reading.text == prompt
    assert not reading.hint


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (
            "Segment the growth in the bowel at the upper left of the image",
            "Segment the polyp at the upper left of the image",
        ),
        ("please show me a breast lump", "please show me a breast tumor"),
        ("Where is the cancer in the head?", "Where is the brain tumor?"),
        (
            "find the birthmark on the skin, lower right",
            "find the skin lesion, lower right",
        ),
        ("an adenoma in the gut", "a polyp"),
    ],
)
def test_what_stands_around_the_name_is_kept(
    reader: NameReader, prompt: str, text: str
) -> None:
    assert reader.read(prompt).text == text


def _encode(_: str) -> torch.Tensor:
    return torch.tensor([[1.0, 0.0, 0.0]])


def test_without_a_book_every_prompt_stays() -> None:
    reader = NameReader(model_card("compact"), None, _encode)
    assert reader.read("growth in the bowel").text == "growth in the bowel"


def test_the_cosine_with_each_name_decides() -> None:
    """Just above the smallest likeness it is read; below, or beside another, not."""
    card = model_card("compact")

    def read(likeness: float, rival: float, other: float) -> str:
        vectors = np.array([[likeness], [rival], [other]], np.float16)
        vectors = np.concatenate([vectors, np.zeros((3, 2), np.float16)], axis=1)
        book = NameBook(("polyp", "skin lesion"), frozenset(), vectors)
        return NameReader(card, book, _encode).read("gizmo").text

    assert read(0.63, 0.5, 0.6) == "polyp"
    assert read(0.61, 0.5, 0.6) == "gizmo"
    assert read(0.8, 0.75, 0.6) == "gizmo"  # another kind of picture's, as near
    assert read(0.8, 0.5, 0.85) == "gizmo"  # something else's, nearer


def test_a_book_survives_the_disk(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float16)
    book = NameBook(("polyp", "skin lesion"), frozenset({"lesion"}), vectors)
    (tmp_path / NAMES).write_bytes(book.to_bytes())
    loaded = load_names(tmp_path)
    assert loaded is not None
    assert (loaded.classes, loaded.vague) == (book.classes, book.vague)
    np.testing.assert_array_equal(loaded.vectors, vectors)
    assert load_names(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("cut", [10, 200])
def test_a_damaged_book_is_refused(tmp_path: Path, cut: int) -> None:
    book = NameBook(("polyp",), frozenset(), np.eye(1, dtype=np.float16))
    (tmp_path / NAMES).write_bytes(book.to_bytes()[:cut][:-1])
    with pytest.raises(CheckpointError, match=NAMES):
        load_names(tmp_path)


def test_a_run_asks_what_it_read_and_tells_it() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    predictor = Predictor.load("compact")
    asked = ["growth in the bowel", "polyp"]
    read = segment(picture, asked, predictor, num_samples=1)
    assert read.prompts == tuple(asked)
    assert read.provenance["read_as"] == ["polyp", "polyp"]
    assert read.provenance["hints"] == ['read "growth in the bowel" as "polyp"']
    np.testing.assert_array_equal(read.probability[0], read.probability[1])
    typed = segment(picture, asked, predictor, num_samples=1, read_names=False)
    assert typed.provenance["read_as"] == asked
    assert typed.provenance["hints"] == []
    assert not np.array_equal(typed.probability[0], typed.probability[1])
