"""What is scored, and what scores it. Importing this module imports no torch."""

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
    """What is to be scored: its place in the history, its canonical key, its genotype as proposed."""

    id: int
    key: str
    genotype: G


def candidate_seed(run_seed: int, key: str) -> int:
    """What a candidate's weights are drawn from: a function of the run's seed and the canonical key, in [0, 2^63)."""
    digest = hashlib.sha256(f"{run_seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class CandidateScorer(Protocol[G]):
    """From a candidate to a finished trial, which depends on the canonical key and on the scorer's own options.

    :param spec: the networks whose parameters and MACs are given. :param seed: the run's.
    """

    space: SearchSpace[G]
    spec: NetworkSpec
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The scores of a trial with status ok."""

    @property
    def parallel(self) -> bool:
        """Whether several threads may score a candidate each."""

    def __call__(self, candidate: Candidate[G]) -> Trial[G]:
        """The finished trial, of status ok or failed."""
