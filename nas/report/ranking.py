"""Statistics of a run: the ranking of its candidates, the correlation of scores with size, and the operations used.

All statistics are over distinct candidates: if a canonical key was proposed twice (and its score reused), it counts
once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, rankdata

from nas.runs.reader import ScoredBy
from searchers.base import Trial
from searchers.fronts import joint
from searchers.objectives import Direction, RankSum, rank

RESAMPLES = 1000  # bootstrap resamples; fewer for long runs, where a resample costs more and the interval is narrow
LOG_RATIO = 1000.0  # ratio of largest to smallest score above which the axis is logarithmic
TOP = 0.1  # share of best candidates whose operations are compared with those of all

Ranked = Trial[str]


def is_ranked(trial: Trial[str], proxies: Sequence[ScoredBy]) -> bool:
    """Whether the trial has a finite score from every proxy of the run, at the full size."""
    return (
        trial.ranked
        and bool(proxies)
        and all(math.isfinite(trial.scores.get(proxy.name, math.nan)) for proxy in proxies)
    )


def ranking(
    trials: Sequence[Trial[str]], proxies: Sequence[ScoredBy], objectives: Sequence[ScoredBy] = ()
) -> list[Ranked]:
    """The distinct candidates with a finite score from every proxy, best first, in the same order as in the search.

    With several objectives, candidates are ordered by front and crowding distance; without any, by the mean of their
    ranks by the proxies. Candidates of equal rank are in the order of proposal.
    """
    usable = [trial for trial in trials if is_ranked(trial, proxies)]
    if not usable:
        return []
    order = joint(directions(objectives)) if objectives else RankSum(directions(proxies))
    return rank(usable, order, len(usable))


def directions(scores: Sequence[ScoredBy]) -> dict[str, Direction]:
    """The direction of each score by its name."""
    return {score.name: score.direction for score in scores}


def best_so_far(scores: Sequence[float], sign: int) -> np.ndarray:
    """For each score, in the order of proposal, the best score up to then; ``sign`` is -1 if lower is better."""
    return sign * np.maximum.accumulate(sign * np.asarray(scores, dtype=float))


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b of ``count`` pairs, with the bounds of its 95 % percentile bootstrap interval."""

    tau: float
    low: float
    high: float
    count: int


def correlate(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Correlation | None:
    """Kendall's tau of two sequences of equal length; None if it is undefined (one is constant) or under 3 pairs.

    The interval is from resampling candidates with replacement. A resample in which one side is constant has no tau and
    is left out.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    resamples = min(RESAMPLES, max(200, RESAMPLES * 1000 // len(x)))
    drawn = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), size=resamples)
    low, high = np.quantile(_weighted_taus(rankdata(x), rankdata(y), drawn.astype(float)), [0.025, 0.975])
    return Correlation(float(kendalltau(x, y).statistic), float(low), float(high), len(x))


def _weighted_taus(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Tau-b of ``x`` and ``y`` ``(N,)`` in each resample, ``(R,)`` or fewer, without those in which it is undefined.

    :param weights: how often each resample contains each candidate, ``(R, N)``. Sums over pairs are computed as matrix
        products, 256 candidates at a time, not in a loop over resamples.
    """
    agreeing, x_differs, y_differs = np.zeros((3, len(weights)))
    for start in range(0, len(x), 256):
        rows = slice(start, start + 256)
        x_signs, y_signs = (np.sign(each[rows, None] - each) for each in (x, y))  # (256, N)
        for total, pairs in ((agreeing, x_signs * y_signs), (x_differs, x_signs**2), (y_differs, y_signs**2)):
            total += ((weights[:, rows] @ pairs) * weights).sum(axis=1)
    defined = (x_differs > 0) & (y_differs > 0)
    return np.asarray(agreeing[defined] / np.sqrt(x_differs[defined] * y_differs[defined]))


def size_correlation(ranked: Sequence[Ranked], proxy: ScoredBy, size: Callable[[Ranked], int]) -> Correlation | None:
    """Tau between the score and ``size`` (params or MACs), over the candidates whose size is recorded.

    The sign of a score for which lower is better is inverted, so a positive tau always means that larger candidates are
    judged better.
    """
    known = [trial for trial in ranked if size(trial) > 0]
    return correlate([proxy.sign * trial.scores[proxy.name] for trial in known], [size(trial) for trial in known])


@dataclass(frozen=True)
class OperationShare:
    """The share of edges that have an operation, among the best candidates (``top``) and among all (``all``).

    ``low`` and ``high`` bound the share, with 95 % probability, in as many candidates drawn at random.
    """

    operation: str
    top: float
    all: float
    low: float
    high: float


def operation_shares(operations: Sequence[Sequence[str]], top: int, *, seed: int = 0) -> list[OperationShare]:
    """The share of each operation in the first ``top`` candidates and in all; most frequent operation first.

    :param operations: for each candidate, best first, the operations on its edges.
    """
    names = [name for name, _ in Counter(name for each in operations for name in each).most_common()]
    counts = np.array([[list(each).count(name) for name in names] for each in operations], dtype=float)  # (N, names)
    rng = np.random.default_rng(seed)
    blind = [_shares(counts[rng.permutation(len(counts))[:top]]) for _ in range(RESAMPLES)]
    low, high = np.quantile(blind, [0.025, 0.975], axis=0)
    chosen, overall = _shares(counts[:top]), _shares(counts)
    return [
        OperationShare(name, float(chosen[i]), float(overall[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(names)
    ]


def _shares(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts.sum(axis=0) / max(1.0, counts.sum()))


@dataclass(frozen=True)
class VisibleRange:
    """The range of scores that a chart shows; ``outside`` is the number of (bad) candidates outside of it."""

    low: float
    high: float
    logarithmic: bool
    outside: int

    @property
    def flat(self) -> bool:
        """Whether the range is a single value, up to rounding."""
        return self.high - self.low <= 1e-9 * max(abs(self.low), abs(self.high))


def visible_range(scores: Sequence[float], sign: int) -> VisibleRange:
    """The range that a chart shows: all good scores, and bad ones up to ten interquartile ranges from the quartile.

    Without this limit, a few very bad candidates would compress all others into a line. If all scores are positive and
    span a factor of more than 1,000, the axis is logarithmic.
    """
    values = np.asarray(scores, dtype=float)
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > LOG_RATIO)
    goodness = sign * (np.log10(values) if logarithmic else values)
    lower, upper = (float(quartile) for quartile in np.quantile(goodness, [0.25, 0.75]))
    floor = float(goodness.min())
    if upper > lower:
        floor = max(floor, lower - 10 * (upper - lower))
    worst = min(range(len(values)), key=lambda i: (goodness[i] < floor, goodness[i]))  # worst one shown
    ends = float(values[worst]), float(values[goodness.argmax()])
    return VisibleRange(min(ends), max(ends), logarithmic, int((goodness < floor).sum()))
