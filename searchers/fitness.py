"""Fitness: how the proxy scores of trials become one number each, higher is better.

``RankSum`` is the Borda count: each proxy ranks the trials, the ranks are averaged. It is relative to the trials it is
given, so values of different calls do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from scipy.stats import rankdata

from searchers.base import Fitness, Trial

G = TypeVar("G")

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class SingleScore:
    """The score of one proxy, negated where lower is better."""

    proxy: str
    direction: Direction

    def __post_init__(self) -> None:
        _check_direction(self.proxy, self.direction)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one value a trial.

        :raises ValueError: a trial has no score of the proxy, or NaN.
        """
        return _signed_scores(trials, self.proxy, self.direction)


@dataclass(frozen=True)
class RankSum:
    """The mean over proxies of ``rank / n``, in (0, 1]: 1.0 for a trial that is best by every proxy.

    Ranks count from 1 for the worst; trials that tie share their average rank.
    """

    directions: Mapping[str, Direction]

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("a rank sum needs at least one proxy, got none")
        for proxy, direction in self.directions.items():
            _check_direction(proxy, direction)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one value a trial.

        :raises ValueError: a trial lacks one of the scores, or it is NaN.
        """
        columns = [_signed_scores(trials, proxy, direction) for proxy, direction in self.directions.items()]
        ranks = [rankdata(column) / max(len(trials), 1) for column in columns]
        return np.asarray(np.mean(ranks, axis=0))


def best(trials: Sequence[Trial[G]], fitness: Fitness[G], k: int) -> list[Trial[G]]:
    """The ``k`` fittest trials of status ok, best first; fewer where there are fewer.

    Of trials with one key only the one with the lowest id counts, before the fitness is taken. Ties go to the lower id.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    first: dict[str, Trial[G]] = {}
    for trial in sorted(trials, key=lambda trial: trial.id):
        if trial.status == "ok":
            first.setdefault(trial.key, trial)
    distinct = list(first.values())
    if not distinct:
        return []
    order = np.argsort(-fitness(distinct), kind="stable")
    return [distinct[index] for index in order[:k]]


def _check_direction(proxy: str, direction: str) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"direction of '{proxy}' must be {' or '.join(get_args(Direction))}, got '{direction}'")


def _signed_scores(trials: Sequence[Trial[Any]], proxy: str, direction: Direction) -> np.ndarray:
    for trial in trials:
        if proxy not in trial.scores:
            raise ValueError(f"trial {trial.id} has no score '{proxy}', got {', '.join(trial.scores) or 'none'}")
        if math.isnan(trial.scores[proxy]):
            raise ValueError(f"trial {trial.id}: score '{proxy}' must be a number, got nan")
    values = np.array([trial.scores[proxy] for trial in trials], dtype=np.float64)
    return values if direction == "maximize" else -values
