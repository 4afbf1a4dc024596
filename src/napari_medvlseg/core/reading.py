"""Names that a model has not learnt: read as the nearest one that it has, or said so.

A sentence encoder knows that a growth in the bowel is a polyp of the colon; a network
that was taught some names does not. Names are compared by the cosine of their mean word
vectors (Reimers and Gurevych, EMNLP 2019), and also with names of what the model was
not taught, so that "kidney" is read as nothing that it knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from torch import Tensor

    from napari_medvlseg.core.bundle import ModelCard
    from napari_medvlseg.core.name_book import NameBook

LEAST_LIKENESS = 0.62
"""Cosine from which two names may mean the same."""
LEAST_LEAD = 0.1
"""Of a name's cosine over that of the best name of another kind of picture."""
LONGEST = 7
"""Words of a name; more are a description."""
_TELLING = frozenset(
    ("is", "are", "was", "shows", "show", "reveals", "indicate", "detected", "presence")
)
"""Words of a sentence, which is no name."""
_DENYING = frozenset(
    (
        *("no", "not", "none", "nothing", "never", "without", "absence", "absent"),
        *("free", "negative", "normal", "healthy", "unremarkable"),
    )
)
"""Words that may say that something is not there, which no name would repeat."""
_SIDES = frozenset(("left", "right", "upper", "lower"))
"""Words that must not be lost where a name is exchanged for another."""
_QUALIFIERS = frozenset(
    (
        *("large", "small", "medium", "big", "tiny", "huge", "round", "oval", "dark"),
        *("irregular", "regular", "suspicious", "abnormal", "benign", "malignant"),
        *("bright", "solid", "possible", "visible", "single", "focal"),
    )
)
"""Words that tell of a finding, but not in which organ it is."""
_ASKING = (
    r"please|can you|could you|segment|find|show(?: me)?|mark|outline(?: of)?|detect"
    r"|delineate|locate|highlight|look for|where(?: is| are|'s)|is there|are there"
    r"|there (?:is|are)|we (?:see|found)|a|an|the|this|any|all|some|one|two|three"
)
_PLACE = (
    r"image|picture|photo|photograph|scan|slice|frame|view|ultrasound|mri|ct|x-ray"
    r"|radiograph|microscopy|left|right|top|bottom|upper|lower|middle|cent(?:er|re)"
)
_TO = r"in|at|on|near|towards?|of|within"
_PROMPT = re.compile(
    rf"^\s*(?:(?:{_ASKING})\s+)*"
    r"(?P<name>[^\s,;:][^,;:]*?)"
    r"(?:[,;:].*|\s+(?:located\s+|seen\s+|visible\s+)?"
    rf"(?:{_TO})\s+(?:(?:the|this)\s+)?(?:(?!(?:{_TO})\b)[\w'-]+\s+){{0,3}}"
    rf"(?:{_PLACE})\b.*)?[\s.?!]*$",
    re.IGNORECASE | re.DOTALL,
)
"""What is asked for, without the asking before it and the place after it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model is asked, for what a user typed."""

    text: str
    """The prompt, with a name that the model has learnt."""
    hint: str = ""
    """What to tell the user; empty where there is nothing to tell."""


class NameReader:
    """Reads prompts for one model.

    Parameters
    ----------
    card : ModelCard
    book : NameBook or None
        Without one, every prompt stays as it is.
    encode : callable
        A text to its word vectors (L, D).
    """

    def __init__(
        self,
        card: ModelCard,
        book: NameBook | None,
        encode: Callable[[str], Tensor],
    ) -> None:
        self._card, self._book, self._encode = card, book, encode

    def read(self, prompt: str) -> Reading:
        """Return the prompt as the model should be asked.

        It stays as it is where it holds a name that the model was taught, or no more
        than a word like "lesion", or is a description rather than a name.
        """
        match = _PROMPT.match(prompt)
        if self._book is None or match is None or self._is_clear(prompt, match["name"]):
            return Reading(prompt)
        name, book = match["name"], self._book
        likeness = self._likeness(book, name)
        own, other = likeness[: len(book.classes)], likeness[len(book.classes) :]
        learnt = book.classes[int(own.argmax())]
        best, stranger = float(own.max()), float(other.max(initial=-1.0))
        is_near = best >= LEAST_LIKENESS and best > stranger
        lead = best - self._best_elsewhere(book, own, learnt)
        loses_side = bool(_SIDES & set(_words(name)) - set(_words(learnt)))
        if is_near and lead >= LEAST_LEAD and not loses_side:
            hint = f'read "{name}" as "{learnt}"'
            return Reading(_exchanged(prompt, match.span("name"), learnt), hint)
        if is_near or (_vague(book, name) and stranger < LEAST_LIKENESS):
            return Reading(prompt)
        knows = ", ".join(concept.name for concept in self._card.concepts)
        hint = f'"{name}" is no name that this model was taught; it knows {knows}'
        return Reading(prompt, hint)

    def _is_clear(self, prompt: str, name: str) -> bool:
        """Whether the model can be asked as typed, or better is."""
        words = _words(name)
        vague = _vague(self._book, name)
        text = prompt.lower()
        described = any(kind.lower() in text for kind in self._card.modalities)
        return (
            self._card.concept_of(prompt) is not None
            or vague == [word for word in words if word not in _QUALIFIERS]
            or bool(vague and described)
            or len(words) > LONGEST
            or bool((_TELLING | _DENYING) & set(re.findall(r"[\w']+", name.lower())))
        )

    def _best_elsewhere(
        self, book: NameBook, own: npt.NDArray[np.float32], learnt: str
    ) -> float:
        """Return the best cosine of a class that another kind of picture shows."""
        kinds = {concept.name: concept.modality for concept in self._card.concepts}
        others = [kinds.get(name) != kinds.get(learnt) for name in book.classes]
        return float(own[others].max(initial=-1.0))

    def _likeness(self, book: NameBook, name: str) -> npt.NDArray[np.float32]:
        """Return the cosine of a name with every name of the book, (N,)."""
        words = self._encode(name)
        vector = functional.normalize(words.float().mean(dim=0), dim=0).cpu().numpy()
        likeness: npt.NDArray[np.float32] = book.vectors.astype(np.float32) @ vector
        return likeness


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case."""
    return re.findall(r"[\w'-]+", name.lower())


def _vague(book: NameBook | None, name: str) -> list[str]:
    """Return the words of a name that do not tell in which organ it is."""
    known = book.vague if book is not None else frozenset()
    return [
        word
        for word in _words(name)
        if not known.isdisjoint((word, word.removesuffix("s"), word.removesuffix("es")))
    ]


def _exchanged(prompt: str, span: tuple[int, int], name: str) -> str:
    """Return a prompt with a name in the place of another, and the article for it."""
    before = re.sub(r"\b([Aa])n?(\s+)$", r"\1\2", prompt[: span[0]])
    if name[0].lower() in "aeiou":
        before = re.sub(r"\b([Aa])(\s+)$", r"\1n\2", before)
    return before + name + prompt[span[1] :]
