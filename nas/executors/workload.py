"""What is left of a step, and what to do with candidates whose worker was lost.

A chunk that is lost with its worker comes back as single candidates: each is scored alone next, so that only the one at
fault can lose a worker again. After two losses alone it is given up. Losses that are no candidate's fault (a node left)
do not count, up to ten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from nas.executors.candidates import Candidate

G = TypeVar("G")

ATTEMPTS_ALONE = 2
#: of any kind, blame or not: nothing is tried for ever
ATTEMPTS = 10


class Workload(Generic[G]):
    """Candidates to be handed out in chunks, each until it is finished or given up."""

    def __init__(self, candidates: Sequence[Candidate[G]]):
        self._fresh = deque(candidates)
        self._suspects: deque[Candidate[G]] = deque()
        self._losses_alone: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._out: set[int] = set()
        self.retries = 0

    @property
    def waiting(self) -> int:
        """Candidates that nobody is scoring."""
        return len(self._fresh) + len(self._suspects)

    @property
    def in_flight(self) -> int:
        """Candidates that are being scored."""
        return len(self._out)

    @property
    def done(self) -> bool:
        """Whether nothing waits and nothing is being scored."""
        return not self.waiting and not self._out

    def take(self, size: int) -> list[Candidate[G]]:
        """Up to ``size`` candidates that wait; one that was lost before comes alone."""
        if self._suspects:
            chunk = [self._suspects.popleft()]
        else:
            chunk = [self._fresh.popleft() for _ in range(min(size, len(self._fresh)))]
        self._out.update(candidate.id for candidate in chunk)
        return chunk

    def finish(self, id: int) -> None:
        """The candidate of that number has its trial."""
        self._out.remove(id)

    def lost(self, chunk: Sequence[Candidate[G]], *, blame: bool) -> list[Candidate[G]]:
        """Takes back a chunk without result; gives those of it that are given up.

        :param blame: whether a candidate may have caused it.
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
    """How many candidates make up ``seconds`` of work, going by those finished so far."""

    #: weight of the latest chunk in the running mean
    WEIGHT = 0.3

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._seconds_each: float | None = None

    def learn(self, count: int, seconds: float) -> None:
        """``count`` candidates took a worker ``seconds``."""
        each = seconds / count
        before = each if self._seconds_each is None else self._seconds_each
        self._seconds_each = (1 - self.WEIGHT) * before + self.WEIGHT * each

    def of(self, waiting: int, workers: int) -> int:
        """The size of the next chunk; near the end small enough that no worker stands idle."""
        if self._seconds_each is None:
            return 1
        wanted = self.seconds / max(self._seconds_each, 1e-6)
        return max(1, min(int(wanted), math.ceil(waiting / workers)))
