"""Successive halving, https://arxiv.org/abs/1502.07943 (Jamieson, Talwalkar; AISTATS 2016), promoted asynchronously.

Many cells are scored at a small fidelity, the lowest rung. The best 1 / eta of the cells of a rung are promoted: they
are scored again on the next rung, where a score takes eta times the effort. The last rung is the full size. A cell is
promoted as soon as it is due, not when its rung is complete: that is the rule of ASHA,
https://arxiv.org/abs/1810.05934 (Li et al., MLSys 2020). Departures from that paper:

* Promotions are decided when candidates are asked for, by all trials told until then; several may be due at once.
* Trials that failed or were infeasible take no place on a rung.
* If no cell has been promoted to the full size when the budget ends, the last candidate is the best cell of the highest
  rung so far, at the full size. Where no trial has been told by then, it is a random cell.
* Several objectives: cells of a rung are compared by :func:`~searchers.objectives.standing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial, check_whole
from searchers.objectives import evaluate, standing

G = TypeVar("G")


class SuccessiveHalving(Searcher[G]):
    """A promotion where one is due, the highest rung first, and otherwise a random cell for the lowest rung."""

    multi_fidelity = True

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """The ladder. The fidelities of the rungs are eta^-(rungs - 1), ..., 1 / eta, 1."""

        eta: int = field(default=3, metadata={"help": "the best 1/eta of a rung's cells are promoted to the next"})
        rungs: int = field(default=3, metadata={"help": "each takes eta times the effort of the one below"})

        def __post_init__(self) -> None:
            check_whole("eta", self.eta, 2, 100)
            check_whole("rungs", self.rungs, 1, 10)

    options: Options

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        objectives: Objectives,
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
        options: Options | None = None,
    ):
        super().__init__(
            space, seed=seed, objectives=objectives, feasible=feasible, max_draws=max_draws, options=options
        )
        #: from the lowest rung to the highest
        self.rungs = [float(self.options.eta) ** -k for k in reversed(range(self.options.rungs))]
        self._trials: dict[float, dict[str, Trial[G]]] = {rung: {} for rung in self.rungs}  # told, by rung and key
        self._promotions: list[tuple[G, float]] | None = None  # that are due, with their rungs
        self._asked: list[tuple[G, float]] = []  # proposals since the last trial told

    def ask(self, n: int) -> list[G]:
        while len(self._asked) < n:
            self._asked.append(self._propose(len(self._asked)))
        return [genotype for genotype, _ in self._asked[:n]]

    def fidelities(self, n: int) -> list[float]:
        self.ask(n)
        return [rung for _, rung in self._asked[:n]]

    def observe(self, trial: Trial[G]) -> None:
        self._asked, self._promotions = [], None
        if trial.fidelity in self._trials:
            self._trials[trial.fidelity].setdefault(trial.key, trial)

    def _propose(self, number: int) -> tuple[G, float]:
        """Proposal ``number`` (from 0) after ``told`` trials."""
        full = self.rungs[-1]
        last = self.told + number + 1 == self.budget
        if last and not self._ranked(full) and not any(rung == full for _, rung in self._asked):
            return self._finalist(number), full
        if self._promotions is None:
            self._promotions = self._due()
        if number < len(self._promotions):
            return self._promotions[number]
        return self._random(number), self.rungs[0]

    def _due(self) -> list[tuple[G, float]]:
        """The promotions that are due, those to the highest rung first."""
        due = []
        for rung, above in reversed(list(zip(self.rungs, self.rungs[1:], strict=False))):
            ranked = self._ranked(rung)
            best = ranked[: len(ranked) // self.options.eta]
            due += [(trial.genotype, above) for trial in best if trial.key not in self._trials[above]]
        return due

    def _ranked(self, rung: float) -> list[Trial[G]]:
        """The trials of a rung with status ok, best first; of those that tie, the first told."""
        trials = [trial for trial in self._trials[rung].values() if trial.status == "ok"]
        if not trials:
            return []
        order = np.argsort(-standing(evaluate(self.objectives, trials)), kind="stable")
        return [trials[index] for index in order]

    def _finalist(self, number: int) -> G:
        """The best cell of the highest rung that has one which has not been scored at the full size."""
        tried = self._trials[self.rungs[-1]]
        for rung in reversed(self.rungs[:-1]):
            for trial in self._ranked(rung):
                if trial.key not in tried:
                    return trial.genotype
        return self._random(number)

    def _random(self, number: int) -> G:
        rng = np.random.default_rng((self.seed, self.told + number))
        return self.draw(lambda: self.space.sample(rng))
