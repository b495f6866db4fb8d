"""Whose fault a failure is: the candidate's, or the machine's.

A candidate that fails by its own fault fails everywhere, so its failed trial belongs to the history of a search. What
the machine lacks says nothing about the candidate: no trial is stored, and a resumed search scores the candidate again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nas.errors import MachineFailed, OutOfMemory, Unwritable

#: found in the names and messages of Python, torch, oneDNN, CUDA and Ray where memory, or room for a thread, ran out
_MEMORY = re.compile(
    r"MemoryError|OutOfMemory|out of memory|can(no|')t allocate|unable to allocate|not enough memory|bad_alloc"
    r"|failed to map segment|could not (create|execute) a primitive(?! desc)|ALLOC_FAILED|can't start new thread"
    r"|Resource temporarily unavailable",
    re.IGNORECASE,
)
#: the same for disks, for what a process may hold open, and for devices that no later candidate can use either
_MACHINE = re.compile(
    r"MachineFailed|Unwritable|No space left on device|Disk quota exceeded|Input/output error|Read-only file system"
    r"|Too many open files|device-side assert|illegal memory access|unspecified launch failure|launch timed out"
    r"|ECC error|busy or unavailable|no CUDA-capable device|driver shutting down",
    re.IGNORECASE,
)


def machine_failure(error: BaseException) -> MachineFailed | None:
    """The error to raise in place of ``error`` if the machine is at fault, otherwise None.

    It refers to no frame of the failed call, so that the memory held there can be freed.

    :param error: what building or scoring a network raised; what it was raised from, or while handling, counts as well.
    """
    for each in _chain(error):
        if isinstance(each, MachineFailed):
            return type(each)(str(each))
        is_ray = type(each).__module__.startswith("ray.")
        if is_ray or isinstance(each, MemoryError | OSError | RuntimeError | ImportError | Unwritable):
            failure = told_failure(f"{type(each).__name__}: {' '.join(str(each).split())[:300]}")
            if failure is not None:
                return failure
    return None


def told_failure(reason: str | None) -> MachineFailed | None:
    """The same for the ``reason`` of a failed trial: the name of an exception and its message."""
    for pattern, kind in ((_MEMORY, OutOfMemory), (_MACHINE, MachineFailed)):
        if reason and pattern.search(reason):
            return kind(reason)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then those that it was raised from; Ray keeps that of a worker as ``cause``."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while isinstance(following, BaseException) and following not in seen:
        seen.append(following)
        yield following
        following = getattr(following, "cause", None) or following.__cause__ or following.__context__
