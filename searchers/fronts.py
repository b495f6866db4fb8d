"""The non-dominated front of the trials of a search with several objectives, its knee and its hypervolume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from searchers.base import Trial
from searchers.objectives import Direction, Joint, SingleScore, distinct, evaluate, front_numbers, rank

G = TypeVar("G")


@dataclass(frozen=True, kw_only=True)
class Front(Generic[G]):
    """The trials that no other trial dominates, best by the first objective first.

    ``best`` and ``worst`` are the best and the worst value of each objective over all trials that were compared, by
    name. ``hypervolume`` is the share of the box between them that the front dominates, in [0, 1]; ``worst`` is the
    reference point. :func:`knee` defines the ``knee``.
    """

    trials: list[Trial[G]]
    knee: Trial[G]
    hypervolume: float
    best: dict[str, float]
    worst: dict[str, float]


def joint(directions: Mapping[str, Direction]) -> Joint:
    """The objectives with these names of scores, in this order."""
    return Joint(tuple(SingleScore(name, direction) for name, direction in directions.items()))


def front_of(trials: Sequence[Trial[G]], directions: Mapping[str, Direction]) -> Front[G]:
    """The front of the trials of status ok; of those with the same key, only the first is compared.

    :raises ValueError: no trial is ok, one of them lacks a score, or a score is not finite.
    """
    compared = distinct(trials)
    if not compared:
        raise ValueError(f"a front needs at least one trial of status ok, got none of {len(trials)}")
    values = evaluate(joint(directions), compared)
    if not np.isfinite(values).all():
        raise ValueError("a front needs finite scores, got one that is not")
    members = np.flatnonzero(front_numbers(values) == 0)
    members = members[np.argsort(-values[members, 0], kind="stable")]
    signs = [1 if direction == "maximize" else -1 for direction in directions.values()]
    best, worst = ((signs * ends).tolist() for ends in (values.max(axis=0), values.min(axis=0)))
    return Front(
        trials=[compared[index] for index in members],
        knee=compared[members[knee(values[members])]],
        hypervolume=hypervolume(normalised(values, values.min(axis=0), values.max(axis=0))[members]),
        best=dict(zip(directions, best, strict=True)),
        worst=dict(zip(directions, worst, strict=True)),
    )


def spread(front: Sequence[Trial[G]], directions: Mapping[str, Direction], k: int, knee: int) -> list[Trial[G]]:
    """The trial ``knee`` and those with the largest crowding distances, ``k`` in all, in the order of the front."""
    others = [trial.id for trial in rank(front, joint(directions), len(front)) if trial.id != knee]
    return [trial for trial in front if trial.id in (knee, *others[: k - 1])]


def normalised(values: np.ndarray, worst: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Values ``(n, m)``, higher is better, with ``worst`` at 0 and ``best`` at 1; all at 1 where these are equal."""
    span = best - worst
    return np.where(span > 0, (values - worst) / np.where(span > 0, span, 1.0), 1.0)


def hypervolume(values: np.ndarray) -> float:
    """The volume that rows of values ``(n, m)``, higher is better, dominate above the reference point (0, ..., 0)."""
    import moocore

    return float(moocore.hypervolume(values, ref=np.zeros(values.shape[1]), maximise=True))


def knee(front: np.ndarray) -> int:
    """The row of a front's values ``(n, m)``, higher is better, that is farthest from the plane through its extremes.

    Each objective is normalised over the front. The plane passes through the best row of each objective (the least
    squares solution, where there are too few different ones); rows beyond it, away from the worst values, are at a
    positive distance. Of tied rows, the first is taken. After Das, "On characterizing the knee of the Pareto curve
    based on normal-boundary intersection", Structural Optimization 1999.
    """
    rows = normalised(front, front.min(axis=0), front.max(axis=0))
    plane = np.linalg.lstsq(rows[rows.argmax(axis=0)], np.ones(rows.shape[1]), rcond=None)[0]
    return int(np.round(rows @ plane, 12).argmax())
