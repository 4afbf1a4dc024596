from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from napari_medvlseg.core.io import dicom_codes
from napari_medvlseg.core.io.dicom_codes import PRIVATE_SCHEME, concept_of, plain


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("liver", "10200004"),
        ("The Liver in the CT image", "10200004"),
        ("both lungs", "39607008"),
        ("one tumor, located in the center of the image", "108369006"),
        ("nuclei", "84640000"),
        ("optic disc", "81016008"),
    ],
)
def test_what_a_prompt_names_has_its_code(prompt: str, code: str) -> None:
    concept = concept_of(prompt)
    assert (concept.kind.value, concept.kind.scheme_designator) == (code, "SCT")


@pytest.mark.parametrize(
    "prompt",
    [
        "liver vessels",
        "kidney stones",
        "everything but the liver",
        "liver without the tumor",
        "lung and heart",
        "left liver",
        "retinal tumor",
        "",
    ],
)
def test_what_is_not_certain_gets_a_code_of_our_own(prompt: str) -> None:
    concept = concept_of(prompt)
    assert concept.kind.scheme_designator == PRIVATE_SCHEME
    assert concept.category.scheme_designator == "99MEDVLSEG"
    assert len(concept.kind.value) <= 16
    assert concept.kind.meaning == prompt


def test_sides_are_the_patients_and_only_of_paired_organs() -> None:
    kidney = concept_of("the right kidney in the CT image")
    assert (kidney.kind, kidney.side) == (codes.SCT.Kidney, codes.SCT.Right)
    assert concept_of("kidney, on the right").side is None
    assert concept_of("left ventricle").side is None


def test_what_is_abnormal_lies_in_the_organ_that_is_named_before() -> None:
    nodule = concept_of("two lung nodules")
    assert nodule.category == codes.SCT.MorphologicallyAbnormalStructure
    assert (nodule.kind, nodule.region) == (codes.SCT.Nodule, codes.SCT.Lung)
    vessels = concept_of("retinal vessels in the fundus photograph")
    assert (vessels.kind, vessels.region) == (codes.SCT.BloodVessel, codes.SCT.Retina)


def test_the_same_words_have_the_same_code() -> None:
    one, same, other = (concept_of(p) for p in ("Odd  Thing", "odd thing", "odd"))
    assert one.kind.value == same.kind.value != other.kind.value


def test_every_name_has_a_code() -> None:
    for name in dicom_codes._known():
        assert concept_of(name).kind.scheme_designator == "SCT", name


def test_a_text_is_cut_to_what_an_element_takes() -> None:
    assert plain("a\\b  c") == "a/b c"
    assert len(plain("x" * 70)) == 64
