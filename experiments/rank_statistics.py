"""Rank correlations and their bootstrap, computed for all resamples at once.

A resample of n cells is a row of n multiplicities: how often each cell was drawn. The statistics take rows ``(B, n)``
and return values ``(B,)``; a row of ones gives the statistic of the original cells. The copies of one cell are ties in
both columns, as they would be if the resampled columns were written out. A statistic is NaN where it is undefined,
which it is if all scores are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Weights: TypeAlias = npt.NDArray[np.float32]

BLOCK = 512  # columns of signs, or rows of ranks, in memory at a time
LEVEL = 95.0  # percent of the resamples that lie within an interval


def resample_weights(cells: int, resamples: int, seed: int) -> Weights:
    """``(1 + resamples, cells)``: a row of ones, then how often each cell occurs in each resample with replacement."""
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + resamples, cells), dtype=np.float32)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(cells, size=cells), minlength=cells)
    return weights


def kendall_tau(x: npt.ArrayLike, y: npt.ArrayLike, weights: Weights) -> Floats:
    """tau-b = (C - D) / sqrt((n0 - nx) (n0 - ny)), for each row of weights.

    A pair of cells i, j counts w_i w_j times, the product of their multiplicities. C and D count the pairs that both
    columns order in the same way and in opposite ways, n0 - nx and n0 - ny the pairs that are not tied in x and in y.
    C - D = sum_{i<j} w_i w_j sign(x_i - x_j) sign(y_i - y_j) is computed by matrix products, a block of columns at a
    time; the partial sums are multiples of 1/2 below 2^23, so single precision is exact.
    """
    (x_of, x_codes), (y_of, y_codes) = _coded(x), _coded(y)
    surplus = np.zeros(len(weights))
    for start in range(0, len(x_codes), BLOCK):
        stop = min(start + BLOCK, len(x_codes))
        signs = _signs(x_codes[:stop], x_codes[start:stop]) * _signs(y_codes[:stop], y_codes[start:stop])
        factors = signs.astype(np.float32)
        factors[start:] /= 2  # within the block each pair occurs twice
        reached = weights[:, :stop] @ factors
        surplus += np.einsum("bj,bj->b", reached, weights[:, start:stop], dtype=np.float64)
    untied = _untied_pairs(x_codes, x_of, weights) * _untied_pairs(y_codes, y_of, weights)
    return _ratio(surplus, np.sqrt(untied))


def spearman_rho(x: npt.ArrayLike, y: npt.ArrayLike, weights: Weights) -> Floats:
    """Pearson's correlation of the ranks, where equal values have their mean rank, for each row of weights."""
    (x_of, x_codes), (y_of, y_codes) = _coded(x), _coded(y)
    found = np.empty(len(weights))
    for rows in _blocks(len(weights)):
        w = weights[rows].astype(np.float64)
        a, b = _centred_ranks(x_codes, x_of, w), _centred_ranks(y_codes, y_of, w)
        weighted = w * a
        spread = np.einsum("bi,bi->b", weighted, a) * np.einsum("bi,bi->b", w * b, b)
        found[rows] = _ratio(np.einsum("bi,bi->b", weighted, b), np.sqrt(spread))
    return found


def partial_tau(xy: npt.ArrayLike, xz: npt.ArrayLike, yz: npt.ArrayLike) -> Floats:
    """Kendall's partial tau of x and y given z: (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)).

    The association of x and y that z, here the parameter count, does not explain. NaN if t_xz or t_yz is 1 or -1.
    """
    xy, xz, yz = (np.asarray(each, dtype=np.float64) for each in (xy, xz, yz))
    rest = np.clip((1 - xz**2) * (1 - yz**2), 0, None)
    return _ratio(xy - xz * yz, np.sqrt(np.where(rest > 1e-12, rest, 0)))


def tied_pairs(x: npt.ArrayLike) -> int:
    """The number of pairs of equal values."""
    counts = np.unique(np.asarray(x), return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile interval; NaN where it is undefined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Estimate:
        """From the statistic of the original cells, followed by those of the resamples.

        Undefined resamples are left out; if more than half are undefined, there is no interval.
        """
        value, *rest = np.asarray(values, dtype=np.float64).tolist()
        kept = np.array([each for each in rest if np.isfinite(each)])
        if not np.isfinite(value) or len(kept) == 0 or 2 * len(kept) < len(rest):
            return cls(value, float("nan"), float("nan"))
        low, high = np.percentile(kept, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
        return cls(value, float(low), float(high))

    def to_json(self) -> dict[str, float | None]:
        """The fields by name; undefined values are null."""
        named = {"value": self.value, "low": self.low, "high": self.high}
        return {name: each if np.isfinite(each) else None for name, each in named.items()}


def _coded(values: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The order that sorts the values, and the index of each value among the sorted distinct values."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("expected finite values, got others among them")
    codes = np.unique(array, return_inverse=True)[1]
    return np.argsort(codes, kind="stable"), codes.astype(np.intp)


def _signs(above: npt.NDArray[np.intp], below: npt.NDArray[np.intp]) -> npt.NDArray[np.int8]:
    return (above[:, None] > below).astype(np.int8) - (above[:, None] < below).astype(np.int8)


def _group_sums(codes: npt.NDArray[np.intp], order: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]) -> Floats:
    """``(B, groups)``: for each distinct value, the sum of its weights."""
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sums: Floats = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _untied_pairs(codes: npt.NDArray[np.intp], order: npt.NDArray[np.intp], weights: Weights) -> Floats:
    found = np.empty(len(weights))
    for rows in _blocks(len(weights)):
        w = weights[rows].astype(np.float64)
        found[rows] = (w.sum(1) ** 2 - (_group_sums(codes, order, w) ** 2).sum(1)) / 2
    return found


def _centred_ranks(codes: npt.NDArray[np.intp], order: npt.NDArray[np.intp], weights: Floats) -> Floats:
    """``(B, n)``: the mean rank of each value in each resample, minus the mean of all ranks."""
    groups = _group_sums(codes, order, weights)
    middle: Floats = np.cumsum(groups, axis=1) - (groups - 1) / 2
    ranks: Floats = middle[:, codes]
    ranks -= (weights.sum(1, keepdims=True) + 1) / 2
    return ranks


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    undefined: Floats = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
