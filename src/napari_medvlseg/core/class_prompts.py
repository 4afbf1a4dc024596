"""Prompts to a 3D model: names of its classes, several of them, all, or sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from napari_medvlseg.core.class_texts import plain_name
from napari_medvlseg.core.errors import PromptError
from napari_medvlseg.core.spelling import likeness_of, misspelt

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "all"
EVERYTHING = (ALL, "everything", "all classes")
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
        all of them with the word all. What is named twice counts once. A class whose
        own name holds a comma is known by its whole name.
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
    asked = [part for text in prompts for part in parts_of(text, names)]
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


def parts_of(text: str, names: Sequence[str], between: str = ",;\n") -> list[str]:
    """Return what stands between commas, but for those that belong to a name.

    Parameters
    ----------
    text : str
    names : sequence of str
        Of the classes.
    between : str
        Characters that part one name from the next.

    Examples
    --------
    >>> parts_of("liver, right lobe, spleen", ["Liver, right lobe", "Spleen"])
    ['liver, right lobe', 'spleen']
    """
    mark = re.compile(f"[{between}]")
    whole = {plain_name(name) for name in names if mark.search(name)}
    ends = [0, *(found.end() for found in mark.finditer(text)), len(text) + 1]
    parts, first = [], 0
    while first < len(ends) - 1:
        spans = [text[ends[first] : end - 1] for end in ends[first + 1 :]]
        most = len(spans) if whole else 0
        taken = next(
            (n for n in range(most, 1, -1) if plain_name(spans[n - 1]) in whole), 1
        )
        parts.append(spans[taken - 1].strip())
        first += taken
    return parts


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
        return max(shared, likeness_of(plain, plain_name(name)))

    return sorted(names, key=likeness, reverse=True)[:OFFERED]


def unknown_name(part: str, names: Sequence[str]) -> str:
    """Return what to do about a name that is not known."""
    near = ", ".join(repr(name) for name in nearest_names(part, names))
    rest = "" if len(names) <= OFFERED else f" of {len(names)} classes"
    return (
        f"expected a structure that this model knows, got {part!r}; the nearest{rest} "
        f"are {near}, and {ALL!r} asks for every one"
    )
