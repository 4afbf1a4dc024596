"""Names of classes in prompts."""

from __future__ import annotations

import pytest

from napari_medvlseg.core.class_prompts import choose_classes, nearest_names
from napari_medvlseg.core.class_texts import plain_name
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


WHS = (
    "Left ventricle",
    "Right ventricle",
    "Left atrium",
    "Right atrium",
    "Myocardium of the left ventricle",
    "Ascending aorta",
    "Pulmonary artery",
)


@pytest.mark.parametrize(
    ("names", "typed"),
    [
        (WHS[:1] + WHS[4:], "myocardium of the right ventricle"),
        (WHS, "descending aorta"),
        (WHS, "desending aorta"),
        (("Superior vena cava",), "inferior vena cava"),
        (("Upper lobe of the left lung",), "lower lobe of the left lung"),
        (("Upper lobe of the left lung",), "upper lobe of the right lung"),
        (("Outer wall of the bladder",), "inner wall of the bladder"),
        (("Anterior cruciate ligament",), "posterior cruciate ligament"),
        (("Medial meniscus of the knee",), "lateral meniscus of the knee"),
        (("Adductor muscle of the thigh",), "abductor muscle of the thigh"),
        (("Intraventricular hemorrhage",), "interventricular hemorrhage"),
        (("Enhancing tumor",), "non-enhancing tumor"),
        (("Body of the vertebra L4",), "body of the vertebra L5"),
        (("Left parotid artery",), "left carotid artery"),
    ],
)
def test_no_word_is_taken_for_one_that_means_something_else(
    names: tuple[str, ...], typed: str
) -> None:
    with pytest.raises(PromptError, match=f"got '{typed}'; the nearest") as caught:
        choose_classes(names, [typed])
    assert repr(nearest_names(typed, names)[0]) in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ascnding aorta", "Ascending aorta"),
        ("myocardum of the left ventricle", "Myocardium of the left ventricle"),
        ("myocardium of left ventricle", "Myocardium of the left ventricle"),
        ("pulmonry artary", "Pulmonary artery"),
        ("rght atrium", "Right atrium"),
        ("pulmonaryartery", "Pulmonary artery"),
    ],
)
def test_each_word_may_be_misspelt(typed: str, meant: str) -> None:
    found = choose_classes(WHS, [typed])
    assert found.prompts == (meant,)
    assert found.hints == (f"{typed!r} was read as {meant!r}",)


LOBES = ("Liver, right lobe", "Spleen; accessory", "Liver", "Liver, left lobe")


@pytest.mark.parametrize(
    ("prompts", "indices"),
    [
        (["liver, right lobe"], (0,)),
        (["Liver, left lobe, the liver; Liver, right lobe"], (3, 2, 0)),
        (["liver, spleen; accessory"], (2, 1)),
        ([", ".join(LOBES)], (0, 1, 2, 3)),  # all, as the dock asks for them
        (["all"], (0, 1, 2, 3)),
        (["liver, liver , right  lobe,"], (2, 0)),
    ],
)
def test_a_comma_in_a_name_belongs_to_it(
    prompts: list[str], indices: tuple[int, ...]
) -> None:
    assert choose_classes(LOBES, prompts).indices == indices


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the wall of the bile duct", "wall of the bile duct"),
        ("border of the infarct", "border of the infarct"),
        ("border of the infarct in an MRI scan", "border of the infarct"),
        ("Tumor in the left kidney in a CT image.", "tumor in the left kidney"),
        ("the liver on this T1-weighted MR", "liver"),
    ],
)
def test_only_the_kind_of_image_is_cut_from_a_name(text: str, name: str) -> None:
    assert plain_name(text) == name
