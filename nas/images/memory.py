"""Whether images fit into memory, asked before they take it."""

from __future__ import annotations

import os
from pathlib import Path

from nas.errors import UserError
from nas.files import read_text

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def check_memory(what: str, needed: int) -> None:
    """Check that ``needed`` bytes are available. Nothing is refused where the system does not tell how many are.

    :param what: what needs them, for the error.
    :raises UserError: they are not.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise UserError(f"{what} would take {_gib(needed)} of memory, got {_gib(available)} available")


def available_bytes() -> int | None:
    """The memory that this process can still take: the least of what the machine has left, the limit of its container,
    and what is left of its address space (``ulimit -v``). None if the system tells none of them.
    """
    found = [_machine(), *map(_limit, _CONTAINER), _address_space()]
    return min((each for each in found if each is not None), default=None)


def _machine() -> int | None:
    for line in (_text(_MEMINFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _limit(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _address_space() -> int | None:
    try:
        import resource
    except ImportError:  # not on every system
        return None
    limit, statm = resource.getrlimit(resource.RLIMIT_AS)[0], _text(_STATM)
    if limit == resource.RLIM_INFINITY or statm is None:
        return None
    return max(0, limit - int(statm.split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _text(path: Path) -> str | None:
    try:
        return read_text(path)
    except UserError:
        return None


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
