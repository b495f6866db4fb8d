"""Regularized evolution, https://arxiv.org/abs/1802.01548 (Real, Aggarwal, Huang, Le; AAAI 2019), algorithm 1.

The population is a queue: each new trial removes the oldest one, however good that one is. A child is a mutation of the
best member of a random tournament. Departures from the paper:

* Tournaments are drawn without replacement; in the paper, with replacement.
* Trials that failed or were infeasible never enter the population, so they remove no member.
* Children are proposed in batches: all children of one ``ask`` are made from the same population.
* A child that was proposed before is mutated further; the paper keeps it.
* The default population is 50 (the paper: 100) and the default tournament 10 (the paper: 25), since a search with
  zero-cost proxies evaluates hundreds of candidates, and the paper's search 20,000.
* Several objectives: the best member of a tournament is the one in the best non-dominated front of the population, and
  within a front the one with the largest crowding distance (:func:`~searchers.objectives.standing`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from searchers.base import Searcher, Trial, check_whole
from searchers.objectives import evaluate, standing
from searchers.population import PopulationSearcher

G = TypeVar("G")


class RegularizedEvolution(PopulationSearcher[G]):
    """Aging evolution that makes children by mutation only, without crossover.

    Children are made as soon as ``population`` trials with status ok were told, each with a tournament of its own.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Sizes of the population and of a tournament. Of tied members, a tournament is won by the youngest."""

        population: int = field(default=50, metadata={"help": "the last trials with a score, which may be parents"})
        tournament: int = field(default=10, metadata={"help": "those of them, at random, whose best becomes a parent"})
        max_mutations: int = field(
            default=10, metadata={"help": "further mutations of a child that is known, before it is proposed anyway"}
        )

        def __post_init__(self) -> None:
            check_whole("population", self.population, 1)
            check_whole("tournament", self.tournament, 1)
            check_whole("max_mutations", self.max_mutations, 0)
            if self.tournament > self.population:
                raise ValueError(
                    f"tournament must be at most the population ({self.population}), got {self.tournament}"
                )

    options: Options

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.members: deque[Trial[G]] = deque(maxlen=self.options.population)  # oldest first
        self._values: np.ndarray | None = None  # standing() of the members, higher is better

    @property
    def max_mutations(self) -> int:
        return self.options.max_mutations

    @property
    def has_parents(self) -> bool:
        return len(self.members) == self.options.population

    def observe(self, trial: Trial[G]) -> None:
        super().observe(trial)
        self._values = None
        if trial.status == "ok":
            self.members.append(trial)

    def child(self, rng: np.random.Generator) -> G:
        return self.space.mutate(self._parent(rng), rng)

    def _parent(self, rng: np.random.Generator) -> G:
        """The best member of a random tournament."""
        if self._values is None:
            self._values = standing(evaluate(self.objectives, list(self.members)))
        values = self._values
        contenders = rng.choice(self.options.population, size=self.options.tournament, replace=False)
        winner = max(contenders, key=lambda index: (values[index], index))
        return self.members[winner].genotype
