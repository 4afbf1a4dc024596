"""The many ways in which people ask for a structure, for training.

The authors' prompts of one set all have one form. A model that learns from them alone
learns that form, so most prompts are worded here: other names, other sentences, other
words for places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_medvlseg.core.captions import MANY, NUMBERS, location, names_a_side
from napari_medvlseg.core.training.vocabulary import (
    AMBIGUOUS,
    ELSEWHERE,
    FINDINGS,
    INNER_ORGANS,
    PLAIN,
    SHOWN,
    SYNONYMS,
    VAGUE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medvlseg.core.captions import Attributes
    from napari_medvlseg.core.targets import TargetInfo

_SYLLABLES = (
    *("bra", "zil", "quo", "fem", "tup", "nor", "gix", "vel", "dra", "mok", "lis"),
    *("pra", "wen", "sto", "rik", "ul", "ab", "ost", "ing", "oid", "ar", "eth", "yx"),
)
PLACES: Mapping[str, tuple[str, ...]] = {
    "top left": ("top left", "upper left", "left upper corner"),
    "top": ("top", "upper part", "upper area", "upper middle", "upper region"),
    "top right": ("top right", "upper right", "right upper corner"),
    "left": ("left", "left side", "left part", "left area"),
    "center": ("center", "middle", "central area", "centre", "central region"),
    "right": ("right", "right side", "right part", "right area"),
    "bottom left": ("bottom left", "lower left", "left lower corner"),
    "bottom": ("bottom", "lower part", "lower area", "lower middle"),
    "bottom right": ("bottom right", "lower right", "right lower corner"),
}
"""Words for the ninths of a picture."""
_BARE = (
    *("{what}", "{what}.", "the {name}", "{name}?", "find the {name}"),
    *("segment the {name}", "show me the {name}", "where is the {name}?"),
    *("{name} in this picture", "outline of the {name}", "please mark the {name}"),
    *("{what} in the {modality}", "this {modality} shows {what}", "all {name}"),
)
_NEGATED = (
    *("no {name}", "no {name} in the {modality}.", "there is no {name}"),
    *("no {name} in the image", "no sign of {name}", "without {name}"),
    *("no {name} can be seen in the {modality}", "{name} is absent"),
)
_PLACED = (
    *("{what} in the {where}", "{what} at the {where} of the {modality}"),
    *("there is {what} in the {where}", "{what} lies in the {where} of the image"),
    *("{what} can be seen in the {where}", "{where}: {what}", "{what}, {where}"),
    *("the {modality} shows {what} at the {where}", "{what} near the {where}"),
    *("we found {what} in the {where} of the picture", "the {name} on the {where}"),
    *("{what} is seen towards the {where}", "segment the {name} in the {where}"),
)


@dataclass(frozen=True, slots=True)
class Dice:
    """Seeded choices."""

    generator: torch.Generator

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        return float(torch.rand((), generator=self.generator))

    def pick(self, choices: Sequence[str]) -> str:
        """Choose one."""
        return choices[int(torch.randint(len(choices), (), generator=self.generator))]


def any_name(info: TargetInfo, dice: Dice, vague: float = 0.0) -> str:
    """Return the class name (30 %), another name, or (`vague`) one without an organ."""
    unclear = VAGUE.get(info.class_name, ())
    if unclear and dice.uniform() < vague:
        return dice.pick(unclear)
    kind = dice.uniform()
    others = SYNONYMS if kind < 0.6 else PLAIN
    if info.class_name not in others or kind < 0.3:
        return info.class_name
    return dice.pick(others[info.class_name])


def paraphrase(attributes: Attributes, info: TargetInfo, dice: Dice) -> str:
    """Word a true prompt of any form from measured attributes."""
    if attributes.number == 0:  # it is asked for, and is not there
        return any_name(info, dice)
    name = any_name(info, dice, vague=0.35)
    what = _noun_phrase(attributes, info, name, dice)
    where = ", ".join(dice.pick(PLACES[place]) for place in attributes.locations)
    placed = (
        bool(where)
        and attributes.number < MANY
        and not names_a_side(info.class_name)
        and dice.uniform() < 0.6
    )
    form = dice.pick(_PLACED if placed else _BARE)
    text = form.format(what=what, name=name, where=where, modality=info.modality)
    return text[0].upper() + text[1:] if dice.uniform() < 0.3 else text


def foreign_prompt(info: TargetInfo, dice: Dice) -> str:
    """Word a prompt for a structure of another kind of picture."""
    name = any_name(info, dice)
    if name in AMBIGUOUS:
        name = info.class_name
    if dice.uniform() < 0.4:  # as most people ask
        return name
    place = dice.pick(PLACES[location(dice.uniform(), dice.uniform(), 1, 1)])
    modality = info.modality if dice.uniform() < 0.5 else "image"
    size = dice.pick(("small", "large", "medium", "round", "irregular"))
    forms = (
        *(f"{name} in the {modality}", f"the {name}", f"segment the {name}"),
        f"one {size} {name}, located in the {place} of the image",
        f"one {size} {name} in the {place} of the {modality}",
        f"{name} at the {place}",
    )
    return dice.pick(forms)


def elsewhere_prompt(dataset: str, dice: Dice) -> str:
    """Word a prompt for what no picture of any set shows."""
    if dice.uniform() < 0.5:
        finding = dice.pick(FINDINGS[dice.pick(tuple(FINDINGS))])
        form = dice.pick(("{f} in the {o}", "{o} {f}", "{f} of the {o}"))
        name = form.format(f=finding, o=dice.pick(INNER_ORGANS))
    else:
        shown = SHOWN.get(dataset, ())
        name = dice.pick([name for name in ELSEWHERE if name not in shown])
    return dice.pick((name, f"the {name}", f"{name} in the image", f"one {name}"))


def negated_prompt(info: TargetInfo, dice: Dice) -> str:
    """Word that a structure is not there: nothing is asked for."""
    name = any_name(info, dice)
    text = dice.pick(_NEGATED).format(name=name, modality=info.modality)
    return text[0].upper() + text[1:] if dice.uniform() < 0.5 else text


def unknown_prompt(attributes: Attributes, info: TargetInfo, dice: Dice) -> str:
    """Word a prompt around a name that means nothing, true in everything else."""
    parts = [dice.pick(_SYLLABLES) for _ in range(2 + (dice.uniform() < 0.5))]
    name = "".join(parts)
    if dice.uniform() < 0.2:
        name = f"{name} {''.join(dice.pick(_SYLLABLES) for _ in range(2))}"
    where = ", ".join(dice.pick(PLACES[place]) for place in attributes.locations)
    if where and attributes.number < MANY and dice.uniform() < 0.4:
        form = dice.pick(("{n} in the {w}", "one {s} {n} in the {w} of the {m}"))
    else:
        bare = ("{n}", "the {n}", "segment the {n}", "one {s} {n} in the {m}")
        form = dice.pick(bare)
    modality = info.modality if dice.uniform() < 0.5 else "image"
    return form.format(n=name, w=where, s=attributes.size, m=modality)


def _noun_phrase(
    attributes: Attributes, info: TargetInfo, name: str, dice: Dice
) -> str:
    """Return for instance "a small round polyp": each attribute half of the time."""
    words = [
        word
        for word in (attributes.size, attributes.colour, attributes.shape)
        if word and dice.uniform() < 0.4
    ]
    if info.class_name == info.plural or attributes.number >= MANY:
        return " ".join([*words, name])
    if attributes.number == 1:
        first = (words or [name])[0]
        article = "an" if first[0] in "aeiou" else "a"
        number = dice.pick((article, "one", "the"))
    else:
        number = NUMBERS[attributes.number]
        if name.endswith("y"):
            name = f"{name[:-1]}ies"
        elif " the " not in name and " of " not in name and not name.endswith("s"):
            name = f"{name}s"
    return " ".join([number, *words, name])
