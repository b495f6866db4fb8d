"""Candidates that are scored together, as one network.

A score depends on the other candidates of its stack by rounding only. For a history that is the same to the last digit,
stacks are therefore made from the candidates of a step before it is known which of them have to be scored, and are
always scored whole (:mod:`nas.searching.loop`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


@runtime_checkable
class StackScorer(Protocol[G]):
    """A scorer that can score up to ``stack`` candidates together."""

    stack: int

    def prepared(self, candidates: Sequence[Candidate[G]]) -> Any:
        """What :meth:`together` needs and can be made in another thread meanwhile; None if there is no such thing."""

    def together(self, candidates: Sequence[Candidate[G]], prepared: Any) -> list[Trial[G]]:
        """The finished trials of these candidates, in order."""


def stacked(candidates: Sequence[Candidate[G]], size: int) -> list[Candidate[G]]:
    """The candidates with the numbers of stacks of at most ``size``, as equal in size as possible.

    A stack has candidates of one fidelity.
    """
    made = []
    for _, same in itertools.groupby(candidates, key=lambda candidate: candidate.fidelity):
        group = list(same)
        stacks = -(-len(group) // size)
        for number in range(stacks):
            some = group[len(group) * number // stacks : len(group) * (number + 1) // stacks]
            made += [dataclasses.replace(each, stack=some[0].id if len(some) > 1 else None) for each in some]
    return made


def stacks_of(candidates: Sequence[Candidate[G]]) -> list[list[Candidate[G]]]:
    """The candidates by stack, in order; one without a stack is a list of its own."""
    grouped = itertools.groupby(candidates, key=lambda each: each.id if each.stack is None else each.stack)
    return [list(same) for _, same in grouped]


def score_stack(scorer: CandidateScorer[G], stack: Sequence[Candidate[G]]) -> list[Trial[G]]:
    """The trials of one stack; a scorer that cannot score candidates together is called for each of them."""
    return list(score_stacks(scorer, [stack]))


def score_stacks(scorer: CandidateScorer[G], stacks: Sequence[Sequence[Candidate[G]]]) -> Iterator[Trial[G]]:
    """The trials of all stacks, one stack after the other. While one is scored, a thread prepares the next."""
    several: StackScorer[G] | None = scorer if isinstance(scorer, StackScorer) else None
    with ThreadPoolExecutor(1) as pool:
        upcoming: Future[Any] | None = None
        for number, stack in enumerate(stacks):
            if several is None or len(stack) == 1:
                yield from map(scorer, stack)
                continue
            preparing = pool.submit(several.prepared, stack) if upcoming is None else upcoming
            prepared, upcoming = preparing.result(), None
            if number + 1 < len(stacks) and len(stacks[number + 1]) > 1:
                upcoming = pool.submit(several.prepared, stacks[number + 1])
            yield from several.together(stack, prepared)
