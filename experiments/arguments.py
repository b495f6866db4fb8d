"""Parts that the command lines of the experiments share."""

from __future__ import annotations

import argparse
from pathlib import Path

from nas.cli.option_file import whole
from nas.errors import UserError
from nas.files import as_path, kind


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
    try:
        path = as_path("out", text)
        if kind(path) not in ("file", None) or kind(path.parent) != "folder":
            raise UserError(f"expected a file in an existing folder, got {text!r}")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def output_folder(text: str) -> Path:
    """``text`` as the path of a folder, which need not exist.

    :raises ArgumentTypeError: it is none.
    """
    try:
        path = as_path("out", text)
        if kind(path) not in ("folder", None):
            raise UserError(f"expected a folder, got {text!r}")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path
