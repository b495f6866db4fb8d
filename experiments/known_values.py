"""Runs searchers on values that are known without scoring, so that the result depends on the searcher only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from search_spaces.base import SearchSpace
from searchers import get_searcher
from searchers.base import Trial
from searchers.objectives import SingleScore

BATCH = 10  # candidates for each call of ``ask``


def best_so_far(
    searcher_name: str,
    space: SearchSpace[Any],
    value: Callable[[Any], float],
    *,
    seed: int,
    budget: int,
    feasible: Callable[[Any], bool] | None = None,
) -> np.ndarray:
    """``(budget,)``: the greatest value among the first 1, 2, ... candidates of one search.

    :param value: the value of a genotype, higher is better. :param feasible: whether a genotype has a value.
    """
    objectives = SingleScore("value", "maximize")
    searcher = get_searcher(searcher_name)(space, seed=seed, objectives=objectives, feasible=feasible)
    values: list[float] = []
    while searcher.told < budget:
        trials = []
        for id_, genotype in enumerate(searcher.ask(min(BATCH, budget - searcher.told)), start=searcher.told):
            values.append(float(value(genotype)))
            key = space.canonical(genotype)
            scores = {"value": values[-1]}
            trials.append(Trial(id=id_, key=key, genotype=genotype, seed=seed, status="ok", scores=scores))
        searcher.tell(trials)
    return np.maximum.accumulate(values)


@dataclass(frozen=True)
class SignTest:
    """The numbers of seeds at which the challenger found more, and less, than the baseline; ties are not counted."""

    wins: int
    losses: int

    @classmethod
    def of(cls, baseline: Sequence[float], challenger: Sequence[float]) -> SignTest:
        """The test of the values that both found, paired by seed."""
        pairs = list(zip(baseline, challenger, strict=True))
        return cls(sum(b > a for a, b in pairs), sum(b < a for a, b in pairs))

    @property
    def p_value(self) -> float:
        """The probability of so many wins or more if a win and a loss were equally likely (one-sided)."""
        decided = self.wins + self.losses
        return float(binomtest(self.wins, decided, alternative="greater").pvalue) if decided else 1.0
