"""Finds and reads the files of published tables, and checks that they are unaltered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import UserError


def find_folder(directory: Path, names: Sequence[str], wanted: str, title: str, source: str) -> Path:
    """The first folder that has a file matching ``wanted``: ``directory/name`` for each name, then ``directory``.

    :raises UserError: no folder has one; the message names ``source``, where the file is published.
    """
    folders = [*(directory / name for name in names), directory]
    for folder in folders:
        if next(folder.glob(wanted), None) is not None:
            return folder
    looked = " and ".join(f"'{folder}'" for folder in folders)
    raise UserError(f"{wanted} of {title} is in none of {looked}; it is published at {source}")


def read_bytes(path: Path, title: str, source: str) -> bytes:
    """The content of a file.

    :raises UserError: it is missing or cannot be read; the message names ``source``, where it is published.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise UserError(f"{path} {reason}; {title} is published at {source}") from None


def sha256(content: bytes) -> str:
    """SHA-256 of the content with Unix line endings and no outer white space, because editors and git change both."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n").strip()).hexdigest()


def check_sum(path: str | Path, content: bytes, published: Mapping[str, str]) -> str:
    """The SHA-256 of a file's content, compared with the published one.

    :param published: SHA-256 of published files by file name; a file with another name is not compared.
    :raises UserError: the file differs from the published one.
    """
    found = sha256(content)
    expected = published.get(Path(path).name, found)
    if found != expected:
        raise UserError(f"{path} is not the published file: SHA-256 {found[:16]}..., expected {expected[:16]}...")
    return found


def parse_json(path: str | Path, text: str | bytes) -> Any:
    """The value of a JSON text in which no object has a repeated name.

    :raises UserError: the text is truncated, is not JSON, or repeats a name.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, or a repeated name
        raise UserError(f"{path} is cut off or altered: {' '.join(str(error).split())[:120]}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name stands there twice")
    return value
