"""Names of classes in prompts."""

from __future__ import annotations

import pytest

from napari_medvlseg.core.class_prompts import choose_classes, nearest_names
from napari_medvlseg.core.errors import PromptError

NAMES = ("Spleen", "Right kidney", "Left kidney", "Liver")


@pytest.mark.parametrize(
    ("prompts", "indices"),
    [
        (["all"], (0, 1, 2, 3)),
        (["liver"], (3,)),
        (["Left Kidney, the spleen"], (2, 0)),
        (["left kidney; liver", "left kidney"], (2, 3)),
        (["segment the liver in a CT image."], (3,)),
        (["the liver in an abdominal CT; the spleen in the MRI"], (3, 0)),
        (["liver", "all"], (3, 0, 1, 2)),
    ],
)
def test_classes_are_named_one_by_one_together_or_all(
    prompts: list[str], indices: tuple[int, ...]
) -> None:
    found = choose_classes(NAMES, prompts)
    assert (found.indices, found.hints) == (indices, ())
    assert found.prompts == tuple(NAMES[index] for index in indices)


def test_a_slip_of_the_pen_is_read_and_told() -> None:
    found = choose_classes(NAMES, ["splen, Liver"])
    assert found.indices == (0, 3)
    assert found.hints == ("'splen' was read as 'Spleen'",)
    with pytest.raises(PromptError, match="'splen'; the nearest"):
        choose_classes(NAMES, ["splen"], forgiving=False)


def test_an_unknown_name_gets_the_nearest_known_ones() -> None:
    with pytest.raises(PromptError, match="got 'kidneys'; the nearest of 4") as caught:
        choose_classes(NAMES, ["liver, kidneys"])
    assert "'Left kidney', 'Right kidney'" in str(caught.value)
    assert "'all' asks for every one" in str(caught.value)
    assert nearest_names("hepatic liver tissue", NAMES)[0] == "Liver"


@pytest.mark.parametrize("prompts", [[], [" , ;"]])
def test_nothing_is_no_prompt(prompts: list[str]) -> None:
    with pytest.raises(PromptError, match="Spleen, Right kidney"):
        choose_classes(NAMES, prompts)


def test_a_slip_in_names_that_are_alike_goes_to_the_nearer_one() -> None:
    names = ["Anterior hippocampus", "Posterior hippocampus"]
    assert choose_classes(names, ["anterior hipocampus"]).indices == (0,)
    assert choose_classes(names, ["posterior hippocampis"]).indices == (1,)
    with pytest.raises(PromptError, match="'Anterior hippocampus', 'Posterior"):
        choose_classes(names, ["terior hippocampus"])
    assert choose_classes(["Liver"], ["livr"]).indices == (0,)
