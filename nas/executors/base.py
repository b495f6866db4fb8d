"""The contract of an executor: where scorers run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar

from nas.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


class Executor(ABC):
    """Runs a scorer over candidates."""

    @abstractmethod
    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        """Finished trials in any order, one for each candidate."""
