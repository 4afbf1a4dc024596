"""Typing, suggestions and history of the prompt box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QPoint, Qt

from napari_medvlseg.plugin.prompt_view import PromptView
from napari_medvlseg.plugin.settings import MAX_HISTORY, Settings

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_medvlseg.core.bundle import ModelCard

Key = Qt.Key
Modifier = Qt.KeyboardModifier


@pytest.fixture
def view(qtbot: QtBot, settings: Settings, card: ModelCard) -> PromptView:
    made = PromptView(settings)
    qtbot.addWidget(made)
    made.set_concepts(card.concepts)
    made.show()
    return made


def test_enter_runs_and_adds_no_line(qtbot: QtBot, view: PromptView) -> None:
    qtbot.keyClicks(view.edit, "polyp")
    with qtbot.waitSignal(view.run_requested):
        qtbot.keyClick(view.edit, Key.Key_Return)
    assert view.text == "polyp"


def test_shift_enter_begins_a_line_and_does_not_run(
    qtbot: QtBot, view: PromptView
) -> None:
    qtbot.keyClicks(view.edit, "polyp")
    with qtbot.assertNotEmitted(view.run_requested):
        qtbot.keyClick(view.edit, Key.Key_Return, Modifier.ShiftModifier)
    qtbot.keyClicks(view.edit, "tool")
    assert view.prompts == ("polyp", "tool")


def test_tab_leaves_the_box(qtbot: QtBot, view: PromptView) -> None:
    qtbot.keyClick(view.edit, Key.Key_Tab)
    assert view.text == ""


def test_empty_and_repeated_lines_are_no_prompts(view: PromptView) -> None:
    view.set_text("a\n\n  \na\nb  c\n")
    assert view.prompts == ("a", "b c")


def test_typing_part_of_a_concept_offers_its_prompts(
    qtbot: QtBot, view: PromptView
) -> None:
    qtbot.keyClicks(view.edit, "HOLE")
    completer = view.edit.completer
    model = completer.completionModel()
    assert model is not None
    offered = [
        model.data(model.index(row, 0)) for row in range(completer.completionCount())
    ]
    assert offered == ["dark hole in the left", "dark hole"]


def test_a_chosen_completion_replaces_only_its_line(view: PromptView) -> None:
    view.set_text("first\nho")
    view.edit.completer.activated[str].emit("dark hole")
    assert view.prompts == ("first", "dark hole")


def test_enter_runs_although_completions_are_offered(
    qtbot: QtBot, view: PromptView
) -> None:
    qtbot.keyClicks(view.edit, "blo")
    with qtbot.waitSignal(view.run_requested):
        qtbot.keyClick(view.edit, Key.Key_Return)


def test_a_concept_types_its_example(view: PromptView) -> None:
    menu = view.concepts_button.menu()
    assert menu is not None
    action = next(one for one in menu.actions() if one.text() == "bright blob")
    action.trigger()
    assert view.text == "one bright blob"


def test_the_empty_box_shows_an_example_of_what_the_model_knows(
    view: PromptView, card: ModelCard
) -> None:
    shown = view.edit.placeholderText()
    assert shown == f"For example: {card.concepts[0].example}"
    view.set_concepts(card.concepts[1:])
    assert view.edit.placeholderText() == f"For example: {card.concepts[1].example}"
    view.set_concepts(())
    assert view.edit.placeholderText().startswith("For example: ")


def test_a_prompt_that_ran_is_there_in_the_next_session(
    view: PromptView, settings: Settings
) -> None:
    view.set_text("polyp\ntool")
    view.remember()
    assert settings.history() == ["polyp\ntool"]


def test_the_history_is_searched_by_words(view: PromptView, settings: Settings) -> None:
    for prompt in ("small polyp", "round polyp", "skin lesion"):
        settings.add_to_history(prompt)
    history = view.history
    history.open_at(QPoint(0, 0), settings.history())
    assert history.visible_prompts() == ["skin lesion", "round polyp", "small polyp"]
    history._search.setText("POLYP rou")
    assert history.visible_prompts() == ["round polyp"]
    history._search.returnPressed.emit()
    assert view.text == "round polyp"


def test_the_arrow_keys_walk_what_the_search_leaves(
    qtbot: QtBot, view: PromptView, settings: Settings
) -> None:
    for prompt in ("c polyp", "b lesion", "a polyp"):
        settings.add_to_history(prompt)
    history = view.history
    history.open_at(QPoint(0, 0), settings.history())
    history._search.setText("polyp")
    qtbot.keyClick(history._search, Key.Key_Down)
    qtbot.keyClick(history._search, Key.Key_Return)
    assert view.text == "c polyp"


def test_a_prompt_can_be_forgotten(
    qtbot: QtBot, view: PromptView, settings: Settings
) -> None:
    settings.add_to_history("secret")
    settings.add_to_history("kept")
    history = view.history
    history.open_at(QPoint(0, 0), settings.history())
    history._list.setCurrentRow(1)
    qtbot.keyClick(history._list, Key.Key_Delete)
    assert settings.history() == ["kept"]


def test_the_history_is_kept_short_and_without_repeats(settings: Settings) -> None:
    for number in range(MAX_HISTORY + 10):
        settings.add_to_history(f"prompt {number}")
    settings.add_to_history("prompt 50")
    history = settings.history()
    assert len(history) == MAX_HISTORY
    assert history[:2] == ["prompt 50", f"prompt {MAX_HISTORY + 9}"]
    assert history.count("prompt 50") == 1


def test_damaged_settings_are_the_defaults(settings: Settings) -> None:
    settings._store.setValue("samples", "{not json")
    assert settings.recall("samples", 30) == 30
    settings.remember("samples", "many")
    assert settings.recall("samples", 30) == 30
