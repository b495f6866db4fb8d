"""``searcher.pt``: the state of a searcher, and the trials that the state covers.

The state is what the searcher has learned beyond the trials of the run. The file contains only tensors and plain
values. It names the search and the trials that the state belongs to by a hash, so that no other search takes it up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from nas.errors import UserError
from nas.runs.schema import OBJECT, TEXT, WHOLE, fields
from nas.torch_files import load, save

FORMAT = 2
_CONTENT = fields({"trials": WHOLE, "covers": TEXT, "state": OBJECT})


class Covered:
    """A hash over the configuration of a search and the keys of its first trials, which are added in id order."""

    def __init__(self, configuration: dict[str, Any]):
        self._digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
        self._count = 0

    def first(self, keys: Iterable[str]) -> str:
        """The hash after the trials with ``keys`` were added: 64 hexadecimal digits."""
        for key in keys:
            self._digest.update(b"\0" + key.encode("utf-8", "surrogatepass"))
            self._count += 1
        return self._digest.hexdigest()

    def __len__(self) -> int:
        return self._count


def write_state(path: Path, state: dict[str, Any], trials: int, covers: str) -> None:
    """Replace the file atomically.

    :param covers: the hash of the search and of the ``trials`` that the state covers.
    :raises TypeError: the state holds something other than tensors and plain values.
    :raises Unwritable: the operating system refused.
    """
    check_plain(state, "the searcher's state")
    save(path, {"format": FORMAT, "trials": trials, "covers": covers, "state": state})


def read_state(path: Path) -> tuple[dict[str, Any], int, str]:
    """The state, with its tensors on the CPU, the number of trials that it covers, and their hash.

    :raises UserError: the file cannot be read, or does not hold a searcher's state.
    """
    content = load(path, "a searcher's state")
    try:
        if not isinstance(content, dict) or type(content.get("format")) is not int or content["format"] != FORMAT:
            raise ValueError("another format")
        _CONTENT(content, "")
    except ValueError as error:
        raise UserError(f"{path} holds no searcher's state of format {FORMAT}: {error}") from None
    return content["state"], content["trials"], content["covers"]


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
