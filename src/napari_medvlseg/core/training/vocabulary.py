"""The names that training gives to what it asks for: a finding in an organ, or a word.

A text encoder knows that the gut is the colon; the model has to learn to listen. Each
name is therefore made of many words, and what people may say beside them is left out on
purpose: `targets.HELD_OUT` measures whether the model listens to words that it has not
met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "breast tumor": (
        *("breast lesion", "breast mass", "tumor in the breast"),
        *("breast tumour", "mass in the breast", "breast nodule"),
    ),
    "polyp": (
        *("colon polyp", "colorectal polyp", "polyps", "intestinal polyp"),
        *("polyp in the colon", "colonic lesion"),
    ),
    "skin lesion": (
        *("melanoma", "pigmented lesion", "lesion on the skin"),
        *("dark spot on the skin", "lesion of the skin"),
    ),
    "brain tumor": (
        *("brain lesion", "tumor in the brain", "enhancing tumor"),
        *("intracranial mass", "brain tumour", "mass in the brain"),
    ),
    "lungs": (
        "both lungs",
        "lung fields",
        "left and right lung",
        "lungs of the patient",
    ),
    "left lung": ("patient's left lung", "lung, left"),
    "right lung": ("patient's right lung", "lung, right"),
    "retinal vessels": (
        *("blood vessels", "retinal blood vessels", "vessels", "vessels of the retina"),
    ),
    "cell nuclei": ("nuclei", "nucleus", "stained nuclei", "nuclei of cells"),
    "white blood cell nucleus": (
        *("nucleus of the white blood cell", "leukocyte nucleus"),
        "nucleus of the leukocyte",
    ),
    "white blood cell cytoplasm": (
        *("cytoplasm", "cytoplasm of the white blood cell", "leukocyte cytoplasm"),
        "cytoplasm of the leukocyte",
    ),
}
"""Other names of the classes, which the widget suggests too."""
VAGUE: Mapping[str, tuple[str, ...]] = {
    "breast tumor": (
        *("tumor", "lesion", "mass", "nodule", "growth", "abnormality", "tumour"),
        *("suspicious area", "abnormal area"),
    ),
    "polyp": ("lesion", "abnormality", "abnormal tissue"),
    "skin lesion": ("lesion", "spot", "abnormality", "dark sore"),
    "brain tumor": ("tumor", "lesion", "mass", "abnormality", "neoplasm"),
}
"""Names that say nothing about the organ: true of a picture, never false of one."""

_ANYWHERE = (
    *("tumor", "tumour", "lesion", "mass", "growth", "nodule", "neoplasm"),
    *("abnormality", "swelling", "cancer"),
)
FINDINGS: Mapping[str, tuple[str, ...]] = {
    "breast tumor": (*_ANYWHERE, "carcinoma", "cyst", "knot", "fibroadenoma"),
    "polyp": (
        *(*_ANYWHERE, "polyp", "outgrowth", "adenoma", "bump", "protrusion"),
        "polypoid lesion",
    ),
    "skin lesion": (
        *("spot", "mark", "lesion", "patch", "blemish", "nevus", "naevus", "melanoma"),
        *("tumor", "growth", "sore", "freckle", "dark patch", "brown spot", "cancer"),
    ),
    "brain tumor": (*_ANYWHERE, "glioma", "meningioma", "metastasis", "enhancement"),
}
"""What is looked for in an organ."""
ORGANS: Mapping[str, tuple[str, ...]] = {
    "breast tumor": ("breast", "breast tissue", "bosom", "mammary gland"),
    "polyp": (
        *("colon", "large intestine", "intestine", "gut", "rectum", "colon wall"),
        *("intestinal wall", "digestive tract", "sigmoid"),
    ),
    "skin lesion": ("skin", "skin surface", "epidermis", "patient's skin"),
    "brain tumor": ("brain", "skull", "brain tissue", "brain matter", "cranium"),
}
"""And the names of the organ."""
_FORMS = ("{finding} in the {organ}", "{finding} of the {organ}", "{organ} {finding}")
_PLAIN: Mapping[str, tuple[str, ...]] = {
    "lungs": (
        *("pair of lungs", "respiratory organs", "lung areas", "lung regions"),
        *("lung parenchyma", "air-filled lungs", "breathing organs"),
        *("both sides of the lungs", "the two lungs", "right and left lungs"),
    ),
    "left lung": (
        *("left lung field", "lung on the patient's left", "left-sided lung"),
        *("left lung area", "left breathing organ", "left one of the lungs"),
    ),
    "right lung": (
        *("right lung field", "lung on the patient's right", "right-sided lung"),
        *("right lung area", "right breathing organ", "right one of the lungs"),
    ),
    "retinal vessels": (
        *("vasculature", "retinal vasculature", "network of blood vessels"),
        *("vascular network", "vascular system", "capillaries", "branching vessels"),
        *("arterioles and venules", "vessels of the eye", "eye vessels"),
        *("blood vessels in the eye", "blood supply of the retina", "vessel branches"),
    ),
    "cell nuclei": (
        *("cell nucleus", "centers of the cells", "cell centers", "cell kernels"),
        *("kernels of the cells", "chromatin", "stained centers of cells"),
        *("inner parts of the cells", "nucleus of each cell", "middle of each cell"),
    ),
    "white blood cell nucleus": (
        *("center of the white blood cell", "inner part of the white blood cell"),
        *("leukocyte center", "kernel of the white blood cell", "white cell nucleus"),
        *("nucleus of the white cell", "dark inside of the leukocyte"),
        *("middle of the leukocyte", "dark middle of the white blood cell"),
    ),
    "white blood cell cytoplasm": (
        *("cell plasma of the leukocyte", "outer part of the white blood cell"),
        *("cytoplasm around the nucleus", "pale part around the nucleus"),
        *("white cell cytoplasm", "rim of the white blood cell", "cell plasma"),
        *("outer region of the leukocyte", "bright part of the white blood cell"),
    ),
}
PLAIN: Mapping[str, tuple[str, ...]] = {
    **_PLAIN,
    **{
        name: tuple(
            form.format(finding=finding, organ=organ)
            for form in _FORMS
            for finding in FINDINGS[name]
            for organ in ORGANS[name]
        )
        for name in FINDINGS
    },
}
"""Words of every day for the classes: every finding in every organ, or a list."""
AMBIGUOUS = frozenset(
    {
        *("vessels", "nucleus", "nuclei", "cytoplasm", "blood vessels"),
        *("vasculature", "network of blood vessels", "vascular network"),
        *("vascular system", "capillaries", "branching vessels", "vessel branches"),
        *("arterioles and venules", "enhancing tumor", "melanoma"),
    }
)
"""Names that, alone, could mean what another kind of picture does show."""
ELSEWHERE = (
    *("liver", "kidney", "spleen", "prostate", "pancreas", "tooth", "gallbladder"),
    *("uterus", "knee cartilage", "thyroid nodule", "lymph node", "bladder", "heart"),
    *("car", "dog", "flower", "house", "letter", "hand", "face", "pizza"),
    *("aorta", "vertebra", "rib", "femur", "appendix", "ovary", "optic disc"),
    *("bottle", "bicycle", "cloud", "book", "window", "shoe", "bird", "airplane"),
)
"""What no picture of any set is asked for, or shows."""
INNER_ORGANS = (
    *("liver", "kidney", "spleen", "prostate", "pancreas", "gallbladder", "uterus"),
    *("thyroid", "bladder", "stomach", "ovary", "bone", "spine", "esophagus"),
    *("adrenal gland", "larynx", "throat", "testicle", "cervix"),
)
"""In which no picture of any set shows a finding."""
NEIGHBOURS = (
    *("brain", "skull", "brain tissue", "white matter", "gray matter", "cerebellum"),
    *("brain ventricle", "ventricles", "stroke", "hemorrhage in the brain"),
    *("edema in the brain", "bleeding in the brain", "cerebrospinal fluid"),
    *("breast", "breast tissue", "nipple", "breast implant", "milk duct"),
    *("breast fat", "mammary gland", "lymph node in the armpit", "chest muscle"),
    *("colon", "large intestine", "rectum", "colon wall", "stool", "diverticulum"),
    *("ulcer in the colon", "bleeding in the gut", "fold of the colon", "colitis"),
    *("surgical instrument", "endoscope", "air bubble", "ruler", "ink mark", "gel"),
    *("skin", "hair", "hair on the skin", "skin surface", "wrinkle", "fingernail"),
    *("rib", "collarbone", "pneumonia", "pleural effusion", "pneumothorax"),
    *("trachea", "chest drain", "diaphragm", "pacemaker", "lung nodule"),
    *("lung cancer", "mediastinum", "chest", "airway", "bronchus", "right atrium"),
    *("left ventricle of the heart", "heart muscle", "artery of the heart"),
    *("eye", "retina", "macula", "fovea", "exudates", "hemorrhage in the retina"),
    *("microaneurysm", "optic nerve", "drusen", "retinal detachment", "pupil"),
    *("red blood cell", "platelet", "blood", "bacteria", "cell membrane"),
    *("cell wall", "white blood cell", "leukocyte", "lymphocyte", "mitochondria"),
)
"""What lies beside the targets and is not one of them."""
SHOWN: Mapping[str, tuple[str, ...]] = {"CardiacCine": ("heart",)}
"""What of `ELSEWHERE` is shown nevertheless."""


def clear_names(class_name: str) -> tuple[str, ...]:
    """Return every name that a class may get but for the vague ones."""
    return (
        class_name,
        *SYNONYMS.get(class_name, ()),
        *PLAIN.get(class_name, ()),
    )


def other_names() -> tuple[str, ...]:
    """Return names of what no class is: things elsewhere, and beside the targets."""
    findings = ("tumor", "growth", "lesion", "polyp", "mass", "cyst", "stone")
    inner = (f"{name} in the {organ}" for organ in INNER_ORGANS for name in findings)
    return tuple(dict.fromkeys((*ELSEWHERE, *INNER_ORGANS, *NEIGHBOURS, *inner)))


def vague_words() -> frozenset[str]:
    """Return words for a finding that do not tell in which organ it is."""
    names = (*(name for names in VAGUE.values() for name in names), *_ANYWHERE)
    more = ("cyst", "knot", "spot", "mark", "patch", "bump", "sore", "outgrowth")
    single = (name for name in (*names, *more, "protrusion") if " " not in name)
    return frozenset(single)
