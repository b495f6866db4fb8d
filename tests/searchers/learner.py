"""A searcher whose proposals depend on what it learned while it asked and was told, not only on the trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from searchers.base import Searcher, Trial
from tests.searchers.toy_space import Digits


class Learner(Searcher[Digits]):
    """Draws at random, with a seed that every ask and every new trial changes."""

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Options with a name of its own, and one that another searcher has as well."""

        learning_rate: float = field(default=0.5, metadata={"help": "share of a new trial"})
        population: int = field(default=7, metadata={"help": "no more than a name"})

    options: Options

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.weight = torch.zeros(2, dtype=torch.float64)
        self.asks = 0
        self.learned: list[int] = []  # ids of the trials that this object learned from
        self._asked: list[Digits] = []

    def ask(self, n: int) -> list[Digits]:
        if not self._asked:
            self.asks += 1
        while len(self._asked) < n:
            seed = [self.seed, self.told, len(self._asked), self.asks, *self.weight.view(torch.int64).abs().tolist()]
            rng = np.random.default_rng(seed)
            self._asked.append(self.draw(partial(self.space.sample, rng)))
        return self._asked[:n]

    def observe(self, trial: Trial[Digits]) -> None:
        self._asked = []
        if trial.id >= self.restored:
            self.learned.append(trial.id)
            rate = self.options.learning_rate
            self.weight = (1 - rate) * self.weight + rate * torch.tensor([trial.params, trial.id + self.asks])

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "plain": {"asks": self.asks}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight, self.asks = state["weight"], state["plain"]["asks"]
