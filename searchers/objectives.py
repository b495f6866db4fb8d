"""Objectives turn the scores of trials into the values to be maximised, and :func:`rank` orders trials by them.

``SingleScore`` is the score of one proxy. ``RankSum`` is the Borda count: each proxy ranks the trials, and the ranks
are averaged. ``MeanRank`` does the same with any objectives. ``PopulationScore`` is a score that a proxy computes from
the scores of all trials together. The values of the last three depend on all trials of a call, so values from different
calls cannot be compared. ``Joint`` combines objectives into several columns.

:func:`rank` sorts by value if there is one objective. If there are several, it sorts by non-dominated front and
crowding distance, as NSGA-II does (https://doi.org/10.1109/4235.996017, Deb, Pratap, Agarwal, Meyarivan; IEEE
Transactions on Evolutionary Computation 2002, sections III.A and III.B).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from search_spaces.base import whole_number
from searchers.base import Objectives, Trial

G = TypeVar("G")

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class SingleScore:
    """The score of one proxy, negated where lower is better."""

    proxy: str
    direction: Direction

    def __post_init__(self) -> None:
        _check_direction(self.proxy, self.direction)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.proxy,)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, 1)``, one value a trial.

        :raises ValueError: a trial has no score of the proxy, or its score is NaN.
        """
        return _signed_scores(trials, self.proxy, self.direction)[:, None]


@dataclass(frozen=True)
class RankSum:
    """The mean over proxies of ``rank / n``, in (0, 1]: 1.0 for a trial that is best by every proxy.

    ``n`` is the number of trials. The worst trial has rank 1; trials with equal scores share the mean of their ranks.
    """

    directions: Mapping[str, Direction]

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("a rank sum needs at least one proxy, got none")
        for proxy, direction in self.directions.items():
            _check_direction(proxy, direction)

    @property
    def names(self) -> tuple[str, ...]:
        return ("mean rank",)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, 1)``, one value a trial.

        :raises ValueError: a trial lacks one of the scores, or one of its scores is NaN.
        """
        return _mean_rank([_signed_scores(trials, proxy, direction) for proxy, direction in self.directions.items()])


@dataclass(frozen=True)
class PopulationScore:
    """The score of a proxy that compares trials, negated where lower is better.

    :param proxy: the name of the proxy.
    :param components: names of the scores that it is computed from.
    :param combine: computes the scores ``(n,)`` from a column ``(n,)`` for each component; n is at least 2.
    """

    proxy: str
    direction: Direction
    components: tuple[str, ...]
    combine: Callable[[Mapping[str, np.ndarray]], np.ndarray]

    def __post_init__(self) -> None:
        _check_direction(self.proxy, self.direction)

    def values(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n,)``, one score a trial, not negated. A single trial cannot be compared, and gets the score 0.

        :raises ValueError: a trial lacks one of the components, one of them is NaN, or ``combine`` raises it.
        """
        if len(trials) < 2:
            return np.zeros(len(trials))
        return self.combine({name: _signed_scores(trials, name, "maximize") for name in self.components})

    @property
    def names(self) -> tuple[str, ...]:
        return (self.proxy,)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, 1)``, one value a trial."""
        values = self.values(trials)
        return (values if self.direction == "maximize" else -values)[:, None]


@dataclass(frozen=True)
class MeanRank:
    """The mean over objectives of ``rank / n``, where :class:`RankSum` defines the ranks."""

    parts: tuple[Objectives, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a mean rank needs at least one objective, got none")

    @property
    def names(self) -> tuple[str, ...]:
        return ("mean rank",)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, 1)``, one value a trial."""
        return _mean_rank([column for part in self.parts for column in evaluate(part, trials).T])


