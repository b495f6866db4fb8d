"""Which samples withstood which attack: ``attack-samples.jsonl``, from which an interrupted evaluation goes on.

One line a block of samples and attack, appended and flushed at once; JSON only. A block is attacked as one batch, so
its result depends on nothing but the block: an evaluation that is resumed or extended equals one in a single run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from nas.attack_settings import Member
from nas.errors import UserError

SAMPLES = "attack-samples.jsonl"
Block = tuple[int, int]  # the samples from the first number up to the second


class SampleStore:
    """Results by what was attacked, how, and by block; in memory, and in a file where one is given.

    :param path: of the file; created where it does not exist, locked while the object is open.
    :param identity: all that the results depend on besides attack and block: model, images, seed.
    :raises UserError: the file cannot be read or written, or another process writes to it.
    """

    def __init__(self, path: Path | None = None, identity: dict[str, Any] | None = None):
        self.path = path
        self.identity = identity or {}
        self._found: dict[tuple[str, Block], tuple[list[bool], float]] = {}
        self._file: Any = None
        self._lock: filelock.BaseFileLock | None = None
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(path.with_name("." + path.name + ".lock"), timeout=0)
            self._lock.acquire()
            content = path.read_bytes() if path.exists() else b""
            whole = content.rfind(b"\n") + 1
            self._read(content[:whole])
            if whole < len(content):  # the end of a process tore it
                os.truncate(path, whole)
            self._file = open(path, "ab", buffering=0)
        except filelock.Timeout:
            raise UserError(f"{path} is being written by another process") from None
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()

    def find(self, members: Sequence[Member], block: Block) -> tuple[list[bool], float] | None:
        """Which samples of the block were correct after the last of ``members``, and the seconds that one took."""
        return self._found.get((self._key(members), block))

    def add(self, members: Sequence[Member], block: Block, correct: list[bool], seconds: float) -> None:
        """Keep a block's result; it survives the end of this process at any later moment."""
        key = self._key(members)
        self._found[key, block] = correct, seconds
        if self._file is None:
            return
        value = {
            "key": key,
            "attack": " + ".join(member.name for member in members) or "natural",
            "first": block[0],
            "end": block[1],
            "correct": correct,
            "seconds": round(seconds, 6),
        }
        line = memoryview((json.dumps(value) + "\n").encode())
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def _key(self, members: Sequence[Member]) -> str:
        """16 hexadecimal digits that name model, images, seed, and the attacks with all their settings, in order."""
        content = {**self.identity, "members": [member.to_json() for member in members]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _read(self, content: bytes) -> None:
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                value = json.loads(line)
                block, correct, seconds = (value["first"], value["end"]), value["correct"], value["seconds"]
                if [type(each) for each in correct] != [bool] * (block[1] - block[0]):
                    raise ValueError(f"expected {block[1] - block[0]} times true or false")
                self._found[str(value["key"]), block] = correct, float(seconds)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else error
                raise UserError(f"{self.path} line {number} is no attack's result: {reason}") from None
