"""Prompts to a 3D model: names of its classes, several of them, all, or sentences."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from napari_medvlseg.core.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "all"
EVERYTHING = (ALL, "everything", "all classes")
_BETWEEN = re.compile(r"[,;\n]")
_LEADING = re.compile(r"^(?:please |segment |find |show )*(?:the |an? )?")
_TRAILING = re.compile(
    r" (?:in|on|of|from) (?:the |an? |this )?[\w ]*(?:image|scan|volume|mri|mr|ct)s?$"
)
NEARLY = 0.85
"""Likeness of two spellings, from which one is taken for the other."""
CLEARLY = 0.05
"""By so much it must be more alike than the next: anterior and posterior are alike."""
OFFERED = 3
"""Names that are offered in place of an unknown one."""


class ClassChoice(NamedTuple):
    """Which classes of a model are wanted."""

    indices: tuple[int, ...]
    """Among the model's classes, in the order in which they were named."""
    hints: tuple[str, ...] = ()
    """What to tell the user."""
    prompts: tuple[str, ...] = ()
    """What each label of the result is called: the class, or the sentence."""
    sentences: tuple[str, ...] = ()
    """For each, what the model reads in place of the class's own words; empty where it
    reads those."""


def choose_classes(
    names: Sequence[str], prompts: Sequence[str], *, forgiving: bool = True
) -> ClassChoice:
    """Return the classes that prompts name.

    Parameters
    ----------
    names : sequence of str
        All that the model knows.
    prompts : sequence of str
        Each names one class or several, with commas or semicolons between them, or
        all of them with the word all. What is named twice counts once.
    forgiving : bool
        Whether a slip of the pen is read as the class that it is like, with a hint.

    Raises
    ------
    PromptError
        If nothing is named, or something that the model does not know.

    Examples
    --------
    >>> choose_classes(["Liver", "Left kidney"], ["the left kidney; liver"]).indices
    (1, 0)
    """
    asked = [part.strip() for text in prompts for part in _BETWEEN.split(text)]
    known = {plain_name(name): index for index, name in enumerate(names)}
    found: dict[int, None] = {}
    hints = []
    for part in named_parts(asked, names):
        plain = plain_name(part)
        if plain in EVERYTHING and plain not in known:
            found.update(dict.fromkeys(range(len(names))))
            continue
        index = known.get(plain)
        if index is None:
            index = misspelt(plain, known) if forgiving else None
            if index is None:
                raise PromptError(unknown_name(part, names))
            hints.append(f"{part!r} was read as {names[index]!r}")
        found[index] = None
    chosen = tuple(names[index] for index in found)
    return ClassChoice(tuple(found), tuple(hints), chosen, ("",) * len(chosen))


def named_parts(parts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the parts of prompts that are not empty.

    Raises
    ------
    PromptError
        If all are.
    """
    asked = [part for part in parts if part]
    if not asked:
        msg = f"expected the name of a class ({', '.join(names)}) or all, got none"
        raise PromptError(msg)
    return asked


def nearest_names(part: str, names: Sequence[str]) -> list[str]:
    """Return the names that are most like what was typed, best first."""
    plain = plain_name(part)

    def likeness(name: str) -> float:
        words = set(plain_name(name).split())
        shared = len(words & set(plain.split())) / max(len(words), 1)
        return max(shared, _ratio(plain, plain_name(name)))

    return sorted(names, key=likeness, reverse=True)[:OFFERED]


def words_of(text: str) -> list[str]:
    """Return a text's words in small letters, without its punctuation."""
    return re.sub(r"[^\w\s/+-]", " ", text.casefold()).split()


def plain_name(text: str) -> str:
    """Return a name without its case, article, kind of image and full stop."""
    return _LEADING.sub("", _TRAILING.sub("", " ".join(words_of(text))))


def misspelt(plain: str, known: dict[str, int]) -> int | None:
    """Return the class whose name is spelt nearly so, and clearly more than others."""
    likeness = {index: _ratio(plain, name) for name, index in known.items()}
    best, *others = sorted(likeness, key=lambda index: likeness[index], reverse=True)
    runner_up = likeness[others[0]] if others else 0.0
    is_clear = likeness[best] >= max(NEARLY, runner_up + CLEARLY)
    return best if is_clear else None


def unknown_name(part: str, names: Sequence[str]) -> str:
    """Return what to do about a name that is not known."""
    near = ", ".join(repr(name) for name in nearest_names(part, names))
    rest = "" if len(names) <= OFFERED else f" of {len(names)} classes"
    return (
        f"expected a structure that this model knows, got {part!r}; the nearest{rest} "
        f"are {near}, and {ALL!r} asks for every one"
    )


def _ratio(one: str, other: str) -> float:
    """Return how alike two spellings are, 0 to 1."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
