"""Fitness: how the proxy scores of trials become one number each, higher is better.

``RankSum`` is the Borda count: each proxy ranks the trials, the ranks are averaged; ``MeanRank`` is the same of any
fitnesses. ``PopulationScore`` is what a proxy makes of the scores of all trials together. These are relative to the
trials they are given, so values of different calls do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
        return _mean_rank([_signed_scores(trials, proxy, direction) for proxy, direction in self.directions.items()])


@dataclass(frozen=True)
class PopulationScore:
    """The score of a proxy that compares trials, negated where lower is better.

    :param proxy: its name. :param components: names of the scores that it looks at.
    :param combine: from columns ``(n,)`` by component to ``(n,)``, for n of at least 2.
    """

    proxy: str
    direction: Direction
    components: tuple[str, ...]
    combine: Callable[[Mapping[str, np.ndarray]], np.ndarray]

    def __post_init__(self) -> None:
        _check_direction(self.proxy, self.direction)

    def values(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one score a trial; fewer than two trials have nothing to be compared with and get 0.

        :raises ValueError: a trial lacks one of the components, or it is NaN; or ``combine`` refuses them.
        """
        if len(trials) < 2:
            return np.zeros(len(trials))
        return self.combine({name: _signed_scores(trials, name, "maximize") for name in self.components})

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one value a trial."""
        values = self.values(trials)
        return values if self.direction == "maximize" else -values


@dataclass(frozen=True)
class MeanRank:
    """The mean over fitnesses of ``rank / n``, as of :class:`RankSum`."""

    parts: tuple[Fitness[Any], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a mean rank needs at least one fitness, got none")

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one value a trial."""
        return _mean_rank([part(trials) for part in self.parts])


def best(trials: Sequence[Trial[G]], fitness: Fitness[G], k: int) -> list[Trial[G]]:
    """The ``k`` fittest trials of status ok, best first; fewer where there are fewer.

    Of trials with one key only the one with the lowest id counts, before the fitness is taken. Ties go to the lower id.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    compared = distinct(trials)
    if not compared:
        return []
    order = np.argsort(-fitness(compared), kind="stable")
    return [compared[index] for index in order[:k]]


def distinct(trials: Sequence[Trial[G]]) -> list[Trial[G]]:
    """The trials of status ok in id order, of those with one key only the first."""
    first: dict[str, Trial[G]] = {}
    for trial in sorted(trials, key=lambda trial: trial.id):
        if trial.status == "ok":
            first.setdefault(trial.key, trial)
    return list(first.values())


def _mean_rank(columns: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean([rankdata(column) / max(len(column), 1) for column in columns], axis=0))


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
