"""The contract of an executor: where scorers run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


class Executor(ABC):
    """Runs a scorer over candidates, as often as it is asked to, until it is closed; also a context manager."""

    def open(self, scorer: CandidateScorer[Any]) -> None:
        """Gets ready for ``scorer``, which may take seconds; :meth:`run` does it where nobody has.

        :raises UserError: there is nowhere to run.
        """
        return

    @abstractmethod
    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        """Finished trials in any order, one for each candidate."""

    def facts(self) -> dict[str, Any]:
        """Where scores are computed, for the manifest."""
        return {"name": type(self).__name__}

    def status(self) -> str:
        """What goes on at the moment, for the eye; empty where there is nothing to say."""
        return ""

    def close(self) -> None:
        """Ends whatever runs in other processes."""
        return

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
