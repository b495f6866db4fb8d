"""Keep freed memory in the process between candidates.

Scoring a candidate allocates and frees some hundred megabytes of activations. By default, glibc returns such blocks to
the kernel and gets them back page by page. This costs tens of thousands of page faults per candidate, but under a
thousand if glibc keeps the blocks (one thread, 16 channels, 8 layers). Without glibc, nothing is done.
"""

from __future__ import annotations

import ctypes
import functools

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the maximum that glibc accepts on 64-bit machines
_NEVER = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks in a single arena of its heap. Returns whether glibc accepted all settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    options = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(name, value) == 1 for name, value in options)
