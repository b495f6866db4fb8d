"""The candidates of a search step that are not finished, and what happens to those whose worker was lost.

If a worker is lost with a chunk, the candidates of the chunk are next handed out one by one, so that only the candidate
at fault can cost another worker. A candidate that has lost two workers while it was handed out alone is given up.
Losses that no candidate can have caused (a machine left the cluster) do not count, but a candidate is also given up
after ten losses of any kind.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from nas.executors.candidates import Candidate

G = TypeVar("G")

ATTEMPTS_ALONE = 2
#: losses of any kind, caused by a candidate or not, after which a candidate is given up
ATTEMPTS = 10


class Workload(Generic[G]):
    """Hands out candidates in chunks, and again after a loss, until each is finished or given up."""

    def __init__(self, candidates: Sequence[Candidate[G]]):
        self._fresh = deque(candidates)
        self._suspects: deque[Candidate[G]] = deque()
        self._losses_alone: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._out: set[int] = set()
        self.retries = 0

    @property
    def waiting(self) -> int:
        """Number of candidates to be handed out."""
        return len(self._fresh) + len(self._suspects)

    @property
    def in_flight(self) -> int:
        """Number of candidates that workers are scoring."""
        return len(self._out)

    @property
    def done(self) -> bool:
        """Whether all candidates are finished or given up."""
        return not self.waiting and not self._out

    def take(self, size: int) -> list[Candidate[G]]:
        """The next chunk of up to ``size`` waiting candidates; one that was lost before comes first, and alone.

        A chunk has whole stacks, so it may hold more than ``size`` candidates.
        """
        if self._suspects:
            chunk = [self._suspects.popleft()]
        else:
            chunk = [self._fresh.popleft() for _ in range(min(size, len(self._fresh)))]
            while self._fresh and self._fresh[0].stack is not None and self._fresh[0].stack == chunk[-1].stack:
                chunk.append(self._fresh.popleft())
        self._out.update(candidate.id for candidate in chunk)
        return chunk

    def finish(self, id: int) -> None:
        """Record that the candidate with this number has its trial."""
        self._out.remove(id)

    def lost(self, chunk: Sequence[Candidate[G]], *, blame: bool) -> list[Candidate[G]]:
        """Take back a chunk that has no result, and return the candidates of it that are given up.

        :param blame: whether a candidate of the chunk may have caused the loss.
        """
        given_up = []
        for candidate in chunk:
            self._out.remove(candidate.id)
            self._losses[candidate.id] = self._losses.get(candidate.id, 0) + 1
            if blame and len(chunk) == 1:
                self._losses_alone[candidate.id] = self._losses_alone.get(candidate.id, 0) + 1
            if self._losses_alone.get(candidate.id, 0) >= ATTEMPTS_ALONE or self._losses[candidate.id] >= ATTEMPTS:
                given_up.append(candidate)
            else:
                self._suspects.append(candidate)
                self.retries += 1
        return given_up


class ChunkSize:
    """Estimates how many candidates make up ``seconds`` of work, from the times of finished chunks."""

    #: weight of the latest chunk in the exponential moving average
    WEIGHT = 0.3

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._seconds_each: float | None = None

    def learn(self, count: int, seconds: float) -> None:
        """Record that a worker took ``seconds`` for ``count`` candidates."""
        each = seconds / count
        before = each if self._seconds_each is None else self._seconds_each
        self._seconds_each = (1 - self.WEIGHT) * before + self.WEIGHT * each

    def of(self, waiting: int, workers: int) -> int:
        """The size of the next chunk; 1 before any time is known, and near the end small enough to keep all busy."""
        if self._seconds_each is None:
            return 1
        wanted = self.seconds / max(self._seconds_each, 1e-6)
        return max(1, min(int(wanted), math.ceil(waiting / workers)))
