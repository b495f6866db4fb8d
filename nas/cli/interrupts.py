"""Ctrl-C, SIGTERM and SIGHUP, which a closed terminal sends, while a command runs. This imports nothing heavy."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

INTERRUPTED = 130
#: seconds after the first signal in which further ones are ignored: what is under way is being brought to its end
PATIENCE_SECONDS = 5.0
#: seconds after which a signal that came during an import is looked at again
AGAIN_SECONDS = 0.05

#: an entry for each piece of work that must be brought to an end
_work: list[None] = []
#: an entry if this process is a command, so that it ends when the command does
_process: list[None] = []

Handler = Callable[[int, "FrameType | None"], None]


def end_at_once() -> None:
    """From now on, a signal ends the process with one line. For the start of a process that is a command."""
    _process.append(None)
    _install(_end)


def send(number: int) -> None:
    """Send a signal to the main thread, which wakes up for it."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextmanager
def under_way() -> Iterator[None]:
    """A context of work that a signal must not cut short, such as a run whose end is noted in its manifest."""
    _work.append(None)
    try:
        yield
    finally:
        _work.pop()


@contextmanager
def raised_once() -> Iterator[None]:
    """A context in which the first signal raises ``KeyboardInterrupt``, and others do not disturb what follows from it.

    Nothing is raised inside an import, since libraries in C cannot be relied on to pass the exception on. There, a
    signal ends the process at once; if work is under way (:func:`under_way`), the exception is raised when the import
    is over. The handlers before it are put back; but where a signal came, and the process ends with the
    command, further ones are ignored.
    """
    first: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is not None:
            if time.monotonic() - first > PATIENCE_SECONDS:
                _end(number, frame)
        elif _importing(frame) and not _work:
            _end(number, frame)
        elif _importing(frame):
            again = threading.Timer(AGAIN_SECONDS, send, (number,))
            again.daemon = True
            again.start()
        else:
            first = time.monotonic()
            raise KeyboardInterrupt

    before = _install(handle)
    try:
        yield
    finally:
        for number, handler in before.items():  # Python, as it ends, resets handlers, but not that one is ignored
            signal.signal(number, handler if first is None or not _process else signal.SIG_IGN)


def _install(handler: Handler) -> dict[int, Any]:
    """Set the handler of each signal that is not ignored, as after ``nohup``; returns those before it."""
    before: dict[int, Any] = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with suppress(ValueError):  # handlers can only be set in the main thread
                before[number] = signal.signal(number, handler)
    return before


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
