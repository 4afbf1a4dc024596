"""What training asks about a picture, and which answer it expects.

Every picture gets a true question. Some get another one: for what no such picture
shows, in other words, with a wrong place, or in words that mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_medvlseg.core.captions import MANY, caption_case, describe, names_a_side
from napari_medvlseg.core.targets import TARGETS, foreign_names
from napari_medvlseg.core.training.augment import mirror_words
from napari_medvlseg.core.training.wording import (
    Dice,
    any_name,
    elsewhere_prompt,
    foreign_prompt,
    negated_prompt,
    paraphrase,
    unknown_prompt,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_medvlseg.core.datasets import Case
    from napari_medvlseg.core.targets import TargetInfo
    from napari_medvlseg.core.training.augment import Pose

    Mask = npt.NDArray[np.bool_]
    Picture = npt.NDArray[np.uint8]

SHEET_SHARE = 0.4
"""Of the true prompts: the authors' own, where there are any."""
SHEET_SHARE_OF_NORMAL = 0.2
"""The same where nothing is to be found, which those prompts give away."""
DESIGNS = ("original", "missing_location", "underdescriptive", "class_name")
DESIGN_SHARES = (0.2, 0.1, 0.15, 0.25)
"""Of the other prompts, written from the changed mask; the rest are paraphrases."""
REWORDED, CONTRADICTORY, UNKNOWN, NEGATED = 1, 2, 3, 4
KIND_SHARES = (0.55, 0.1, 0.15, 0.15, 0.05)
"""Of the further questions: foreign ones, and the kinds above."""
DOUBTFUL = 0.5
"""What to answer inside the mask where the words leave open whether it is meant."""


class Question(NamedTuple):
    """A prompt and its answer."""

    prompt: str
    inside: float
    """The probability to give inside the mask: 1, 0, or `DOUBTFUL`."""


class Seen(NamedTuple):
    """A changed picture, as it is asked about."""

    case: Case
    mask: Mask
    """(H, W)"""
    picture: Picture
    """(H, W, 3)"""
    pose: Pose

    @property
    def info(self) -> TargetInfo:
        """What the set marks."""
        return self.case.info


def true_question(seen: Seen, dice: Dice) -> Question:
    """Ask for what is marked: in the authors' words, or in some of our own.

    A picture without anything to find is asked about by bare names, as if it were
    there: sheets that describe what lies where are to be believed.
    """
    if seen.case.absent:
        return Question(_foreign_prompt(seen, dice), 0.0)
    sheet = seen.case.prompt
    there = bool(seen.mask.any())
    share = SHEET_SHARE if there else SHEET_SHARE_OF_NORMAL
    if sheet is not None and dice.uniform() < share:
        return Question(mirror_words(sheet, seen.pose), 1.0)
    if not there:  # a name without an organ stays one of something that is there
        return Question(any_name(seen.info, dice), 1.0)
    return Question(_written_prompt(seen, dice), 1.0)


def further_question(seen: Seen, dice: Dice) -> Question:
    """Ask for something else, for nothing, or for the same in a doubtful way."""
    shares = torch.tensor(KIND_SHARES)
    kind = int(torch.multinomial(shares, 1, generator=dice.generator))
    if kind == REWORDED and not seen.case.absent:
        return Question(_written_prompt(seen, dice), 1.0)
    if kind == NEGATED:
        return Question(negated_prompt(seen.info, dice), 0.0)
    doubtful = _doubtful_prompt(seen, kind, dice)
    if doubtful is not None:
        return Question(doubtful, DOUBTFUL)
    return Question(_foreign_prompt(seen, dice), 0.0)


def _doubtful_prompt(seen: Seen, kind: int, dice: Dice) -> str | None:
    """Word what leaves open whether the marked is meant; None for other kinds."""
    if kind == CONTRADICTORY:
        return _contradictory_prompt(seen, dice)
    if kind == UNKNOWN:
        attributes = describe(seen.mask, seen.picture)
        return unknown_prompt(attributes, seen.info, dice)
    return None


def _written_prompt(seen: Seen, dice: Dice) -> str:
    """Word what the mask shows, in one of the designs or freely."""
    shares = torch.tensor([*DESIGN_SHARES, 1 - sum(DESIGN_SHARES)])
    choice = int(torch.multinomial(shares, 1, generator=dice.generator))
    info = seen.info
    if choice == len(DESIGNS):
        return paraphrase(describe(seen.mask, seen.picture), info, dice)
    if DESIGNS[choice] == "class_name":
        return any_name(info, dice, vague=0.15)
    text = _caption(seen, DESIGNS[choice], dice)
    if dice.uniform() < 0.4:
        text = text.replace(info.class_name, any_name(info, dice), 1)
    return text


def _contradictory_prompt(seen: Seen, dice: Dice) -> str | None:
    """Word a caption with the wrong size and place, where a caption tells a place."""
    attributes = describe(seen.mask)
    placed = bool(attributes.locations) and attributes.number < MANY
    if not placed or names_a_side(seen.info.class_name):
        return None
    return _caption(seen, "contradictory", dice)


def _foreign_prompt(seen: Seen, dice: Dice) -> str:
    """Word a prompt for something that no picture of this set shows."""
    dataset = seen.case.dataset
    if dice.uniform() < 0.2:
        return elsewhere_prompt(dataset, dice)
    name = dice.pick(foreign_names(dataset))
    info = next(i for infos in TARGETS.values() for i in infos if i.class_name == name)
    return foreign_prompt(info, dice)


def _caption(seen: Seen, design: str, dice: Dice) -> str:
    """Write a caption from any of its templates."""
    seed = int(torch.randint(1000, (), generator=dice.generator))
    return caption_case(seen.mask, seen.picture, seen.info, design=design, seed=seed)
