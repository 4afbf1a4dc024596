"""Ctrl-C and termination signals: one exception, once, and never a traceback."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130
"""The exit code."""


class Interrupted(KeyboardInterrupt):
    """Someone asked the program to stop.

    A subclass, because Python ends a process by SIGINT instead of with its own exit
    code once exactly `KeyboardInterrupt` has left code that `exec` got as a text,
    whoever caught it. Dataclasses and named tuples are made by such code.
    """


@contextmanager
def interrupts(*, process_ends: bool) -> Iterator[Callable[[], None]]:
    """Raise `Interrupted` at SIGINT and SIGTERM, but where they are ignored.

    As long as an earlier `Interrupted` is on its way, further signals change nothing:
    the clean-up is never cut short. Where something swallowed it, the next signal
    raises again.

    Parameters
    ----------
    process_ends : bool
        Whether the process ends after the context: a signal then ends it at once,
        without a traceback. Else the earlier handlers come back.

    Yields
    ------
    callable
        Ignores all signals until the context is left: for who caught `Interrupted`.
    """
    # A shell's background job ignores SIGINT; None is a handler that is not Python's.
    earlier = {
        number: handler
        for number in NUMBERS
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }

    on_their_way: WeakSet[Interrupted] = WeakSet()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not on_their_way:
            raise _one_more(on_their_way)

    def ignore() -> None:
        for number in earlier:
            signal.signal(number, signal.SIG_IGN)

    try:
        for number in earlier:
            signal.signal(number, interrupt)
        yield ignore
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if process_ends else handler)


def tell_interrupted(stop: KeyboardInterrupt) -> None:
    """Print that the program was stopped, and what is left of its work.

    Of several processes that train together, only the first one does.
    """
    from napari_medvlseg.core.training.launch import is_first

    if not is_first():
        return
    left = stop if stop.args else "nothing half-written is left"
    print(f"medvlseg: interrupted; {left}", file=sys.stderr)


def _one_more(stops: WeakSet[Interrupted]) -> Interrupted:
    """Make and remember one; a name in the frame that raises would keep it for ever."""
    stop = Interrupted()
    stops.add(stop)
    return stop
