"""Published files: where they are looked for, and whether they are what was published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import UserError


def find_folder(directory: Path, names: Sequence[str], wanted: str, title: str, source: str) -> Path:
    """The first of ``directory/name``, ... and ``directory`` itself with a file of the pattern ``wanted``.

    :raises UserError: none has; with the address where the file is published.
    """
    folders = [*(directory / name for name in names), directory]
    for folder in folders:
        if next(folder.glob(wanted), None) is not None:
            return folder
    looked = " and ".join(f"'{folder}'" for folder in folders)
    raise UserError(f"{wanted} of {title} is in none of {looked}; it is published at {source}")


def read_bytes(path: Path, title: str, source: str) -> bytes:
    """:raises UserError: the file is missing or cannot be read; with the address where it is published."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise UserError(f"{path} {reason}; {title} is published at {source}") from None


def sha256(content: bytes) -> str:
    """Over the content with Unix line endings and none at the end: editors and git change those, and nothing else."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n").strip()).hexdigest()


def check_sum(path: str | Path, content: bytes, published: Mapping[str, str]) -> str:
    """The SHA-256 of a file's content.

    :param published: those of published files by name; a file of another name passes.
    :raises UserError: it is not the published one.
    """
    found = sha256(content)
    expected = published.get(Path(path).name, found)
    if found != expected:
        raise UserError(f"{path} is not the published file: SHA-256 {found[:16]}..., expected {expected[:16]}...")
    return found


def parse_json(path: str | Path, text: str | bytes) -> Any:
    """A JSON value without names that stand twice.

    :raises UserError: it is cut off, or no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, or a name twice
        raise UserError(f"{path} is cut off or altered: {' '.join(str(error).split())[:120]}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name stands there twice")
    return value
