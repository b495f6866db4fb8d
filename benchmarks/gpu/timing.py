"""Seconds of repeated work: what the first calls take apart from the steady state, within a limit for the whole run."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch

#: units of work in a round, at least and at most
LEAST, MOST = 2, 64


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Seconds of one unit of work.

    :param first: of the very first unit. :param start_up: what it and the warm-up took beyond as many steady units.
    :param seconds, low, high: of a unit in the steady state: median, least and greatest of the rounds.
    :param units: how many were timed.
    """

    first: float
    start_up: float
    seconds: float
    low: float
    high: float
    units: int


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How work is timed: one unit, ``warm_up`` units, and then ``count`` rounds of about ``seconds`` each.

    The warm-up has to be longer than the number of plain calls after which a CUDA graph is recorded.
    """

    warm_up: int = 6
    count: int = 3
    seconds: float = 1.0

    def plan(self) -> Generator[int, float, Steady]:
        """Yields how many units to do next, and is sent the seconds that they took."""
        first = yield 1
        warm_up = yield self.warm_up
        one = yield 1
        units = min(MOST, max(LEAST, math.ceil(self.seconds / max(one, 1e-9))))
        each = []
        for _ in range(self.count):
            each.append((yield units) / units)
        middle = statistics.median(each)
        return Steady(
            first=first, start_up=max(0.0, first + warm_up - (1 + self.warm_up) * middle), seconds=middle,
            low=min(each), high=max(each), units=self.count * units,
        )  # fmt: skip


def steady(call: Callable[[], Any], rounds: Rounds, device: torch.device) -> Steady:
    """The timing of a call."""
    plan = rounds.plan()
    units = next(plan)
    while True:
        wait(device)
        started = time.perf_counter()
        for _ in range(units):
            call()
        wait(device)
        try:
            units = plan.send(time.perf_counter() - started)
        except StopIteration as end:
            found: Steady = end.value
            return found


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Budget:
    """The time that a run may take. :param clock: seconds, as of ``time.perf_counter``."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter):
        self.seconds = seconds
        self._clock = clock
        self._started = clock()

    @property
    def spent(self) -> float:
        return self._clock() - self._started

    @property
    def over(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.spent >= self.seconds
