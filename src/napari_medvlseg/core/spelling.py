"""Names with slips of the pen: read word by word, so that none changes its meaning.

A whole name is a poor measure: with one word of five exchanged, the myocardium of the
right ventricle is spelt much like that of the left one.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

NEARLY = 0.85
"""Likeness of two spellings of a name, from which one is taken for the other."""
NEARLY_A_WORD = 0.75
"""The same of each word."""
CLEARLY = 0.05
"""By so much it must be more alike than the next: anterior and posterior are alike."""
SHORTEST = 4
"""Letters of a word that can be misspelt: L4 is not L5, nor is T1 T2."""
FILLERS = frozenset(("a", "an", "of", "the"))
"""Words that may be left out."""
PLACES = frozenset(
    (
        *("left", "right", "anterior", "posterior", "superior", "inferior", "upper"),
        *("lower", "inner", "outer", "interior", "exterior", "internal", "external"),
        *("medial", "lateral", "proximal", "distal", "dorsal", "ventral", "cranial"),
        *("caudal", "rostral", "ascending", "descending", "superficial", "deep"),
        *("central", "peripheral", "ipsilateral", "contralateral", "apical", "basal"),
        *("major", "minor", "systolic", "diastolic", "arterial", "venous"),
    )
)
"""Words that tell structures apart; none is a slip of the pen of another."""
PREFIXES = (
    *("ab", "ad", "ana", "ante", "endo", "epi", "hyper", "hypo", "infra", "inter"),
    *("intra", "meta", "micro", "macro", "non", "non-", "para", "peri", "post", "pre"),
    *("pro", "retro", "sub", "super", "supra"),
)
"""Beginnings that turn a word into another: abductor and adductor."""


def misspelt(plain: str, known: Mapping[str, int]) -> int | None:
    """Return the class whose name is spelt nearly so, and clearly more than others.

    Parameters
    ----------
    plain : str
        What was typed, in small letters.
    known : mapping
        Of each name in small letters, the class.

    Examples
    --------
    >>> names = {"ascending aorta": 0, "left ventricle": 1}
    >>> misspelt("ascnding aorta", names), misspelt("descending aorta", names)
    (0, None)
    """
    likeness = {name: likeness_of(plain, name) for name in known}
    best, *others = sorted(likeness, key=lambda name: likeness[name], reverse=True)
    runner_up = likeness[others[0]] if others else 0.0
    is_clear = likeness[best] >= max(NEARLY, runner_up + CLEARLY)
    vocabulary = PLACES.union(*(name.split() for name in known))
    means_it = is_clear and _same_words(plain, best, vocabulary)
    return known[best] if means_it else None


def likeness_of(one: str, other: str) -> float:
    """Return how alike two spellings are, 0 to 1."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _same_words(plain: str, name: str, vocabulary: Collection[str]) -> bool:
    """Return whether each word of a name is there, if misspelt."""
    typed, meant = (
        [word for word in text.split() if word not in FILLERS] for text in (plain, name)
    )
    if len(typed) != len(meant):  # "gall bladder", "gallbladder"
        return "".join(typed) == "".join(meant)
    pairs = zip(typed, meant, strict=True)
    return all(_is_slip(one, other, vocabulary) for one, other in pairs)


def _is_slip(word: str, meant: str, vocabulary: Collection[str]) -> bool:
    """Return whether a word is another one, or that with a slip of the pen in it."""
    if word == meant:
        return True
    short = min(len(word), len(meant)) < SHORTEST
    if short or word in vocabulary or not (word + meant).isalpha():
        return False
    if word[0] != meant[0] or _begin_otherwise(word, meant):
        return False
    rivals = [likeness_of(word, rival) for rival in vocabulary if rival != meant]
    return likeness_of(word, meant) >= max(NEARLY_A_WORD, *rivals)


def _begin_otherwise(word: str, meant: str) -> bool:
    """Return whether two words differ in their prefixes, and hardly in the rest."""
    ours, theirs = (
        [(prefix, text.removeprefix(prefix)) for prefix in PREFIXES if text != prefix]
        for text in (word, meant)
    )
    return any(
        prefix != other and likeness_of(rest, tail) >= NEARLY
        for prefix, rest in ours
        for other, tail in theirs
        if word.startswith(prefix) and meant.startswith(other)
    )
