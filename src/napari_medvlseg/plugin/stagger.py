"""Work on the main thread in small parts, with the event loop between them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stagger(QObject):
    """Advances iterators by one step per turn of the event loop, in order."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: deque[tuple[Iterator[None], Callable[[], None]]] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._advance)

    def add(self, parts: Iterator[None], then: Callable[[], None]) -> None:
        """Run the parts after those that wait, and call `then` at their end."""
        self._waiting.append((parts, then))
        self._timer.start()

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._timer.stop()

    def _advance(self) -> None:
        """Do one part."""
        if not self._waiting:
            self._timer.stop()
            return
        parts, then = self._waiting[0]
        try:
            next(parts)
        except StopIteration:
            self._waiting.popleft()
            then()
