"""Candidates, and the contract of the scorers that turn them into trials. Importing this module imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from search_spaces.base import NetworkSpec, SearchSpace
    from searchers.base import Trial

G = TypeVar("G")


@dataclass(frozen=True)
class Candidate(Generic[G]):
    """A cell to be scored: its number in the search history, its canonical key, and its genotype as proposed.

    ``fidelity`` is the share of the full effort that scoring it may take. Consecutive candidates with the same number
    ``stack`` are computed as one network, where the scorer can do that (:mod:`nas.executors.stacks`).
    """

    id: int
    key: str
    genotype: G
    fidelity: float = 1.0
    stack: int | None = None


def candidate_seed(run_seed: int, key: str) -> int:
    """The seed of a candidate's weights, in [0, 2^63); a function of the run's seed and the canonical key only."""
    digest = hashlib.sha256(f"{run_seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class CandidateScorer(Protocol[G]):
    """Turns a candidate into a finished trial, whose scores depend on its key, its fidelity and the scorer's options.

    ``space`` is the search space, ``spec`` the size of the networks whose parameters and MACs a trial states, ``seed``
    the seed of the run.
    """

    space: SearchSpace[G]
    spec: NetworkSpec
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores that a trial with status ok has."""

    @property
    def parallel(self) -> bool:
        """Whether several threads may call the scorer at the same time, each with its own candidate."""

    def __call__(self, candidate: Candidate[G]) -> Trial[G]:
        """The finished trial. It is infeasible only if it has a ``violation``: a limit on what was measured.

        :raises MachineFailed: the candidate is not at fault (see :func:`nas.executors.failures.machine_failure`).
        """
