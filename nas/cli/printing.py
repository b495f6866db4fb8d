"""What commands print: texts that come from files cannot steer the terminal, and no character ends a program."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.text import Text


def printable(text: str) -> str:
    """The text with its control characters, but line ends, as escapes such as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


class Terminal(Console):
    """A console for lines and tables; control characters in their texts are printed as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As in rich."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Whoever reads the output has seen enough; the work goes on."""
        discard_output()

    def say(self, text: str) -> None:
        """Print a text as it is: it is not wrapped, and nothing in it is markup."""
        self.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print one line on the error stream; a stream that is full or closed is left alone."""
    with suppress(OSError, ValueError):
        print(printable(" ".join(text.splitlines())), file=sys.stderr, flush=True)


def print_any_character() -> None:
    """From now on, a character that the terminal's encoding lacks is printed as an escape, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Throw away what is printed from now on, and what the standard output still holds."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
