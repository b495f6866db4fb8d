"""Progress bars as every command of the project shows them."""

from __future__ import annotations

import sys
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn

B = TypeVar("B", bound="Bars")


class Bars:
    """Bars on the error stream. The first update has to start them, so that an early error stands alone.

    :param title: a line above them.
    """

    def __init__(self, *columns: ProgressColumn, show: bool, title: str = ""):
        self._title = title if show else ""
        self.progress = Progress(*columns, console=Console(file=sys.stderr), disable=not show)
        self.started = False

    def __enter__(self: B) -> B:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.started:
            self.progress.stop()

    def start(self) -> None:
        """Show the bars, if they are not shown yet."""
        if not self.started:
            if self._title:
                self.progress.console.print(self._title, highlight=False, markup=False, soft_wrap=True)
            self.progress.start()
            self.started = True
