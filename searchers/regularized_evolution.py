"""Regularized evolution, https://arxiv.org/abs/1802.01548 (Real, Aggarwal, Huang, Le; AAAI 2019), algorithm 1.

The population is a queue: each new trial pushes the oldest out, however good that one is. A child is a mutation of the
best of a random tournament. Departures from the paper:

* A tournament is drawn without replacement, the paper's with.
* Trials that failed or were infeasible never enter the population, so they push nobody out.
* Children are proposed in batches: all those of one ask see the same population.
* A child that was proposed before is mutated further; the paper lets it stand.
* The default population is half of the paper's 100 and the tournament 10 of its 25: a search with zero-cost proxies
  looks at hundreds of candidates, the paper's at 20,000.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Fitness, Searcher, Trial

G = TypeVar("G")


class RegularizedEvolution(Searcher[G]):
    """Aging evolution by mutation alone.

    Until ``population`` trials with status ok were told, proposals are random, the same as those of
    :class:`~searchers.random_search.RandomSearch` with this seed. A mutation that misses the constraints is drawn again
    with a new tournament; so the constraints must leave room for single mutations.

    :param population: how many of the last ok trials may be parents.
    :param tournament: how many of them, drawn at random, compete to be the parent; ties go to the younger.
    :param max_mutations: how often a child whose canonical key is known is mutated further, then it is proposed anyway.
    """

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        fitness: Fitness[G],
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
        population: int = 50,
        tournament: int = 10,
        max_mutations: int = 10,
    ):
        super().__init__(space, seed=seed, fitness=fitness, feasible=feasible, max_draws=max_draws)
        if tournament < 1:
            raise ValueError(f"tournament size must be at least 1, got {tournament}")
        if tournament > population:
            raise ValueError(f"tournament size must be at most the population size ({population}), got {tournament}")
        if max_mutations < 0:
            raise ValueError(f"max_mutations must be at least 0, got {max_mutations}")
        self.population = population
        self.tournament = tournament
        self.max_mutations = max_mutations
        self.members: deque[Trial[G]] = deque(maxlen=population)  # oldest first
        self._known: set[str] = set()  # keys of all trials told
        self._asked: list[G] = []  # proposals since the last trial told
        self._asked_keys: set[str] = set()
        self._values: np.ndarray | None = None  # fitness of the members

    def ask(self, n: int) -> list[G]:
        while len(self._asked) < n:
            genotype = self._propose(len(self._asked))
            self._asked.append(genotype)
            self._asked_keys.add(self.space.canonical(genotype))
        return self._asked[:n]

    def observe(self, trial: Trial[G]) -> None:
        self._known.add(trial.key)
        self._asked, self._asked_keys, self._values = [], set(), None
        if trial.status == "ok":
            self.members.append(trial)

    def _propose(self, number: int) -> G:
        """Proposal ``number`` of those made after ``told`` trials; it depends on the ones before it."""
        if len(self.members) < self.population:
            rng = np.random.default_rng((self.seed, self.told + number))
            return self.draw(lambda: self.space.sample(rng))
        rng = np.random.default_rng((self.seed, self.told, number))
        child = self.draw(lambda: self.space.mutate(self._parent(rng), rng))
        for _ in range(self.max_mutations):
            if not self._is_known(child):
                break
            child = self._mutate(child, rng)
        return child

    def _is_known(self, genotype: G) -> bool:
        key = self.space.canonical(genotype)
        return key in self._known or key in self._asked_keys

    def _mutate(self, genotype: G, rng: np.random.Generator) -> G:
        return self.draw(lambda: self.space.mutate(genotype, rng))

    def _parent(self, rng: np.random.Generator) -> G:
        """The fittest of a random tournament."""
        values = self._member_fitness()
        contenders = rng.choice(self.population, size=self.tournament, replace=False)
        winner = max(contenders, key=lambda index: (values[index], index))
        return self.members[winner].genotype

    def _member_fitness(self) -> np.ndarray:
        if self._values is None:
            values = np.asarray(self.fitness(list(self.members)))
            if values.shape != (len(self.members),):
                raise ValueError(f"fitness must return {len(self.members)} values, got shape {values.shape}")
            self._values = values
        return self._values
