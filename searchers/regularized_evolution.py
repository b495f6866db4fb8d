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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial, check_whole
from searchers.objectives import evaluate, standing

G = TypeVar("G")


class RegularizedEvolution(Searcher[G]):
    """Aging evolution that makes children by mutation only, without crossover.

    The first proposals are the genotypes ``start``. Then, until ``population`` trials with status ok were told,
    proposals are random: the same as those of :class:`~searchers.random_search.RandomSearch` with this seed. If a
    mutation violates the constraints, another child is drawn with a new tournament; so the constraints must be such
    that single mutations can meet them.
    """

    takes_start: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Sizes of the population and of a tournament. Of tied members, a tournament is won by the youngest."""

        population: int = field(default=50, metadata={"help": "the last trials with a score, which may be parents"})
        tournament: int = field(default=10, metadata={"help": "those of them, at random, whose best becomes a parent"})
        max_mutations: int = field(
            default=10, metadata={"help": "further mutations of a child that is known, before it is proposed anyway"}
        )

        def __post_init__(self) -> None:
            check_whole("population size", self.population, 1)
            check_whole("tournament size", self.tournament, 1)
            check_whole("max_mutations", self.max_mutations, 0)
            if self.tournament > self.population:
                raise ValueError(
                    f"tournament size must be at most the population size ({self.population}), got {self.tournament}"
                )

    options: Options

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        objectives: Objectives,
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
        options: Options | None = None,
        start: Sequence[G] = (),
    ):
        super().__init__(
            space,
            seed=seed,
            objectives=objectives,
            feasible=feasible,
            max_draws=max_draws,
            options=options,
            start=start,
        )
        self.members: deque[Trial[G]] = deque(maxlen=self.options.population)  # oldest first
        self._known: set[str] = set()  # keys of all trials told
        self._asked: list[G] = []  # proposals since the last trial told
        self._asked_keys: set[str] = set()
        self._values: np.ndarray | None = None  # standing() of the members, higher is better

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
        """Proposal ``number`` (from 0) after ``told`` trials; it depends on the proposals since the last trial told."""
        if self.told + number < len(self.start):
            return self.start[self.told + number]
        if len(self.members) < self.options.population:
            rng = np.random.default_rng((self.seed, self.told + number))
            return self.draw(lambda: self.space.sample(rng))
        rng = np.random.default_rng((self.seed, self.told, number))
        child = self.draw(lambda: self.space.mutate(self._parent(rng), rng))
        for _ in range(self.options.max_mutations):
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
        """The best member of a random tournament."""
        if self._values is None:
            self._values = standing(evaluate(self.objectives, list(self.members)))
        values = self._values
        contenders = rng.choice(self.options.population, size=self.options.tournament, replace=False)
        winner = max(contenders, key=lambda index: (values[index], index))
        return self.members[winner].genotype
