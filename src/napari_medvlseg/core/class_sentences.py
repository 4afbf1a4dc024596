"""Sentences to a 3D model that was asked for its structures in words.

Such a model reads what is typed, but knows only the structures that it was taught: a
sentence must name one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medvlseg.core.class_prompts import (
    EVERYTHING,
    ClassChoice,
    choose_classes,
    named_parts,
    parts_of,
    unknown_name,
)
from napari_medvlseg.core.class_texts import plain_name, words_of
from napari_medvlseg.core.errors import PromptError
from napari_medvlseg.core.palette import class_colors
from napari_medvlseg.core.spelling import misspelt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medvlseg.core.volume_spec import VolumeSpec

PLAIN = frozenset(
    words_of(
        "a all an and ct find from in image images is me mr mri of on outline please "
        "scan scans segment show that the this volume volumes where"
    )
)
"""Words that say nothing of what is meant."""


@dataclass(frozen=True, slots=True)
class _Mention:
    """A class that a part of a prompt names."""

    index: int
    prompt: str
    """The part, in which a misspelt name is put right."""
    sentence: str
    """The same where the model is to read it; empty where it is the bare name."""
    hints: tuple[str, ...]


def choose_asked(
    spec: VolumeSpec,
    names: Sequence[str],
    prompts: Sequence[str],
    *,
    forgiving: bool = True,
) -> ClassChoice:
    """Return what prompts ask a 3D model for.

    Parameters
    ----------
    spec : VolumeSpec
        Of a model whose classes exclude one another: prompts are their names, as
        `choose_classes` takes them. Of one that is asked in words: names or sentences.
    names : sequence of str
        Of its classes, as the user may have worded them anew.
    prompts : sequence of str
        Sentences have semicolons between them.
    forgiving : bool
        Whether a misspelt name is put right, with a hint.

    Raises
    ------
    PromptError
        If nothing is named, something that the model does not know, or two of its
        structures in one sentence.
    """
    if not spec.asks:
        return choose_classes(names, prompts, forgiving=forgiving)
    parts = [part for text in prompts for part in parts_of(text, names, ";\n")]
    found: dict[str, _Mention] = {}
    for part in named_parts(parts, names):
        if plain_name(part) in EVERYTHING:
            mentions = [_Mention(n, name, "", ()) for n, name in enumerate(names)]
        else:
            mentions = _read(part, names, spec.picture, forgiving=forgiving)
        for each in mentions:
            found.setdefault(each.prompt.casefold(), each)
    return ClassChoice(
        indices=tuple(each.index for each in found.values()),
        hints=tuple(hint for each in found.values() for hint in each.hints),
        prompts=tuple(each.prompt for each in found.values()),
        sentences=tuple(each.sentence for each in found.values()),
    )


def colors_of(choice: ClassChoice, spec: VolumeSpec) -> tuple[str, ...]:
    """Return the colour of each label: its class's, or another if that is taken."""
    spare = iter(class_colors(len(spec.colors) + len(choice.indices)))
    colors: list[str] = []
    for index in choice.indices:
        color = spec.colors[index]
        while color in colors:
            color = next(x for x in spare if x not in spec.colors)
        colors.append(color)
    return tuple(colors)


def _read(
    part: str, names: Sequence[str], picture: str, *, forgiving: bool
) -> list[_Mention]:
    """Return what is asked for between two semicolons: one sentence, or some names."""
    pieces = [piece for piece in parts_of(part, names, ",") if piece]
    read = [_mention(piece, names, picture, forgiving=forgiving) for piece in pieces]
    for piece, mention in zip(pieces, read, strict=True):
        if mention is None and untaught_words(piece, "", picture):
            raise PromptError(unknown_name(piece, names))
    mentions = [mention for mention in read if mention is not None]
    if not mentions:
        raise PromptError(unknown_name(part, names))
    if len(mentions) == len(pieces):
        return mentions
    whole = _mention(part, names, picture, forgiving=forgiving)  # ", in a brain MRI"
    return mentions if whole is None else [whole]


def _mention(
    part: str, names: Sequence[str], picture: str, *, forgiving: bool
) -> _Mention | None:
    """Return the one class that a text names, if it names any.

    Raises
    ------
    PromptError
        If it names two.
    """
    sentence = " ".join(part.split())
    hints: tuple[str, ...] = ()
    if forgiving and not _named(sentence, names):
        sentence, hints = _put_right(sentence, names)
    for index, name in enumerate(names):
        if sentence.casefold() == name.casefold():
            return _Mention(index, name, "", hints)
    named = _named(sentence, names)
    if len(named) > 1:
        two = " and ".join(repr(names[index]) for index in named[:2])
        msg = (
            f"expected one structure in {part!r}, got {two}; put a semicolon between "
            "two questions"
        )
        raise PromptError(msg)
    if not named:
        return None
    index = named[0]
    strangers = untaught_words(sentence, names[index], picture)
    if strangers:
        told = ", ".join(repr(word) for word in strangers)
        hint = (
            f"{sentence!r} was asked as typed, but this model was not taught {told}: "
            f"it may answer as for {names[index]!r} alone"
        )
        hints = (*hints, hint)
    return _Mention(index, sentence, sentence, hints)


def _named(text: str, names: Sequence[str]) -> list[int]:
    """Return the classes that a text names; of names in one another the longest."""
    left = words_of(text)
    found = []
    by_length = sorted(range(len(names)), key=lambda n: -len(words_of(names[n])))
    for index in by_length:
        name = words_of(names[index])
        for start in range(len(left) - len(name) + 1):
            if name and left[start : start + len(name)] == name:
                left[start : start + len(name)] = [""] * len(name)
                found.append(index)
                break
    return sorted(found)


def _put_right(text: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return a text with the first misspelt name put right, and a hint about it."""
    known = {" ".join(words_of(name)): index for index, name in enumerate(names)}
    words = text.split()
    for length in sorted({len(name.split()) for name in known}, reverse=True):
        for start in range(len(words) - length + 1):
            written = " ".join(words[start : start + length])
            index = misspelt(" ".join(words_of(written)), known)
            if index is not None:
                words[start : start + length] = [names[index]]
                return " ".join(words), (f"{written!r} was read as {names[index]!r}",)
    return text, ()


def untaught_words(text: str, name: str, picture: str) -> list[str]:
    """Return the words that are neither of the name nor of how one asks for it."""
    known = PLAIN | set(words_of(name)) | set(words_of(picture))
    return [word for word in dict.fromkeys(words_of(text)) if word not in known]
