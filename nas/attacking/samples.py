"""Which samples withstood which attack: ``attack-samples.jsonl``, from which an interrupted evaluation is resumed.

One JSON line for each block of samples and each attack, appended and flushed at once. A block is attacked as one batch,
so its result depends on nothing but the block: an evaluation that is resumed or extended equals one in a single run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nas.attacking.base import Attack
from nas.errors import UserError
from nas.runs.json_lines import JsonLines, locked
from nas.runs.schema import POSITIVE, SWITCH, TEXT, WHOLE, each, fields

SAMPLES = "attack-samples.jsonl"
Block = tuple[int, int]  # samples: the number of the first, and of the first one after them


class SampleStore:
    """Results by what was attacked, how, and by block; in memory, and in a file where one is given.

    :param path: of the file; created where it does not exist, locked while the object is open.
    :param identity: all that the results depend on besides attack and block: model, images, seed, batch size.
    :raises UserError: the file cannot be read or written, or another process writes to it.
    """

    def __init__(self, path: Path | None = None, identity: dict[str, Any] | None = None):
        self.path = path
        self.identity = identity or {}
        self._found: dict[tuple[str, Block], tuple[list[bool], float]] = {}
        self._lines: JsonLines | None = None
        if path is not None:
            self._lock = locked(path.with_name("." + path.name + ".lock"), str(path))
            self._lines = JsonLines(path, "no attack's result", "key")
            for number, (key, result) in self._lines.read(_result):
                if self._found.setdefault(key, result) != result:
                    raise UserError(f"{path} line {number}: another result of the same images and attack is above it")

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lock.release()

    def find(self, members: Sequence[Attack], block: Block) -> tuple[list[bool], float] | None:
        """Which samples of the block were correct after the last of ``members``, and the seconds that one took."""
        return self._found.get((self._key(members), block))

    def add(self, members: Sequence[Attack], block: Block, correct: list[bool], seconds: float) -> None:
        """Keep a block's result. Where there is a file, it is in there when this returns."""
        key = self._key(members)
        self._found[key, block] = correct, seconds
        if self._lines is None:
            return
        value = {
            "key": key,
            "attack": " + ".join(member.name for member in members) or "natural",
            "first": block[0],
            "end": block[1],
            "correct": correct,
            "seconds": round(seconds, 6),
        }
        self._lines.append(value)

    def _key(self, members: Sequence[Attack]) -> str:
        """16 hexadecimal digits that name model, images, seed, and the attacks with all their settings, in order."""
        content = {**self.identity, "members": [member.settings() for member in members]}
        try:
            text = json.dumps(content, sort_keys=True)
        except (TypeError, ValueError) as error:
            names = " + ".join(member.name for member in members)
            raise UserError(f"settings() of {names} must be plain values for JSON: {error}") from None
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_LINE = fields({"key": TEXT, "first": WHOLE, "end": WHOLE, "correct": each(SWITCH), "seconds": POSITIVE})


def _result(value: Any) -> tuple[tuple[str, Block], tuple[list[bool], float]]:
    """What a line holds.

    :raises ValueError: it is no result of a block.
    """
    _LINE(value, "")
    block, correct = (value["first"], value["end"]), value["correct"]
    if len(correct) != block[1] - block[0]:
        raise ValueError(f"expected {block[1] - block[0]} times true or false, got {len(correct)}")
    return (value["key"], block), (correct, float(value["seconds"]))
