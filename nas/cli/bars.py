"""The progress bars of all commands."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TypeVar

from rich.progress import Progress, ProgressColumn

from nas.cli.printing import Terminal

B = TypeVar("B", bound="Bars")


class Bars:
    """Progress bars on the error stream. A subclass calls :meth:`start` at its first update, not before, so that
    nothing is shown when a command fails early.

    :param title: a line above the bars.
    """

    def __init__(self, *columns: ProgressColumn, show: bool, title: str = ""):
        self._title = title if show else ""
        self._console = Terminal(file=sys.stderr)
        self.progress = Progress(*columns, console=self._console, disable=not show)
        self.started = False

    def __enter__(self: B) -> B:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.started:
            with suppress(OSError):  # the terminal was closed, or its disk is full
                self.progress.stop()

    def start(self) -> None:
        """Show the bars, if they are not shown yet."""
        if not self.started:
            if self._title:
                self._console.say(self._title)
            self.progress.start()
            self.started = True
