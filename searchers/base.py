"""The contract of a searcher, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from search_spaces.base import SearchSpace

G = TypeVar("G")

Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[G]):
    """One candidate and what came of it.

    ``id`` counts from 0 in the order of proposal, ``key`` is the candidate's canonical key, ``seed`` what its weights
    were drawn from, ``seconds`` the time its scoring took (0.0 where an earlier trial of the same key was reused),
    ``error`` the reason of a failed or infeasible trial.
    """

    id: int
    key: str
    genotype: G
    seed: int
    status: Status
    scores: dict[str, float] = field(default_factory=dict)
    params: int = 0
    macs: int = 0
    seconds: float = 0.0
    error: str | None = None

    @classmethod
    def deferred(cls, find_genotype: Callable[[], G], **fields: Any) -> Trial[G]:
        """A trial that finds its genotype when somebody asks for it; all other fields are given."""
        trial = cls.__new__(cls)
        trial.__dict__.update(fields, _find_genotype=find_genotype)
        return trial

    def with_scores(self, scores: dict[str, float]) -> Trial[G]:
        """The same trial with other scores."""
        trial = type(self).__new__(type(self))
        trial.__dict__.update(self.__dict__, scores=scores)
        return trial

    def __getattr__(self, name: str) -> Any:
        if name != "genotype" or "_find_genotype" not in self.__dict__:
            raise AttributeError(f"a trial has no {name}")
        genotype = self.__dict__["genotype"] = self.__dict__.pop("_find_genotype")()
        return genotype


class NoFeasibleCandidate(ValueError):
    """No candidate met the constraints within the allowed number of draws."""


#: Values, higher is better, for a sequence of trials with status ok; values may depend on the whole sequence.
Fitness = Callable[[Sequence[Trial[G]]], np.ndarray]

MAX_DRAWS = 100_000


class Searcher(ABC, Generic[G]):
    """Suggests what to try next; never evaluates.

    What :meth:`ask` returns is a function of the seed and of the trials told so far, in order. A new searcher with the
    same seed, told the trials of an earlier one at once or one by one, continues as the earlier one would have.

    :param feasible: whether a genotype meets the constraints; one that does not is drawn again.
    :param max_draws: how many draws a single proposal may take.
    """

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        fitness: Fitness[G],
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
    ):
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        self.space = space
        self.seed = seed
        self.fitness = fitness
        self.feasible = feasible
        self.max_draws = max_draws
        self.told = 0  # number of trials told, so the id of the next one
        self.rejected = 0  # draws of this object that the constraints turned down

    @abstractmethod
    def ask(self, n: int) -> list[G]:
        """The next ``n`` candidates. Asked again without a tell in between, it returns the same."""

    def tell(self, trials: Iterable[Trial[G]]) -> None:
        """Trials in id order, without gaps, following those told before; of any status.

        :raises ValueError: at a trial out of order; those before it were told.
        """
        for trial in trials:
            if trial.id != self.told:
                raise ValueError(f"trials must be told in id order, expected trial {self.told}, got {trial.id}")
            self.told += 1
            self.observe(trial)

    @abstractmethod
    def observe(self, trial: Trial[G]) -> None:
        """Take in one trial, the last of the ``told`` ones."""

    def draw(self, propose: Callable[[], G]) -> G:
        """The first of ``propose()``'s candidates that meets the constraints.

        :raises NoFeasibleCandidate: after ``max_draws`` of them.
        """
        for _ in range(self.max_draws):
            genotype = propose()
            if self.feasible is None or self.feasible(genotype):
                return genotype
            self.rejected += 1
        raise NoFeasibleCandidate(f"no candidate met the constraints in {self.max_draws:,} draws")
