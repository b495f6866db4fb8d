"""Keep freed memory in the process between candidates.

Every candidate allocates and frees some hundred megabytes of activations. glibc hands such blocks back to the kernel
and fetches them again page by page: tens of thousands of page faults a candidate, against under a thousand when it
keeps them (one thread, 16 channels, 8 layers). Where there is no glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
import functools

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # what glibc accepts on 64-bit machines
_NEVER = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks in one arena of its heap; whether it was there to be asked."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    options = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(name, value) == 1 for name, value in options)
