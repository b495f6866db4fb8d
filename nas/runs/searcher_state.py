"""``searcher.pt``: the state of a searcher, and the number of trials that the state covers.

The state is what the searcher has learned beyond the trials of the run. The file is written by ``torch.save``, contains
only tensors and plain values, and loads with ``weights_only=True``.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nas.errors import UserError
from nas.files import read_bytes, write

FORMAT = 1


def write_state(path: Path, state: dict[str, Any], trials: int) -> None:
    """Replace the file atomically.

    :raises TypeError: the state holds something other than tensors and plain values.
    :raises Unwritable: the operating system refused.
    """
    check_plain(state, "the searcher's state")
    stored = io.BytesIO()
    torch.save({"format": FORMAT, "trials": trials, "state": state}, stored)
    write(path, stored.getvalue())


def read_state(path: Path) -> tuple[dict[str, Any], int]:
    """The state, with its tensors on the CPU, and the number of trials that it covers.

    :raises UserError: the file cannot be read, or does not hold a searcher's state.
    """
    content, stored = None, io.BytesIO(read_bytes(path) or b"")
    if zipfile.is_zipfile(stored):  # torch.save writes a zip file
        stored.seek(0)
        with suppress(RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            content = torch.load(stored, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} holds no searcher's state of format {FORMAT}")
    state, trials = content.get("state"), content.get("trials")
    if not isinstance(state, dict) or type(trials) is not int or trials < 0:
        raise UserError(f"{path} holds no searcher's state of format {FORMAT}")
    return state, trials


def check_plain(value: Any, name: str) -> None:
    """:raises TypeError: ``value`` is not a tensor, a plain value, or a list, tuple or dictionary of these."""
    if isinstance(value, dict):
        for key, each in value.items():
            check_plain(key, f"a key of {name}")
            check_plain(each, f"{name}[{key!r:.40}]")
    elif type(value) in (list, tuple):
        for index, each in enumerate(value):
            check_plain(each, f"{name}[{index}]")
    elif type(value) not in (torch.Tensor, bool, int, float, str, type(None)):
        raise TypeError(f"{name} must be a tensor or a plain value, got {type(value).__name__}")
