"""Parts that the command lines of the experiments share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from nas.cli.option_file import whole


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, without the usage text, and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def positive(text: str) -> int:
    """``text``, such as ``100`` or ``1e2``, as an integer of at least 1.

    :raises ArgumentTypeError: it is none.
    """
    try:
        value = int(str(whole(text)))
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 on, got {text!r}")
    return value


def output_file(text: str) -> Path:
    """``text`` as the path of a file in an existing folder.

    :raises ArgumentTypeError: it is none.
    """
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in an existing folder, got {text!r}")
    return path
