"""What a prompt asks for, as a code: SNOMED CT where that is certain, else our own.

A prompt gets a public code only if the words that name its object are, as a whole, in
these tables: "liver" has one, "liver vessels" has not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIVATE_SCHEME = "99MEDVLSEG"
"""Designator of our own codes; those of private schemes begin with 99."""
MAX_MEANING = 64
_MEANING_OF_OURS = "Found by a text prompt"
_ORGANS: Mapping[str, tuple[str, ...]] = {
    "Aorta": ("aorta",),
    "Bladder": ("urinary bladder",),
    "BloodVessel": ("blood vessel", "blood vessels"),
    "Brain": ("brain",),
    "Breast": ("breast",),
    "CaudateNucleus": ("caudate nucleus",),
    "Esophagus": ("esophagus", "oesophagus"),
    "Gallbladder": ("gallbladder", "gall bladder"),
    "Heart": ("heart",),
    "Hippocampus": ("hippocampus",),
    "Kidney": ("kidney", "kidneys"),
    "LeftAtrium": ("left atrium",),
    "LeftVentricle": ("left ventricle",),
    "Liver": ("liver",),
    "Lung": ("lung", "lungs"),
    "LymphNode": ("lymph node", "lymph nodes"),
    "Nucleus": ("cell nucleus", "cell nuclei", "nuclei"),
    "OpticDiscStructure": ("optic disc",),
    "Pancreas": ("pancreas",),
    "Prostate": ("prostate",),
    "RightAtrium": ("right atrium",),
    "RightVentricle": ("right ventricle",),
    "Skin": ("skin",),
    "SpinalCord": ("spinal cord",),
    "Spleen": ("spleen",),
    "Stomach": ("stomach",),
    "Thyroid": ("thyroid", "thyroid gland"),
    "Trachea": ("trachea",),
    "Vertebra": ("vertebra", "vertebrae"),
}
"""pydicom's keywords for the codes of anatomy, and its names in prompts."""
_PAIRED = ("Kidney", "Lung")
"""Organs that are the patient's left or right one where a prompt says so."""
_CHANGES: Mapping[str, tuple[str, ...]] = {
    "Cyst": ("cyst", "cysts"),
    "Edema": ("edema", "oedema"),
    "Hemorrhage": ("hemorrhage", "haemorrhage"),
    "Lesion": ("lesion", "lesions"),
    "Mass": ("mass", "masses"),
    "Neoplasm": ("neoplasm", "neoplasms", "tumor", "tumors", "tumour", "tumours"),
    "Nodule": ("nodule", "nodules"),
}
"""Abnormal structures; the name of the organ that they are in may stand before."""
_ARTICLES = re.compile(
    r"^(?:(?:the|an?|one|two|three|both|all|every|each|any|patient's)\s+)+"
)
_TAIL = re.compile(r"[,;:.(]|\s(?:in|on|at|within|seen|shown|located)\s")


@dataclass(frozen=True, slots=True)
class Concept:
    """What a segment shows, in codes.

    Parameters
    ----------
    category, kind : pydicom.sr.coding.Code
    region, side : pydicom.sr.coding.Code, optional
        The organ that an abnormal structure is in; the patient's side.
    """

    category: Any
    kind: Any
    region: Any = None
    side: Any = None


def concept_of(prompt: str) -> Concept:
    """Return the codes of what a prompt asks for.

    Parameters
    ----------
    prompt : str
        "the left kidney in the CT image": what follows the name is passed over.
    """
    keywords = _known().get(_named(prompt))
    if keywords is None:
        return _private(prompt)
    return Concept(*(_code(keyword) if keyword else None for keyword in keywords))


def plain(text: str, length: int = MAX_MEANING) -> str:
    """Return a text as short as an element takes, without what separates values."""
    return " ".join(text.replace("\\", "/").split())[:length].rstrip()


@cache
def _known() -> Mapping[str, tuple[str, str, str, str]]:
    """Return keywords for category, kind, region and side by what prompts say."""
    normal, abnormal = "AnatomicalStructure", "MorphologicallyAbnormalStructure"
    vessels = (normal, "BloodVessel", "Retina", "")
    known: dict[str, tuple[str, str, str, str]] = {}
    known |= dict.fromkeys(("retinal vessels", "retinal blood vessels"), vessels)
    for kind, names in _CHANGES.items():
        known |= dict.fromkeys(names, (abnormal, kind, "", ""))
    for organ, names in _ORGANS.items():
        known |= dict.fromkeys(names, (normal, organ, "", ""))
        for side in ("left", "right") if organ in _PAIRED else ():
            sided = (normal, organ, "", side.capitalize())
            known |= {f"{side} {name}": sided for name in names}
        for kind, changes in _CHANGES.items():
            inside = (abnormal, kind, organ, "")
            known |= {f"{n} {change}": inside for n in names for change in changes}
    return known


def _named(prompt: str) -> str:
    """Return the words that name the object, in small letters."""
    name = _TAIL.split(prompt.lower().strip(), maxsplit=1)[0]
    return _ARTICLES.sub("", " ".join(name.split()) + " ").strip()


def _private(prompt: str) -> Concept:
    """Return codes of our own: the same for the same words."""
    from pydicom.sr.coding import Code

    words = " ".join(prompt.lower().split())
    value = hashlib.sha256(words.encode()).hexdigest()[:12].upper()
    return Concept(
        Code("PROMPTED", PRIVATE_SCHEME, _MEANING_OF_OURS),
        Code(value, PRIVATE_SCHEME, plain(prompt)),
    )


def _code(keyword: str) -> Any:
    """Return a code of SNOMED CT, as pydicom has it from the standard."""
    from pydicom.sr.codedict import codes

    return getattr(codes.SCT, keyword)
