"""Files with one JSON object per line, and the lock of the process that writes them.

A line is appended with one unbuffered write. If a process is killed, only the last line can therefore be incomplete;
a process that goes on writing to the file removes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import filelock

from nas.errors import UserError
from nas.files import open_regular, writing

T = TypeVar("T")


def locked(lock: Path, what: str) -> filelock.BaseFileLock:
    """Acquire the lock file ``lock``, whose directory is created if needed, and return the lock.

    The operating system releases it when the process ends, even if it is killed.

    :param what: what the lock protects, for the error message.
    :raises UserError: another process holds the lock, or its file cannot be created.
    """
    with writing(what):
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = filelock.FileLock(lock, timeout=0)
        try:
            taken.acquire()
        except filelock.Timeout:
            raise UserError(f"{what} is being written by another process") from None
    return taken


class JsonLines:
    """A file with one JSON object per line, to which lines are appended.

    :param wrong: what an error message calls a line that cannot be parsed, such as ``not a trial``.
    """

    def __init__(self, path: Path, wrong: str):
        self.path = path
        self.wrong = wrong
        self.torn = False  # whether the last line was, when the file was last read
        self._file: Any = None

    def append(self, value: dict[str, Any]) -> None:
        """Append a line. On return it has been handed to the operating system, so it is kept if this process is killed.

        :raises UserError: the file cannot be written.
        """
        line = memoryview((json.dumps(value) + "\n").encode())
        with writing(self.path):
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)
            while line:  # one write, unless the disk is full: then the next write raises the error
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file; call it after the last line is appended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def count(self) -> int:
        """Number of complete lines; they are not parsed."""
        file = open_regular(self.path)
        if file is None:
            return 0
        with file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, 2**20), b""))

    def read(self, parse: Callable[[Any], T], *, repair: bool = True) -> Iterator[tuple[int, T]]:
        """For each line its number, from 1, and the result of ``parse`` for its object; nothing if there is no file.

        :param parse: raises ValueError, KeyError or TypeError if the object is not a valid record.
        :param repair: remove an incomplete last line from the file; otherwise it is left there and skipped.
        :raises UserError: the file cannot be read, or a line is not a valid record.
        """
        file, whole = open_regular(self.path), 0  # ``whole``: length in bytes of the complete lines read so far
        self.torn = False
        if file is None:
            return
        with file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self.torn = True
                    if repair:
                        os.truncate(self.path, whole)
                    return
                whole += len(line)
                try:
                    record = parse(json.loads(line))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    reason = f"no {error}" if isinstance(error, KeyError) else error
                    raise UserError(f"{self.path} line {number} is {self.wrong}: {reason}") from None
                yield number, record
