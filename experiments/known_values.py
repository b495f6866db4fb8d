"""Runs searchers on values that are known without scoring, so that the result depends on the searcher only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from search_spaces.base import SearchSpace
from searchers import get_searcher
from searchers.base import Objectives, Trial
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
    trials = history(
        searcher_name, space, lambda genotype: {"value": float(value(genotype))}, SingleScore("value", "maximize"),
        seed=seed, budget=budget, feasible=feasible,
    )  # fmt: skip
    return np.maximum.accumulate([trial.scores["value"] for trial in trials])


def history(
    searcher_name: str,
    space: SearchSpace[Any],
    scores: Callable[[Any], Mapping[str, float]],
    objectives: Objectives,
    *,
    seed: int,
    budget: int,
    feasible: Callable[[Any], bool] | None = None,
) -> list[Trial[Any]]:
    """The ``budget`` trials of one search. :param scores: those of a genotype, of which the objectives are computed."""
    searcher = get_searcher(searcher_name)(space, seed=seed, objectives=objectives, feasible=feasible)
    trials: list[Trial[Any]] = []
    while len(trials) < budget:
        step = [
            Trial(
                id=number, key=space.canonical(genotype), genotype=genotype, seed=seed, status="ok",
                scores=dict(scores(genotype)),
            )
            for number, genotype in enumerate(searcher.ask(min(BATCH, budget - len(trials))), start=len(trials))
        ]  # fmt: skip
        searcher.tell(step)
        trials += step
    return trials


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
