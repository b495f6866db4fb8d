"""The contract of an executor, which runs a scorer over candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from nas.executors.candidates import Candidate, CandidateScorer
from searchers.base import Trial

G = TypeVar("G")


class Executor(ABC):
    """Runs a scorer over candidates. :meth:`run` may be called repeatedly until :meth:`close`; a context manager."""

    def open(self, scorer: CandidateScorer[Any]) -> None:
        """Prepare to run ``scorer``, which may take seconds. If it was not called, :meth:`run` does the same.

        :raises UserError: no machine is available to run on.
        """
        return

    @abstractmethod
    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        """One finished trial for each candidate, in any order.

        What the scorer raises is passed on, after the trials of the other candidates if possible. If it is
        ``OutOfMemory``, the method is called again with one candidate at a time.

        :raises MachineFailed: candidates could not be scored, which is not their fault.
        """

    def facts(self) -> dict[str, Any]:
        """A description of where scores are computed, for the manifest."""
        return {"name": type(self).__name__}

    def status(self) -> str:
        """The current state in a few words, for the progress display; empty if there is nothing to report."""
        return ""

    def close(self) -> None:
        """Stop all processes that the executor started."""
        return

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
