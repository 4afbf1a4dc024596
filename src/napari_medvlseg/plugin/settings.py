"""What the dock remembers between sessions: choices and the prompt history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bool, int, float, str, list[str])

MAX_HISTORY = 200
HISTORY = "history"
FOLDER = "session_folder"
"""Of the last session that was saved or opened."""


class Settings:
    """Typed values in the user's own settings file, with a default for each.

    Parameters
    ----------
    store : QSettings, optional
        Where they are kept; by default the user's own file of this plugin.
    """

    def __init__(self, store: QSettings | None = None) -> None:
        self._store = store or QSettings(
            QSettings.Format.IniFormat,
            QSettings.Scope.UserScope,
            "napari-medvlseg",
            "napari-medvlseg",
        )

    def recall(self, name: str, default: T) -> T:
        """Return what was remembered; the default if that is absent or damaged."""
        try:
            value = json.loads(str(self._store.value(name, "")))
        except ValueError:
            return default
        return value if type(value) is type(default) else default

    def remember(self, name: str, value: bool | float | str | list[str]) -> None:  # noqa: FBT001 - the value is what is remembered
        """Keep a value under a name."""
        self._store.setValue(name, json.dumps(value))

    def choices(self) -> dict[str, str]:
        """Return all that is chosen in the dock, as it is stored."""
        return {
            str(name): str(self._store.value(name, ""))
            for name in self._store.allKeys()
            if name not in (HISTORY, FOLDER)
        }

    def restore(self, choices: Mapping[str, str]) -> None:
        """Remember choices of another session."""
        for name, value in choices.items():
            if name not in (HISTORY, FOLDER):
                self._store.setValue(name, str(value))

    def history(self) -> list[str]:
        """Return the prompts that were run, newest first."""
        return [str(prompt) for prompt in self.recall(HISTORY, list[str]())]

    def add_to_history(self, prompt: str) -> None:
        """Put a prompt first in the history, once."""
        older = [known for known in self.history() if known != prompt]
        self.remember(HISTORY, [prompt, *older][:MAX_HISTORY])

    def forget_history(self, prompt: str | None = None) -> None:
        """Forget one prompt, or all of them."""
        kept = [known for known in self.history() if prompt not in (None, known)]
        self.remember(HISTORY, kept)
