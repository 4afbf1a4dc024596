"""What is asked in training, and which answers are expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medvlseg.core.datasets import Case
from napari_medvlseg.core.targets import HELD_OUT, MADE_UP, MISMATCHED, TARGETS
from napari_medvlseg.core.training.augment import Pose
from napari_medvlseg.core.training.noise import SampleNoise
from napari_medvlseg.core.training.questions import (
    DOUBTFUL,
    Seen,
    further_question,
    true_question,
)
from napari_medvlseg.core.training.samples import (
    epoch_order,
    load_samples,
    plan_batch,
    render,
)
from napari_medvlseg.core.training.vocabulary import (
    ELSEWHERE,
    INNER_ORGANS,
    VAGUE,
    clear_names,
)
from napari_medvlseg.core.training.wording import Dice


def _seen(dataset: str, *, there: bool = True, sheet: str | None = None) -> Seen:
    info = TARGETS[dataset][0]
    case = Case(
        dataset=dataset,
        image_path=Path("a.png"),
        label_path=Path("b.png"),
        target=info.name,
        info=info,
        prompt=sheet,
    )
    mask = np.zeros((96, 96), np.bool_)
    mask[8:24, 70:90] = there
    picture = np.full((96, 96, 3), 90, np.uint8)
    return Seen(case, mask, picture, Pose(mirrored=False, upended=False))


def _dice() -> Dice:
    return Dice(torch.Generator().manual_seed(0))


def _names(class_name: str) -> set[str]:
    return {*clear_names(class_name), *VAGUE.get(class_name, ())}


def test_a_true_question_names_what_is_marked() -> None:
    dice, seen = _dice(), _seen("Kvasir", sheet="One small polyp at the top right")
    questions = [true_question(seen, dice) for _ in range(200)]
    for prompt, inside in questions:
        assert any(name in prompt.lower() for name in _names("polyp")), prompt
        assert inside == 1
    sheets = sum(prompt == seen.case.prompt for prompt, _ in questions)
    assert 50 < sheets < 110


def test_a_normal_picture_is_mostly_asked_about_as_if_a_tumor_were_there() -> None:
    dice = _dice()
    sheet = "No tumor in the breast ultrasound image."
    seen = _seen("BUSI", there=False, sheet=sheet)
    prompts = [true_question(seen, dice).prompt for _ in range(400)]
    telling = [p for p in prompts if p.lower().startswith(("no ", "there is no"))]
    assert 0 < len(telling) < 0.4 * len(prompts)
    bare = [prompt for prompt in prompts if prompt.lower() in _names("breast tumor")]
    assert len(bare) > 0.4 * len(prompts)
    assert not any("located in the" in prompt for prompt in prompts)


NOTHING = ("no ", "there is no ", "without ")


def test_further_questions_are_foreign_true_or_doubtful() -> None:
    dice, seen = _dice(), _seen("Kvasir")
    answers: dict[float, list[str]] = {0.0: [], 1.0: [], DOUBTFUL: []}
    for _ in range(600):
        prompt, inside = further_question(seen, dice)
        answers[inside].append(prompt.lower())
    own, foreign, doubtful = answers[1.0], answers[0.0], answers[DOUBTFUL]
    assert min(map(len, answers.values())) > 40
    assert all(any(name in prompt for name in _names("polyp")) for prompt in own)
    others = {*ELSEWHERE, *INNER_ORGANS}
    for name in MISMATCHED["Kvasir"]:
        others |= _names(name)
    nothing = [p for p in foreign if p.startswith(NOTHING) or p.endswith("is absent")]
    assert len(nothing) > 10
    assert all(any(name in prompt for name in _names("polyp")) for prompt in nothing)
    foreign = [prompt for prompt in foreign if prompt not in nothing]
    assert all(any(name in prompt for name in others) for prompt in foreign)
    wrong = [prompt for prompt in doubtful if "polyp" in prompt]
    assert wrong
    assert all("bottom left" in prompt for prompt in wrong)  # it lies at the top right
    meaningless = set(doubtful) - set(wrong)
    assert len(meaningless) > 50
    for prompt in meaningless:
        assert not any(name in prompt for name in others | _names("polyp")), prompt


def test_no_further_question_holds_a_word_that_is_kept_for_measuring() -> None:
    dice, seen = _dice(), _seen("ISIC")
    kept = {word for words in HELD_OUT.values() for word in words} | set(MADE_UP)
    for _ in range(600):
        words = further_question(seen, dice).prompt.lower()
        assert not any(word in words for word in kept), words


@pytest.mark.parametrize("dataset", ["RetinaVessels", "ChestXrayLungs"])
def test_what_has_no_place_is_never_contradicted(dataset: str) -> None:
    dice = _dice()
    seen = _seen(dataset)
    for column in range(0, 96, 12):  # many components
        seen.mask[40:46, column : column + 6] = True
    names = [name for info in TARGETS[dataset] for name in _names(info.class_name)]
    for _ in range(300):
        prompt, inside = further_question(seen, dice)
        if inside == DOUBTFUL:
            assert not any(name in prompt.lower() for name in names), prompt


def test_a_batch_asks_about_some_of_its_pictures_twice(tiny_set: Path) -> None:
    samples = load_samples(tiny_set / "Kvasir", "train") * 2
    noise = SampleNoise.seeded(range(8))
    plan = plan_batch(samples, 64, noise, [0, 3, 4, 7])
    batch = render(plan, noise)
    assert batch.images.shape == (8, 3, 64, 64)
    assert len(plan.prompts) == len(batch.masks) == len(plan.sided) == 12
    assert plan.matched.tolist() == [True] * 8 + [False] * 4
    assert plan.again.tolist() == [0, 3, 4, 7]
    assert not plan.sided.any()
    for row, masked in zip(plan.again.tolist(), batch.masks[8:], strict=True):
        inside = masked.amax()
        assert inside in (0, DOUBTFUL, 1)
        torch.testing.assert_close(masked, batch.masks[row] * inside)


def test_normal_pictures_can_come_up_more_often(tiny_set: Path) -> None:
    samples = load_samples(tiny_set / "Kvasir", "train")
    samples[2].mask[:] = False
    order = epoch_order(samples, {"Kvasir": 2.0}, 0, 0, normal_weight=3.0)
    assert [order.count(index) for index in range(4)] == [2, 2, 6, 2]
