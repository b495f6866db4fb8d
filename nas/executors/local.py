"""Scoring in this process: each thread scores a candidate of its own.

Networks this small leave several threads inside one operation mostly waiting for each other. Candidates share nothing,
so threads over candidates scale, and a score does not depend on how many there are: every operation runs on one thread.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from nas.device import torch_threads
from nas.executors.allocator import keep_freed_memory
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


class LocalExecutor(Executor):
    """:param threads: candidates scored at a time; by default one per core, on an accelerator always one."""

    def __init__(self, threads: int | None = None):
        self.threads = threads if threads is not None else available_cores()

    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        workers = min(self.threads, len(candidates)) if scorer.parallel else 1
        keep_freed_memory()
        with torch_threads(1), settled_objects():
            if workers <= 1:
                yield from map(scorer, candidates)
                return
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                futures = [pool.submit(scorer, candidate) for candidate in candidates]
                try:
                    for future in as_completed(futures):
                        yield future.result()
                finally:  # the caller stopped, or Ctrl-C: what has not begun is dropped
                    pool.shutdown(wait=False, cancel_futures=True)

    def facts(self) -> dict[str, Any]:
        return {"name": "local", "threads": self.threads}


def available_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


@contextmanager
def settled_objects() -> Iterator[None]:
    """Inside, Python's collector leaves alone what exists already.

    Every pass through a network makes enough objects to start it, and it would walk all of torch's each time: 15 to
    20 % of a pass over a single image, where the cost of the calls is all there is.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
