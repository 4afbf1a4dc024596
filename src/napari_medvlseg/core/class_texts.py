"""What a class is called and looks like, and the sentences that a network reads."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

TEXT_FORMATS = ("concepts", "ambiguous", "aggregated", "names")
"""Table 2 of BiPVL-Seg: fixed concepts of each class; vague ones, of which some are
absent; all in one definition; the titles alone."""
CONCEPTS = {
    "shape": "Shape",
    "location": "Location",
    "appearance": "Appearance/Density",
    "contour": "Contour/Symmetry",
    "texture": "Internal Texture",
}
"""The fields of `ClassText` besides its title, and what sheets call them."""
_TAGS = {"appearance": "Appearance", "contour": "Contour", "texture": "Texture"}
_PLACE = re.compile(r"\s+in an?\s+[^,]*\bimages?$", re.IGNORECASE)
_LEADING = re.compile(r"^(?:please |segment |find |show )*(?:the |an? )?")
_TRAILING = re.compile(
    r" (?:in|on|of|from) (?:(?!(?:in|on|of|from) )[\w/+-]+ )*"
    r"(?:image|scan|volume|mri|mr|ct)s?$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassText:
    """A structure in words; a concept may be absent."""

    title: str
    """Its name and the kind of image: "Spleen in a CT image"."""
    shape: str = ""
    location: str = ""
    appearance: str = ""
    """Or density."""
    contour: str = ""
    """Or symmetry."""
    texture: str = ""
    called: str = ""
    """Its name, where the title does not tell it, as a vague one; else empty."""

    def __post_init__(self) -> None:
        if not self.title.strip():
            msg = "expected a class with a title, got one without; name the structure"
            raise ValueError(msg)

    @property
    def name(self) -> str:
        """Return what it is called, or the title without the kind of image."""
        return self.called.strip() or _PLACE.sub("", self.title)

    @property
    def concepts(self) -> dict[str, str]:
        """Return the concepts that are there, by field."""
        told = {field: getattr(self, field).strip() for field in CONCEPTS}
        return {field: text for field, text in told.items() if text}

    def description(self, text_format: str = "concepts") -> str:
        """Return all that is said of the class: what is fused with the image.

        Parameters
        ----------
        text_format : str
            One of `TEXT_FORMATS`.
        """
        _check_format(text_format)
        title = self.title.strip()
        if text_format == "names" or not self.concepts:
            return title
        if text_format == "aggregated":
            return " ".join([f"{title}.", *map(_sentence, self.concepts.values())])
        told = [
            f"{_TAGS.get(field, CONCEPTS[field])}: {_sentence(text)}"
            for field, text in self.concepts.items()
        ]
        return " ".join([f"{title}.", *told])

    def aligned_texts(self, text_format: str = "concepts") -> tuple[str | None, ...]:
        """Return what is aligned with the image: the title and each concept.

        A concept that is absent is None, so that each has its place. Of a definition
        or a name there is only one, and the local alignment has nothing to do.

        Parameters
        ----------
        text_format : str
            One of `TEXT_FORMATS`.
        """
        _check_format(text_format)
        if not has_concepts(text_format):
            return (self.description(text_format),)
        told = self.concepts
        return (
            self.title.strip(),
            *(
                f"{heading}: {told[field]}" if field in told else None
                for field, heading in CONCEPTS.items()
            ),
        )


@dataclass(frozen=True, slots=True)
class ClassSheet:
    """The classes of a model in the order of their labels, the first of which is 1."""

    classes: tuple[ClassText, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            msg = "expected at least one class, got none"
            raise ValueError(msg)
        names = [plain_name(name) for name in self.names]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            msg = (
                f"expected classes whose names differ, got {twice!r} twice; tell them "
                "apart by more than the kind of image"
            )
            raise ValueError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the classes' names."""
        return tuple(each.name for each in self.classes)

    def descriptions(self, text_format: str = "concepts") -> list[str]:
        """Return the description of each class."""
        return [each.description(text_format) for each in self.classes]

    def aligned_texts(
        self, text_format: str = "concepts"
    ) -> list[tuple[str | None, ...]]:
        """Return the texts of each class that are aligned with the image."""
        return [each.aligned_texts(text_format) for each in self.classes]


def texts_digest(sheet: ClassSheet, text_format: str) -> str:
    """Return a SHA-256 of all that a network reads of some classes, and their names."""
    told = (
        sheet.names,
        sheet.descriptions(text_format),
        sheet.aligned_texts(text_format),
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()


def words_of(text: str) -> list[str]:
    """Return a text's words in small letters, without its punctuation."""
    return re.sub(r"[^\w\s/+-]", " ", text.casefold()).split()


def plain_name(text: str) -> str:
    """Return a name without its case, article, kind of image and full stop.

    >>> plain_name("Find the wall of the bile duct in a CT scan.")
    'wall of the bile duct'
    """
    return _LEADING.sub("", _TRAILING.sub("", " ".join(words_of(text))))


def has_concepts(text_format: str) -> bool:
    """Return whether a format tells concepts apart, as the local alignment wants."""
    return text_format in ("concepts", "ambiguous")


def _sentence(text: str) -> str:
    """End a text with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _check_format(text_format: str) -> None:
    """Refuse a format that table 2 does not have."""
    if text_format not in TEXT_FORMATS:
        msg = (
            f"text_format must be one of {', '.join(TEXT_FORMATS)}, got {text_format!r}"
        )
        raise ValueError(msg)
