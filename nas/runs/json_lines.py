"""Files of one JSON object a line, and the lock of the process that writes them.

A line is appended in one call and flushed at once, so the end of a process tears the last one at most; whoever goes on
writing removes what is torn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import filelock

from nas.errors import UserError

T = TypeVar("T")


def locked(lock: Path, what: str) -> filelock.BaseFileLock:
    """The lock ``lock``, taken, in a directory that is made where it is missing; released however the process ends.

    :param what: is protected, as an error names it.
    :raises UserError: another process holds it, or it cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = filelock.FileLock(lock, timeout=0)
        taken.acquire()
    except filelock.Timeout:
        raise UserError(f"{what} is being written by another process") from None
    except OSError as error:
        raise UserError(f"{what} cannot be written: {error.strerror or error}") from None
    return taken


class JsonLines:
    """A file that grows by one object a line. :param wrong: what an error calls any other line: ``not a trial``."""

    def __init__(self, path: Path, wrong: str):
        self.path = path
        self.wrong = wrong
        self.torn = False  # whether the last line was, when the file was last read
        self._file: Any = None

    def append(self, value: dict[str, Any]) -> None:
        """Add a line; it survives the end of this process at any later moment.

        :raises UserError: it cannot be written.
        """
        line = memoryview((json.dumps(value) + "\n").encode())
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)
            while line:  # one call, unless the disk is full: then the rest says so
                line = line[self._file.write(line) :]
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """To be called when nothing more is appended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def count(self) -> int:
        """Complete lines, without reading what they hold."""
        file = self._opened()
        if file is None:
            return 0
        with file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, 2**20), b""))

    def read(self, parse: Callable[[Any], T], *, repair: bool = True) -> Iterator[tuple[int, T]]:
        """Line number, from 1, and ``parse`` of its object; nothing where there is no file.

        :param parse: raises ValueError, KeyError or TypeError where the object is no such record.
        :param repair: remove a torn last line from the file, which is passed over otherwise.
        :raises UserError: the file cannot be read, or a line is no record.
        """
        file, whole = self._opened(), 0  # bytes of the lines that are complete
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

    def _opened(self) -> BinaryIO | None:
        try:
            return open(self.path, "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror or error}") from None
