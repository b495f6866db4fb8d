"""What the evolutionary searchers share: proposals are the start, then random cells, then children of a population."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import numpy as np

from searchers.base import Searcher, Trial

G = TypeVar("G")


class PopulationSearcher(Searcher[G]):
    """Proposes ``start``, random cells until it has parents, and then their children.

    Random cells are the same as those of :class:`~searchers.random_search.RandomSearch` with this seed. If a child
    violates the constraints, another one is made; so they must be such that single mutations can meet them. A child
    that is known is mutated further, at most ``max_mutations`` times, an option of the subclass.
    """

    takes_start = True

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self._known: set[str] = set()  # keys of all trials told
        self._asked: list[G] = []  # proposals since the last trial told
        self._asked_keys: set[str] = set()

    @property
    @abstractmethod
    def max_mutations(self) -> int:
        """Further mutations of a child that is known, before it is proposed anyway."""

    @property
    @abstractmethod
    def has_parents(self) -> bool:
        """Whether children can be made."""

    @abstractmethod
    def child(self, rng: np.random.Generator) -> G:
        """A child of the population, which may violate the constraints."""

    def ask(self, n: int) -> list[G]:
        while len(self._asked) < n:
            genotype = self._propose(len(self._asked))
            self._asked.append(genotype)
            self._asked_keys.add(self.space.canonical(genotype))
        return self._asked[:n]

    def observe(self, trial: Trial[G]) -> None:
        self._known.add(trial.key)
        self._asked, self._asked_keys = [], set()

    def _propose(self, number: int) -> G:
        """Proposal ``number`` (from 0) after ``told`` trials; it depends on the proposals since the last trial told."""
        if self.told + number < len(self.start):
            return self.start[self.told + number]
        if not self.has_parents:
            rng = np.random.default_rng((self.seed, self.told + number))
            return self.draw(lambda: self.space.sample(rng))
        rng = np.random.default_rng((self.seed, self.told, number))
        child = self.draw(lambda: self.child(rng))
        for _ in range(self.max_mutations):
            if self.space.canonical(child) not in self._known | self._asked_keys:
                break
            child = self._mutated(child, rng)
        return child

    def _mutated(self, genotype: G, rng: np.random.Generator) -> G:
        return self.draw(lambda: self.space.mutate(genotype, rng))
