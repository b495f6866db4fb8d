"""From scores and accuracies to rank correlations.

The scores of a proxy that is minimised change their sign, so tau is positive where a proxy agrees with the accuracies.
All proxies are evaluated on the same resamples of the cells. A proxy that has no score for some cells is evaluated
without these cells, and its difference to the parameter count is then taken on the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.correlation.config import BASELINES
from experiments.correlation.scoring import Record
from experiments.rank_statistics import (
    Estimate,
    Floats,
    Weights,
    kendall_tau,
    partial_tau,
    resample_weights,
    spearman_rho,
    tied_pairs,
)
from proxies.base import Direction, Proxy, ProxyError
from proxies.population import PopulationProxy

REFERENCE = "measured clean accuracy"
FEWEST_CELLS = 3  # with fewer scores there is no correlation
FEWEST_TOP = 8  # with fewer scores in the best quarter there is no correlation within it
UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True)
class Column:
    """The scores of one proxy, ``(seeds, cells)``, NaN where there is none, and how often each error occurred."""

    name: str
    direction: Direction
    scores: Floats
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``baseline``, ``reference``, or ``proxy`` for a proxy to be judged."""
        return "baseline" if self.name in BASELINES else "reference" if self.name == REFERENCE else "proxy"

    @property
    def goodness(self) -> Floats:
        """``(cells,)``: the mean over seeds, its sign such that higher is better; NaN where a seed has no score."""
        mean: Floats = self.scores.mean(axis=0) * (1 if self.direction == "maximize" else -1)
        return mean


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How well one proxy's scores predict the accuracies.

    ``gain`` is tau minus the tau of the parameter count, ``partial`` the partial tau given the parameter count, ``top``
    the tau among the best quarter of the cells. ``cells`` is the number of cells with a score, ``missing`` of those
    without. ``seconds`` is the time for one cell if this proxy is the only one.
    """

    name: str
    kind: str
    direction: Direction
    cells: int
    missing: int
    ties: int
    reasons: Mapping[str, int]
    tau: Estimate
    rho: Estimate
    top: Estimate
    top_cells: int
    gain: Estimate
    partial: Estimate
    tau_by_seed: tuple[float, ...]
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields by name; undefined figures are null."""
        plain = {name: value.to_json() if isinstance(value, Estimate) else value for name, value in vars(self).items()}
        return {**plain, "tau_by_seed": [each if np.isfinite(each) else None for each in self.tau_by_seed]}


def columns(
    proxies: Sequence[Proxy | PopulationProxy], records: Sequence[Record], keys: Sequence[str], seeds: Sequence[int]
) -> list[Column]:
    """A column for each proxy. :param keys: the cells' canonical keys, in order; equal keys share their scores."""
    found = {(record.key, record.seed): record for record in records}
    networks = list(dict.fromkeys(keys))
    place = {key: i for i, key in enumerate(networks)}
    cells = [place[key] for key in keys]

    def raw(proxy: Proxy) -> Column:
        rows = [[found[key, seed].scores.get(proxy.name, float("nan")) for key in networks] for seed in seeds]
        reasons = Counter(
            found[key, seed].errors[proxy.name]
            for seed in seeds
            for key in networks
            if proxy.name in found[key, seed].errors
        )
        return Column(name=proxy.name, direction=proxy.direction, scores=np.array(rows), reasons=reasons)

    def by_network(proxy: Proxy | PopulationProxy) -> Column:
        if isinstance(proxy, PopulationProxy):
            return combined(proxy, [raw(each) for each in proxy.components])
        return raw(proxy)

    made = [by_network(proxy) for proxy in proxies]
    return [
        Column(name=each.name, direction=each.direction, scores=each.scores[:, cells], reasons=each.reasons)
        for each in made
    ]


def combined(proxy: PopulationProxy, parts: Sequence[Column]) -> Column:
    """A population proxy; at every seed the population is the networks that have all components at all seeds."""
    complete = np.isfinite(np.stack([part.scores for part in parts])).all(axis=(0, 1))
    scores = np.full(parts[0].scores.shape, np.nan)
    reasons = Counter({f"{part.name}: {why}": n for part in parts for why, n in part.reasons.items()})
    try:
        for row, values in enumerate(scores):
            values[complete] = proxy.combine({part.name: part.scores[row, complete] for part in parts})
    except ProxyError as error:
        scores[:] = np.nan
        reasons[f"ProxyError: {error}"] += 1
    return Column(name=proxy.name, direction=proxy.direction, scores=scores, reasons=reasons)


class Analysis:
    """Judges columns on the same cells, resamples and accuracies.

    :param accuracy: ``(cells,)``, percent. :param params: ``(cells,)``, parameter counts.
    """

    def __init__(self, accuracy: Floats, params: Floats, *, resamples: int, seed: int):
        self.accuracy = accuracy
        self.params = params
        self.weights = resample_weights(len(accuracy), resamples, seed)
        least = np.sort(accuracy)[-max(1, len(accuracy) // 4)]
        self.top = np.flatnonzero(accuracy >= least)
        self.top_weights = resample_weights(len(self.top), resamples, seed)
        self._params_tau = kendall_tau(params, accuracy, self.weights)

    def judge(self, column: Column, seconds: float | None) -> Finding:
        """All figures of one column."""
        good = column.goodness
        present = np.flatnonzero(np.isfinite(good))
        in_top = np.isin(self.top, present)
        tau = _of(kendall_tau, good, self.accuracy, present, self.weights)
        by_params = _of(kendall_tau, good, self.params, present, self.weights)
        params_tau = self._params_tau
        if len(present) < len(good):
            params_tau = _of(kendall_tau, self.params, self.accuracy, present, self.weights)
        is_params = column.name == "params"
        top = self.top[in_top] if in_top.sum() >= FEWEST_TOP else self.top[:0]
        sign = 1 if column.direction == "maximize" else -1
        return Finding(
            name=column.name,
            kind=column.kind,
            direction=column.direction,
            cells=len(present),
            missing=len(good) - len(present),
            ties=tied_pairs(good[present]),
            reasons=dict(column.reasons),
            tau=Estimate.of(tau),
            rho=Estimate.of(_of(spearman_rho, good, self.accuracy, present, self.weights)),
            top=Estimate.of(_of(kendall_tau, good, self.accuracy, top, self.top_weights[:, in_top])),
            top_cells=int(in_top.sum()),
            gain=UNDEFINED if is_params else Estimate.of(tau - params_tau),
            partial=UNDEFINED if is_params else Estimate.of(partial_tau(tau, by_params, params_tau)),
            tau_by_seed=tuple(
                float(_of(kendall_tau, sign * row, self.accuracy, present, self.weights[:1])[0])
                for row in column.scores
            ),
            seconds=seconds,
        )


def _of(
    statistic: Callable[[Floats, Floats, Weights], Floats],
    x: Floats,
    y: Floats,
    cells: np.ndarray,
    weights: Weights,
) -> Floats:
    """A statistic of the given cells only; NaN if there are fewer than ``FEWEST_CELLS``.

    :param weights: of all cells, or of the given cells only.
    """
    if len(cells) < FEWEST_CELLS:
        return np.full(len(weights), np.nan)
    if weights.shape[1] != len(cells):
        weights = weights[:, cells]
    return statistic(x[cells], y[cells], weights)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The findings sorted by tau, the greatest first; those without a tau last."""
    return sorted(findings, key=lambda each: -each.tau.value if np.isfinite(each.tau.value) else np.inf)
