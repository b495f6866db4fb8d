"""BANANAS, https://arxiv.org/abs/1910.11858 (White, Neiswanger, Savani; AAAI 2021): a predictor chooses the candidates.

After ``initial`` random cells, an ensemble is fitted before each step to the cells told so far and what they are worth.
It predicts many cells: mutations of the best ones, and random ones. Those with the greatest values, drawn independently
from their predictive distributions (independent Thompson sampling), are proposed. Departures from the paper:

* The ensemble consists of trees (extremely randomized trees, Geurts et al., 2006), not of neural networks. A cell's
  predictive distribution is normal, with the mean and the standard deviation of what the trees predict.
* What it predicts are ranks, so that neither the scale of a score nor outliers matter.
* How a cell becomes a vector is the space's affair (:meth:`~search_spaces.base.SearchSpace.encode`).
* A part of the cells that are predicted is random; the paper only mutates.
* Several objectives: the rank is that of :func:`~searchers.objectives.standing`, front by front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial, check_whole
from searchers.objectives import average_ranks, evaluate, standing

G = TypeVar("G")

FEATURES = 1 / 3  # the share of the entries of a vector that is tried at each split of a tree


class Bananas(Searcher[G]):
    """The defaults were chosen by searches for the best cell of NAS-RobBench-201 by ``cifar100/autoattack``.

    Until ``initial`` distinct cells with status ok were told, proposals are random: those of
    :class:`~searchers.random_search.RandomSearch` with this seed.

    :raises ValueError: the space has no encoding.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Numbers of random cells, of trees, and of cells predicted at a time."""

        initial: int = field(default=20, metadata={"help": "random cells before the first prediction"})
        ensemble: int = field(default=50, metadata={"help": "trees that predict"})
        mutants: int = field(default=200, metadata={"help": "cells predicted at a time that are mutations of the best"})
        drawn: int = field(default=100, metadata={"help": "cells predicted at a time that are random"})
        parents: int = field(default=10, metadata={"help": "the best cells so far, which are mutated"})

        def __post_init__(self) -> None:
            for name, least in (("initial", 2), ("ensemble", 2), ("mutants", 1), ("drawn", 0), ("parents", 1)):
                check_whole(name, getattr(self, name), least)

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
    ):
        super().__init__(
            space, seed=seed, objectives=objectives, feasible=feasible, max_draws=max_draws, options=options
        )
        space.encode(space.sample(np.random.default_rng(seed)))  # raises now if the space has none
        self._scored: dict[str, Trial[G]] = {}  # by key, the first trial of status ok
        self._known: set[str] = set()  # keys of all trials told
        self._asked: list[G] = []  # proposals since the last trial told
        self._rounds = 0  # of predictions since then

    def ask(self, n: int) -> list[G]:
        while len(self._asked) < n:
            if len(self._scored) < self.options.initial:
                rng = np.random.default_rng((self.seed, self.told + len(self._asked)))
                self._asked.append(self.draw(lambda: self.space.sample(rng)))  # noqa: B023  # called at once
            else:
                self._asked += self._predicted()
        return self._asked[:n]

    def observe(self, trial: Trial[G]) -> None:
        self._known.add(trial.key)
        self._asked, self._rounds = [], 0
        if trial.status == "ok":
            self._scored.setdefault(trial.key, trial)

    def _predicted(self) -> list[G]:
        """New cells, the most promising first."""
        rng = np.random.default_rng((self.seed, self.told, self._rounds))
        self._rounds += 1
        told = list(self._scored.values())
        ranks = average_ranks(standing(evaluate(self.objectives, told)))
        parents = [told[index].genotype for index in np.argsort(-ranks, kind="stable")[: self.options.parents]]
        pool = self._pool(parents, rng)
        if not pool:  # a small space, all of which may be known
            return [self.draw(lambda: self.space.sample(rng))]
        known, new = self._encoded([trial.genotype for trial in told]), self._encoded(pool)
        predictions = _predictions(known, ranks, new, self.options.ensemble, seed=int(rng.integers(2**31)))
        values = predictions.mean(axis=0) + predictions.std(axis=0) * rng.standard_normal(len(pool))
        return [pool[index] for index in np.argsort(-values, kind="stable")]

    def _encoded(self, genotypes: Sequence[G]) -> np.ndarray:
        return np.stack([self.space.encode(each) for each in genotypes]).astype(np.float32)

    def _pool(self, parents: Sequence[G], rng: np.random.Generator) -> list[G]:
        """Different cells that are not known: mutants of the parents, and random ones."""
        known = self._known | {self.space.canonical(genotype) for genotype in self._asked}
        found: dict[str, G] = {}
        for number in range(self.options.mutants + self.options.drawn):
            genotype = self.draw(
                (lambda: self.space.mutate(parents[int(rng.integers(len(parents)))], rng))
                if number < self.options.mutants
                else (lambda: self.space.sample(rng))
            )
            found.setdefault(self.space.canonical(genotype), genotype)
        return [genotype for key, genotype in found.items() if key not in known]


def _predictions(known: np.ndarray, targets: np.ndarray, new: np.ndarray, trees: int, *, seed: int) -> np.ndarray:
    """``(trees, n)``: what each tree predicts for ``new`` ``(n, d)``, fitted to ``known`` ``(m, d)``."""
    from sklearn.tree import ExtraTreeRegressor

    made = (ExtraTreeRegressor(max_features=FEATURES, random_state=seed + number) for number in range(trees))
    return np.stack([tree.fit(known, targets, check_input=False).predict(new, check_input=False) for tree in made])
