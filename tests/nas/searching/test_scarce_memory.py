"""The loop where memory does not suffice for all candidates of a step, or for one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest

from nas.errors import MachineFailed, OutOfMemory
from nas.searching.scoring import Candidate, Scorer
from searchers.base import Trial
from tests.nas.searching.test_loop import BUDGET, SEARCHERS, CountingExecutor, make_loop, timeless
from tests.searchers.toy_space import Digits, ToySpace


class ScarceExecutor(CountingExecutor):
    """Memory suffices for a number of candidates at a time, and for some not at all."""

    def __init__(self, at_a_time: int, hopeless: Callable[[int], bool] = lambda id: False, told: bool = False):
        super().__init__()
        self.at_a_time = at_a_time
        self.hopeless = hopeless
        self.told = told

    def run(self, scorer: Scorer[Any], candidates: Sequence[Candidate[Any]]) -> Iterator[Trial[Any]]:
        for number, candidate in enumerate(candidates):
            if number < self.at_a_time and not self.hopeless(candidate.id):
                yield from super().run(scorer, [candidate])
            elif self.told:  # as an executor does that catches all exceptions itself
                trial = scorer(candidate)
                yield dataclasses.replace(trial, status="failed", scores={}, error="MemoryError: no room")
            else:
                raise MemoryError("no room")


@cache
def with_enough(searcher: str) -> list[Trial[Any]]:
    """The history where memory suffices."""
    return timeless(make_loop(searcher=searcher)[0].run())


@SEARCHERS
@pytest.mark.parametrize(("at_a_time", "told"), [(1, True), (3, False)])
def test_the_history_does_not_depend_on_memory(searcher: str, at_a_time: int, told: bool) -> None:
    executor = ScarceExecutor(at_a_time, told=told)
    loop, recorded = make_loop(executor, searcher)
    assert timeless(loop.run()) == with_enough(searcher)
    assert set(executor.scored.values()) == {1} and len(recorded) == BUDGET


@pytest.mark.parametrize("told", [False, True])
def test_a_candidate_too_large_stops_the_search_until_there_is_memory(told: bool) -> None:
    expected = timeless(make_loop(searcher="random", space=ToySpace(8, 10))[0].run())
    loop, recorded = make_loop(ScarceExecutor(9, lambda id: id == 24, told), "random", space=ToySpace(8, 10))
    with pytest.raises(OutOfMemory, match="memory does not suffice for candidate 24 alone: MemoryError: no room"):
        loop.run()
    assert 24 not in {trial.id for trial in recorded} and len(recorded) >= 20
    assert timeless(make_loop(searcher="random", space=ToySpace(8, 10))[0].run(recorded)) == expected


def test_a_candidate_too_large_is_left_out_if_that_is_asked_for() -> None:
    expected = timeless(make_loop(searcher="random", space=ToySpace(8, 10))[0].run())
    loop, _ = make_loop(ScarceExecutor(9, lambda id: id == 24), "random", space=ToySpace(8, 10))
    loop.skip_oversized = True
    trials = timeless(loop.run())
    assert trials[24].status == "failed" and "memory does not suffice" in str(trials[24].error)
    assert trials[:24] == expected[:24] and {trial.status for trial in trials[25:]} == {"ok", "failed"}


def test_a_device_that_is_lost_stops_the_search() -> None:
    class Lost(CountingExecutor):
        def run(self, scorer: Scorer[Any], candidates: Sequence[Candidate[Any]]) -> Iterator[Trial[Any]]:
            yield from super().run(scorer, candidates[:3])
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    loop, recorded = make_loop(Lost())
    with pytest.raises(MachineFailed, match="illegal memory access"):
        loop.run()
    assert len(recorded) == 3


def test_an_error_while_a_trial_is_stored_is_not_the_executor_s() -> None:
    executor = CountingExecutor()
    loop, _ = make_loop(executor)

    def full(trial: Trial[Digits]) -> None:
        raise MemoryError("while it is stored")

    loop.record = full
    with pytest.raises(MemoryError):
        loop.run()
    assert sum(executor.scored.values()) == 1