@dataclass(frozen=True)
class Joint:
    """Several objectives without weights or an order among them: the columns of all parts, side by side."""

    parts: tuple[Objectives, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("joint objectives need at least one objective, got none")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
        """``(n, m)``, one row a trial."""
        return np.hstack([evaluate(part, trials) for part in self.parts])


def evaluate(objectives: Objectives, trials: Sequence[Trial[Any]]) -> np.ndarray:
    """The values ``(n, m)`` of the trials, as float64.

    :raises ValueError: ``objectives`` returned another shape.
    """
    values = np.asarray(objectives(trials), dtype=np.float64)
    expected = len(trials), len(objectives.names)
    if values.shape != expected:
        raise ValueError(f"objectives must return values of shape {expected}, got shape {values.shape}")
    return values


def rank(trials: Sequence[Trial[G]], objectives: Objectives, k: int) -> list[Trial[G]]:
    """The ``k`` best trials of status ok and full fidelity, best first, or all of them if there are fewer.

    Of trials with the same key, only the one with the lowest id is kept, before any objective is computed. One
    objective: trials are sorted by value. Several: by non-dominated front, and within a front by crowding distance. Of
    tied trials, the one with the lower id comes first.

    :raises ValueError: ``k`` is no whole number from 1, or the objectives cannot be computed or compared.
    """
    k = whole_number("k", k)
    compared = distinct(trials)
    if not compared:
        return []
    order = np.argsort(-standing(evaluate(objectives, compared)), kind="stable")
    return [compared[index] for index in order[:k]]


def standing(values: np.ndarray) -> np.ndarray:
    """``(n,)``: one number for each row of values ``(n, m)``, higher is better, equal for rows that tie.

    One objective: its values. Several: 0 for the rows of the first front with the largest crowding distance, then -1,
    -2, ... in the order of :func:`rank`.

    :raises ValueError: there are several objectives, and a value is not finite.
    """
    if values.shape[1] == 1:
        return values[:, 0]
    if not np.isfinite(values).all():
        raise ValueError("several objectives need finite values, got one that is not")
    fronts = front_numbers(values)
    crowding = np.empty(len(values))
    for number in range(fronts.max(initial=-1) + 1):
        members = fronts == number
        crowding[members] = crowding_distances(values[members])
    _, places = np.unique(np.column_stack([fronts, -crowding]), axis=0, return_inverse=True)
    return -places.reshape(-1).astype(np.float64)


def front_numbers(values: np.ndarray) -> np.ndarray:
    """``(n,)``: the non-dominated front of each row of values ``(n, m)``, higher is better; 0 is the best front.

    The front of a row is the length of the longest chain of rows in which each dominates the next, and the last one
    dominates this row. Rows are processed in lexicographic order, best first, so a row can be dominated by earlier ones
    only.
    """
    rows, places = np.unique(-values + 0.0, axis=0, return_inverse=True)  # + 0.0: no negative zeros
    fronts = np.zeros(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        dominating = (rows[:index] <= row).all(axis=1)
        fronts[index] = 1 + fronts[:index][dominating].max(initial=-1)
    return fronts[places.reshape(-1)]


def crowding_distances(values: np.ndarray) -> np.ndarray:
    """``(n,)``: the crowding distance of each row of values ``(n, m)`` of one front.

    It is the sum over objectives of the distance between the row's two neighbours in that objective, divided by the
    range of the front. The rows with the least and the greatest value of an objective have an infinite distance; if
    several rows have the same least or greatest value, the first of them.
    """
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if ordered[-1] > ordered[0]:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
        distances[[column.argmin(), column.argmax()]] = np.inf
    return distances


def distinct(trials: Sequence[Trial[G]]) -> list[Trial[G]]:
    """The trials of status ok and full fidelity in id order; of those with the same key, only the first."""
    first: dict[str, Trial[G]] = {}
    for trial in sorted(trials, key=lambda trial: trial.id):
        if trial.ranked:
            first.setdefault(trial.key, trial)
    return list(first.values())


def average_ranks(column: np.ndarray) -> np.ndarray:
    """``(n,)``: the rank of each value, starting with 1 for the least; equal values share the mean of their ranks."""
    _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])


def _mean_rank(columns: Sequence[np.ndarray]) -> np.ndarray:
    """``(n, 1)``: the mean over ``columns`` of ``rank / n``."""
    return np.asarray(np.mean([average_ranks(each) / max(len(each), 1) for each in columns], axis=0))[:, None]


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
