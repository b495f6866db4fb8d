"""What the numbers of a run say: the order of its candidates, and how much of a score is size.

Everything here is about distinct candidates: a key proposed twice (its score was reused) counts once.
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
from searchers.objectives import RankSum, rank

RESAMPLES = 1000  # of a bootstrap; fewer for long runs, where each costs more and the interval is narrow
LOG_RATIO = 1000.0
TOP = 0.1  # the share of candidates whose operations are set beside those of all

Ranked = Trial[str]


def is_ranked(trial: Trial[str], proxies: Sequence[ScoredBy]) -> bool:
    """Whether the trial has a finite score from every proxy of the run."""
    return (
        trial.status == "ok"
        and bool(proxies)
        and all(math.isfinite(trial.scores.get(proxy.name, math.nan)) for proxy in proxies)
    )


def ranking(trials: Sequence[Trial[str]], proxies: Sequence[ScoredBy]) -> list[Ranked]:
    """The distinct candidates with a finite score from every proxy, best first, as the search itself ranks them.

    Several proxies: by the mean of the candidate's ranks. Equal candidates stand in the order of proposal.
    """
    usable = [trial for trial in trials if is_ranked(trial, proxies)]
    return rank(usable, RankSum({proxy.name: proxy.direction for proxy in proxies}), len(usable)) if usable else []


def best_so_far(scores: Sequence[float], sign: int) -> np.ndarray:
    """The running best of scores in the order of proposal."""
    return sign * np.maximum.accumulate(sign * np.asarray(scores, dtype=float))


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b of ``count`` pairs, with the bounds of its 95 % percentile bootstrap interval."""

    tau: float
    low: float
    high: float
    count: int


def correlate(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Correlation | None:
    """Kendall's tau of two equally long sequences; None where it is not defined (a constant side, under 3 pairs).

    The interval resamples candidates with replacement. A resample with a constant side has no tau and is left out.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    resamples = min(RESAMPLES, max(200, RESAMPLES * 1000 // len(x)))
    drawn = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), size=resamples)
    low, high = np.quantile(_weighted_taus(rankdata(x), rankdata(y), drawn.astype(float)), [0.025, 0.975])
    return Correlation(float(kendalltau(x, y).statistic), float(low), float(high), len(x))


def _weighted_taus(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Tau-b of ``x`` and ``y`` ``(N,)`` for each row of ``weights`` ``(R, N)``: how often a resample holds a candidate.

    Sums over pairs are matrix products, 256 candidates at a time, not a loop over resamples.
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
    """Tau between goodness and ``size`` (params, MACs), over candidates whose size is recorded.

    The score's direction is taken out: a positive tau always means that larger candidates are judged better.
    """
    known = [trial for trial in ranked if size(trial) > 0]
    return correlate([proxy.sign * trial.scores[proxy.name] for trial in known], [size(trial) for trial in known])


@dataclass(frozen=True)
class OperationShare:
    """How often an operation is chosen, as a share of edges.

    ``low`` and ``high`` bound what 95 % of equally many candidates, drawn blindly, would show in place of ``top``.
    """

    operation: str
    top: float
    all: float
    low: float
    high: float


def operation_shares(operations: Sequence[Sequence[str]], top: int, *, seed: int = 0) -> list[OperationShare]:
    """Shares among the first ``top`` candidates and among all, the most frequent overall first.

    :param operations: per candidate, best first, the operations on its edges.
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
    """What a chart of scores shows; ``outside`` counts the candidates beyond it, all of them bad."""

    low: float
    high: float
    logarithmic: bool
    outside: int

    @property
    def flat(self) -> bool:
        """Whether all of it is one value, up to rounding."""
        return self.high - self.low <= 1e-9 * max(abs(self.low), abs(self.high))


def visible_range(scores: Sequence[float], sign: int) -> VisibleRange:
    """All good scores; bad ones down to ten interquartile ranges from the quartile: a few hopeless candidates would
    otherwise press all the others into one line. Positive scores that span a factor over 1,000 are shown as logarithms.
    """
    values = np.asarray(scores, dtype=float)
    logarithmic = bool(values.min() > 0 and values.max() / values.min() > LOG_RATIO)
    goodness = sign * (np.log10(values) if logarithmic else values)
    lower, upper = (float(quartile) for quartile in np.quantile(goodness, [0.25, 0.75]))
    floor = float(goodness.min())
    if upper > lower:
        floor = max(floor, lower - 10 * (upper - lower))
    worst = min(range(len(values)), key=lambda i: (goodness[i] < floor, goodness[i]))  # of those that are shown
    ends = float(values[worst]), float(values[goodness.argmax()])
    return VisibleRange(min(ends), max(ends), logarithmic, int((goodness < floor).sum()))
