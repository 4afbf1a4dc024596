"""Sentences to a 3D model that is asked in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_medvlseg.core.class_sentences import choose_asked, colors_of
from napari_medvlseg.core.errors import PromptError
from napari_medvlseg.core.training.medclipseg3d.config import WORDINGS
from tests.volume_models import SPEC

NAMES = ("hippocampus", "anterior hippocampus", "posterior hippocampus")
ASKED = replace(SPEC, exclusive=False, asks=True, picture="brain MRI")


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("index", range(3))
def test_every_wording_of_the_training_is_read_as_it_is(
    wording: str, index: int
) -> None:
    text = wording.format(NAMES[index], "brain MRI")
    found = choose_asked(ASKED, NAMES, [text])
    assert found.indices == (index,)
    assert found.prompts == (text,)
    assert found.sentences == ("" if text in NAMES else text,)
    assert found.hints == ()


@pytest.mark.parametrize(
    ("prompts", "indices"),
    [
        (["all"], (0, 1, 2)),
        (["segment all"], (0, 1, 2)),
        (["hippocampus, anterior hippocampus"], (0, 1)),
        (["The anterior hippocampus in a brain MRI; hippocampus"], (1, 0)),
        (["the anterior hippocampus, in a brain MRI"], (1,)),
        (["the posterior hippocampus, the hippocampus", "hippocampus"], (2, 0, 0)),
        (["hippocampus; Hippocampus", "hippocampus"], (0,)),
    ],
)
def test_prompts_are_names_or_sentences(
    prompts: list[str], indices: tuple[int, ...]
) -> None:
    assert choose_asked(ASKED, NAMES, prompts).indices == indices


def test_a_sentence_that_is_asked_beside_its_class_gets_a_colour_of_its_own() -> None:
    asked = "bright blob; the bright blob in a brain MRI; dark blob"
    found = choose_asked(ASKED, ASKED.names, [asked])
    first, second, third = colors_of(found, ASKED)
    assert (first, third) == ASKED.colors
    assert second not in ASKED.colors


def test_a_slip_is_put_right_in_its_sentence_and_told() -> None:
    found = choose_asked(ASKED, NAMES, ["the anterior hipocampus in a brain MRI"])
    assert found.indices == (1,)
    assert found.sentences == ("the anterior hippocampus in a brain MRI",)
    assert found.hints == ("'anterior hipocampus' was read as 'anterior hippocampus'",)
    bare = choose_asked(ASKED, NAMES, ["hipocampus"])
    assert (bare.indices, bare.sentences) == ((0,), ("",))
    with pytest.raises(PromptError, match="got 'hipocampus'"):
        choose_asked(ASKED, NAMES, ["hipocampus"], forgiving=False)


def test_words_that_were_never_taught_are_told() -> None:
    (hint,) = choose_asked(ASKED, NAMES, ["the left hippocampus"]).hints
    assert "not taught 'left'" in hint
    assert "'hippocampus' alone" in hint
    (hint,) = choose_asked(ASKED, NAMES, ["anterior and posterior hippocampus"]).hints
    assert "not taught 'anterior'" in hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("liver", "got 'liver'; the nearest are"),
        ("hippocampus; the liver in a brain MRI", "got 'the liver in a brain MRI'"),
        ("hippocampus, liver", "got 'liver'"),
        ("in a brain MRI", "got 'in a brain MRI'"),
        (";", "expected the name of a class"),
        (
            "the anterior hippocampus and the hippocampus",
            "expected one structure in .* got 'hippocampus' and 'anterior hippocampus'",
        ),
    ],
)
def test_what_names_none_or_two_is_refused(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        choose_asked(ASKED, NAMES, [text])


def test_classes_that_exclude_one_another_are_names_alone() -> None:
    found = choose_asked(SPEC, SPEC.names, ["the bright blob in an MR image"])
    assert found.prompts == ("Bright blob",)
    with pytest.raises(PromptError, match="got 'left bright blob'"):
        choose_asked(SPEC, SPEC.names, ["left bright blob"])


def test_a_comma_in_a_reworded_name_belongs_to_it() -> None:
    names = ("hippocampus, front part", "hippocampus")
    found = choose_asked(ASKED, names, ["hippocampus, front part, hippocampus"])
    assert found.indices == (0, 1)
    assert found.sentences == ("", "")
