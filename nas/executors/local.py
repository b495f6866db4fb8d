"""Scoring in this process with several threads, each of which scores its own candidate.

The networks are so small that several threads inside one torch operation would mostly wait for each other. Candidates
share no data, so running candidates in parallel scales with the number of threads. Every torch operation uses one
thread, so scores do not depend on the number of threads.
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
from nas.executors.stacks import score_stack, score_stacks, stacks_of
from searchers.base import Trial

G = TypeVar("G")


class LocalExecutor(Executor):
    """Scores candidates in threads of this process.

    :param threads: number of candidates scored at the same time, by default one per available core. A scorer that is
        not ``parallel``, such as one on an accelerator, always gets one candidate at a time.
    """

    def __init__(self, threads: int | None = None):
        self.threads = threads if threads is not None else available_cores()

    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        stacks = stacks_of(candidates)
        workers = min(self.threads, len(stacks)) if scorer.parallel else 1
        keep_freed_memory()
        with torch_threads(1), settled_objects():
            if workers <= 1:
                yield from score_stacks(scorer, stacks)
                return
            failures: list[BaseException] = []
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                try:
                    for future in as_completed([pool.submit(score_stack, scorer, stack) for stack in stacks]):
                        failure = future.exception()
                        if failure is None:
                            yield from future.result()
                        else:  # raised when the other candidates are finished
                            failures.append(failure)
                finally:  # if the caller stops early or presses Ctrl-C, candidates not yet started are cancelled
                    pool.shutdown(wait=False, cancel_futures=True)
            if failures:
                raise failures[0]

    def facts(self) -> dict[str, Any]:
        return {"name": "local", "threads": self.threads}


def available_cores() -> int:
    """Number of CPU cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


@contextmanager
def settled_objects() -> Iterator[None]:
    """A context in which Python's garbage collector ignores all objects that existed on entry.

    Every pass through a network creates enough objects to trigger the collector, which would then traverse all of
    torch's objects again. That costs 15 to 20 % of a pass over a single image, whose time is spent on call overhead.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
