"""NSGA-II, https://doi.org/10.1109/4235.996017: evolution towards a front of several objectives.

Deb, Pratap, Agarwal, Meyarivan: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 2002. After each generation, the best ``population`` of parents and children together become
the next parents: by non-dominated front, within a front by crowding distance (section III.C). A child has two parents,
each of which wins a binary tournament. Constrained domination (section VI.A): a feasible trial comes before an
infeasible one, and of two infeasible trials the one with the lesser violation. Departures from the paper:

* The order of the survivors decides tournaments, so ties are won by the older trial; in the paper, at random.
* A child is mutated once; the paper mutates each gene with a probability.
* A child that was proposed before is mutated further; the paper keeps it.
* The default population is 20 (the paper: 100), since a search here evaluates hundreds of candidates.

With one objective it is an elitist genetic algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from searchers.base import Objectives, Searcher, Trial, check_whole
from searchers.objectives import evaluate, standing
from searchers.population import PopulationSearcher

G = TypeVar("G")


class NSGA2(PopulationSearcher[G]):
    """Generations of ``population`` trials that are ok, or infeasible with a known violation; others, and
    those of a key that was told before, never enter.

    The first generation is ``start``, then random: the same draws as those of
    :class:`~searchers.random_search.RandomSearch` with this seed. Trials count for the parents when their generation is
    complete, so that proposals do not depend on the number of candidates asked for at a time.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Size of a generation, and how children are made."""

        population: int = field(default=20, metadata={"help": "parents, and candidates of a generation"})
        crossover: float = field(
            default=0.9, metadata={"help": "probability that a child has two parents, of which it takes parts"}
        )
        max_mutations: int = field(
            default=10, metadata={"help": "further mutations of a child that is known, before it is proposed anyway"}
        )

        def __post_init__(self) -> None:
            check_whole("population", self.population, 1)
            check_whole("max_mutations", self.max_mutations, 0)
            if not 0 <= self.crossover <= 1:
                raise ValueError(f"crossover must be from 0 to 1, got {self.crossover}")

    options: Options

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.members: list[Trial[G]] = []  # the parents, best first; none before the first generation is complete
        self._children: list[Trial[G]] = []  # the generation that is not complete yet

    @property
    def max_mutations(self) -> int:
        return self.options.max_mutations

    @property
    def has_parents(self) -> bool:
        return bool(self.members)

    def observe(self, trial: Trial[G]) -> None:
        if trial.key not in self._known and (trial.status == "ok" or trial.violation > 0):
            self._children.append(trial)
        super().observe(trial)
        if len(self._children) == self.options.population:
            ordered = by_constrained_domination([*self.members, *self._children], self.objectives)
            self.members, self._children = ordered[: self.options.population], []

    def child(self, rng: np.random.Generator) -> G:
        child = self._parent(rng)
        if rng.random() < self.options.crossover:
            child = self.space.crossover(child, self._parent(rng), rng)
        return self.space.mutate(child, rng)

    def _parent(self, rng: np.random.Generator) -> G:
        """The winner of a binary tournament: of two places in the order of the members, the better one."""
        place = int(rng.integers(len(self.members), size=2).min())
        return self.members[place].genotype


def by_constrained_domination(trials: Sequence[Trial[G]], objectives: Objectives) -> list[Trial[G]]:
    """The trials, best first: those of status ok by front and crowding distance, then the others by violation.

    Trials that tie stay in the order given.
    """
    ok = [trial for trial in trials if trial.status == "ok"]
    order = np.argsort(-standing(evaluate(objectives, ok)), kind="stable")
    infeasible = [trial for trial in trials if trial.status != "ok"]
    return [*(ok[index] for index in order), *sorted(infeasible, key=lambda trial: trial.violation)]
