"""The prompts of training: true, varied, and never those that are held out."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from napari_medvlseg.core.captions import Attributes, describe
from napari_medvlseg.core.targets import HELD_OUT, TARGETS, TargetInfo
from napari_medvlseg.core.training.vocabulary import (
    AMBIGUOUS,
    PLAIN,
    SYNONYMS,
    VAGUE,
    clear_names,
)
from napari_medvlseg.core.training.wording import (
    PLACES,
    Dice,
    any_name,
    elsewhere_prompt,
    foreign_prompt,
    negated_prompt,
    paraphrase,
)

INFOS = sorted(
    {info for infos in TARGETS.values() for info in infos},
    key=lambda info: info.class_name,
)
BY_NAME = {info.class_name: info for info in INFOS}


NEW_WORDS = (
    *("lump", "bowel", "mole", "birthmark", "cerebral", "head", "pulmonary"),
    *("arteries", "veins", "tree", "core", "cores", "bodies", "body"),
)
"""Of the held-out phrases: training never shows these words in any phrase."""


def _dice(seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed))


def _one_at_the_upper_right() -> Attributes:
    mask = np.zeros((96, 96), np.bool_)
    mask[5:25, 70:90] = True
    return describe(mask)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: str(info.class_name))
def test_no_training_prompt_holds_a_held_out_phrase(info: TargetInfo) -> None:
    dice, attributes = _dice(), _one_at_the_upper_right()
    made = [paraphrase(attributes, info, dice) for _ in range(300)]
    made += [foreign_prompt(info, dice) for _ in range(300)]
    held_out = [phrase for phrases in HELD_OUT.values() for phrase in phrases]
    for prompt in made:
        assert not any(phrase in prompt.lower() for phrase in held_out), prompt
    assert len(set(made)) > 150


def test_every_class_has_held_out_words_that_are_no_synonyms() -> None:
    assert set(HELD_OUT) == set(BY_NAME)
    known = {
        name
        for info in INFOS
        for name in (*clear_names(info.class_name), *VAGUE.get(info.class_name, ()))
    }
    assert known.isdisjoint(name for names in HELD_OUT.values() for name in names)


def test_words_to_be_measured_with_are_in_no_training_prompt() -> None:
    """Not even in another phrase: "growth in the gut" may, "bowel" may not."""
    held_out = " ".join(name for names in HELD_OUT.values() for name in names)
    assert set(NEW_WORDS) <= set(held_out.split())
    dice, attributes = _dice(7), _one_at_the_upper_right()
    made = {name for info in INFOS for name in clear_names(info.class_name)}
    made |= {elsewhere_prompt("ISIC", dice) for _ in range(2000)}
    for info in INFOS:
        made |= {paraphrase(attributes, info, dice) for _ in range(300)}
        made |= {negated_prompt(info, dice) for _ in range(100)}
    words = {word for prompt in made for word in re.findall("[a-z]+", prompt.lower())}
    assert words.isdisjoint(NEW_WORDS)
    assert len(words) > 150


def test_a_name_belongs_to_one_class() -> None:
    names = [name for info in INFOS for name in set(clear_names(info.class_name))]
    assert len(names) == len(set(names))


def test_places_are_worded_truly() -> None:
    """Whatever the form, no word names another side."""
    dice, attributes = _dice(1), _one_at_the_upper_right()
    assert attributes.locations == ("top right",)
    placed = 0
    for _ in range(300):
        prompt = paraphrase(attributes, BY_NAME["polyp"], dice).lower()
        assert not re.search(r"\b(left|bottom|lower|center|middle)\b", prompt), prompt
        placed += bool(re.search(r"\b(top|upper) right\b|right upper", prompt))
    assert placed > 100


def test_every_ninth_of_a_picture_has_words() -> None:
    names = {
        " ".join(filter(None, (row, column)))
        for row in ("top", "", "bottom")
        for column in ("left", "", "right")
    }
    assert set(PLACES) == names - {""} | {"center"}
    for place, words in PLACES.items():
        assert place in words


def test_the_patients_side_is_never_mixed_with_the_pictures() -> None:
    dice, attributes = _dice(2), _one_at_the_upper_right()
    for _ in range(200):
        prompt = paraphrase(attributes, BY_NAME["left lung"], dice)
        assert "right" not in prompt.lower()


def test_foreign_prompts_are_never_vague() -> None:
    """A "lesion" may well be in a picture of another organ; a "polyp" is not."""
    dice = _dice(3)
    bare = {*AMBIGUOUS, *(name for names in VAGUE.values() for name in names)}
    for info in INFOS:
        made = {foreign_prompt(info, dice) for _ in range(300)}
        assert made.isdisjoint(bare)
        assert made.isdisjoint(f"the {name}" for name in bare)


def test_vague_names_come_only_when_asked_for() -> None:
    dice, info = _dice(4), BY_NAME["breast tumor"]
    clear = {any_name(info, dice) for _ in range(600)}
    assert clear <= set(clear_names(info.class_name))
    assert clear > {info.class_name, *SYNONYMS[info.class_name]}
    assert len(clear & set(PLAIN[info.class_name])) > 50
    assert {any_name(info, dice, vague=1.0) for _ in range(300)} == set(
        VAGUE[info.class_name]
    )


def test_what_is_not_there_is_asked_for_by_name() -> None:
    nothing = describe(np.zeros((32, 32), np.bool_))
    info = BY_NAME["polyp"]
    names = {*clear_names("polyp"), *VAGUE["polyp"]}
    dice = _dice(5)
    assert {paraphrase(nothing, info, dice) for _ in range(100)} <= names


def test_several_structures_are_counted() -> None:
    mask = np.zeros((96, 96), np.bool_)
    mask[5:25, 70:90] = mask[60:90, 5:30] = True
    dice = _dice(6)
    made = [paraphrase(describe(mask), BY_NAME["polyp"], dice) for _ in range(200)]
    assert any(re.search(r"\btwo\b.*\bpolyps\b", prompt, re.I) for prompt in made)
    assert not any(re.search(r"\b(one|three)\b", prompt) for prompt in made)
