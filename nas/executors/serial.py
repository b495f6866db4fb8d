"""Scores one candidate after another in this process, for scorers that only look scores up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from nas.executors.base import Executor
from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


class SerialExecutor(Executor):
    """Scores candidates one after the other; trials come in the order of the candidates."""

    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        return map(scorer, candidates)
