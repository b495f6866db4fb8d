"""Files with one JSON object per line, and the lock of the process that writes them.

A line is appended with one unbuffered write. If a process is killed, only the last line can therefore be incomplete:
the beginning of a line as :meth:`JsonLines.append` writes it. It is skipped, and removed when a line is appended.
Anything else that has no line end is not from this program, and is refused and left alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import filelock

from nas.errors import Unwritable, UserError
from nas.files import open_regular, writing

T = TypeVar("T")

LONGEST_LINE = 2**24  # bytes
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
#: what is left of the beginning of an object without its complete strings; it may end inside a string
_BEGINNING = re.compile(rb'\{[-+.\w{}\[\],: ]*(?:"[^"\\]*(?:\\.[^"\\]*)*\\?)?')
_PRINTABLE = re.compile(rb"[ -~]*")  # ASCII without control characters, as lines are written


def locked(lock: Path, what: str) -> filelock.BaseFileLock:
    """Acquire the lock file ``lock``, whose directory is created if needed, and return the lock.

    The operating system releases it when the process ends, even if it is killed.

    :param what: what the lock protects, for the error message.
    :raises UserError: another process holds the lock, or its file cannot be created or holds something.
    """
    if file := open_regular(lock):
        with file:
            if file.read(1):
                raise UserError(f"{lock} holds something, expected an empty file that serves as a lock; move it away")
    with writing(what):
        lock.parent.mkdir(parents=True, exist_ok=True)
        taken = filelock.FileLock(lock, timeout=0)
        try:
            taken.acquire()
        except filelock.Timeout:
            raise UserError(f"{what} is being written by another process") from None
    return taken


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


class JsonLines:
    """A file with one JSON object per line, to which lines are appended.

    :param wrong: what an error message calls a line that cannot be parsed, such as ``not a trial``.
    :param first: the name of each object's first field, by which an incomplete last line is known.
    """

    def __init__(self, path: Path, wrong: str, first: str):
        self.path = path
        self.wrong = wrong
        self.first = first
        self._torn_at: int | None = None  # where the incomplete last line begins that was found in the file
        self._file: Any = None
        self._end = 0  # length in bytes that the file has after the last append

    @property
    def torn(self) -> bool:
        """Whether the last line was incomplete when the file was last read."""
        return self._torn_at is not None

    def append(self, value: dict[str, Any]) -> None:
        """Append a line. On return it has been handed to the operating system, so it is kept if this process is killed.

        An incomplete last line that :meth:`read` has found is removed first.

        :raises Unwritable: the file cannot be written, or has been removed, replaced or cut since the first line.
        :raises UserError: the line would be too long to be read.
        """
        line = memoryview((json.dumps(value) + "\n").encode())
        if len(line) > LONGEST_LINE:
            raise UserError(f"a line of {self.path} has at most {LONGEST_LINE:,} bytes, got {len(line):,}")
        with writing(self.path):
            if self._torn_at is not None:
                os.truncate(self.path, self._torn_at)
                self._torn_at = None
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0, opener=_not_through_a_link)
                self._end = self._file.tell()
            self._end += len(line)
            while line:  # one write, unless the disk is full: then the next write raises the error
                line = line[self._file.write(line) :]
        self._check_place()

    def _check_place(self) -> None:
        """:raises Unwritable: the opened file is no longer the one at the path, or others have changed its length."""
        opened, found = os.fstat(self._file.fileno()), None
        with suppress(OSError):
            found = os.stat(self.path)
        if found is None or not os.path.samestat(opened, found):
            raise Unwritable(f"{self.path} was removed or replaced while this program wrote to it")
        if found.st_size != self._end:
            raise Unwritable(
                f"{self.path} was changed while this program wrote to it: it has {found.st_size:,} bytes,"
                f" expected {self._end:,}"
            )

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

    def read(self, parse: Callable[[Any], T]) -> Iterator[tuple[int, T]]:
        """For each line its number, from 1, and the result of ``parse`` for its object; nothing if there is no file.

        The file is not changed. An incomplete last line, as a killed process leaves it, is skipped.

        :param parse: raises ValueError, KeyError or TypeError if the object is not a valid record.
        :raises UserError: the file cannot be read, or a line is not a valid record.
        """
        file, whole = open_regular(self.path), 0  # ``whole``: length in bytes of the complete lines read so far
        self._torn_at = None
        if file is None:
            return
        with file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise self._error(number, f"it is longer than {LONGEST_LINE:,} bytes")
                if not line.endswith(b"\n"):
                    if not self._can_be_torn(line):
                        raise self._error(number, "it has no line end, and is no beginning of such a line")
                    self._torn_at = whole
                    return
                whole += len(line)
                try:
                    record = parse(json.loads(line))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                    raise self._error(number, f"no {error}" if isinstance(error, KeyError) else error) from None
                yield number, record

    def _can_be_torn(self, line: bytes) -> bool:
        """Whether a killed process can have left this last line."""
        begin = f'{{"{self.first}": '.encode()
        if not line.startswith(begin[: len(line)]) or not _PRINTABLE.fullmatch(line):
            return False
        return _BEGINNING.fullmatch(_STRING.sub(b"", line)) is not None

    def _error(self, number: int, reason: object) -> UserError:
        return UserError(f"{self.path} line {number} is {self.wrong}: {reason}")
