"""A search space small enough to see through: tuples of digits, of which the first two commute."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace
from searchers.base import Searcher, Trial

Digits = tuple[int, ...]


class ToySpace(SearchSpace[Digits]):
    """``length`` digits below ``base``; a mutation changes one of them, a cost is their sum."""

    name = "toy"

    def __init__(self, length: int = 8, base: int = 10):
        self.length = length
        self.base = base

    def sample(self, rng: np.random.Generator) -> Digits:
        return tuple(rng.integers(self.base, size=self.length).tolist())

    def sample_published(self, seed: int) -> Digits:
        generator = random.Random(seed)
        return tuple(generator.randrange(self.base) for _ in range(self.length))

    def mutate(self, genotype: Digits, rng: np.random.Generator) -> Digits:
        position = int(rng.integers(self.length))
        step = int(rng.integers(1, self.base))
        return self._with(genotype, position, (genotype[position] + step) % self.base)

    def crossover(self, a: Digits, b: Digits, rng: np.random.Generator) -> Digits:
        return tuple(x if rng.random() < 0.5 else y for x, y in zip(a, b, strict=True))

    def neighbours(self, genotype: Digits) -> Iterator[Digits]:
        for position in range(self.length):
            for digit in range(self.base):
                if digit != genotype[position]:
                    yield self._with(genotype, position, digit)

    def canonical(self, genotype: Digits) -> str:
        return self.format((*sorted(genotype[:2]), *genotype[2:]))

    def parse(self, text: str) -> Digits:
        return tuple(int(digit) for digit in text.split("-"))

    def format(self, genotype: Digits) -> str:
        return "-".join(map(str, genotype))

    def count(self, genotype: Digits, path: str) -> int:
        kind, _, digit = path.partition(".")
        if kind != "digit" or not digit.isdecimal():
            raise ValueError(f"unknown operation '{path}', expected digit.0, digit.1, ...")
        return genotype.count(int(digit))

    def encode(self, genotype: Digits) -> np.ndarray:
        return np.array([*sorted(genotype[:2]), *genotype[2:]], dtype=np.float64)

    def cost(self, genotype: Digits, spec: NetworkSpec) -> Cost:
        return Cost(params=sum(genotype) * spec.channels, macs=sum(genotype) * spec.channels * 100)

    def build(self, genotype: Digits, spec: NetworkSpec) -> Any:
        raise NotImplementedError("nothing is built in the toy space")

    @staticmethod
    def _with(genotype: Digits, position: int, digit: int) -> Digits:
        return (*genotype[:position], digit, *genotype[position + 1 :])


def make_trial(space: ToySpace, number: int, genotype: Digits, **changes: Any) -> Trial[Digits]:
    """An ok trial whose score ``sum`` is the sum of the digits."""
    trial = Trial(
        id=number,
        key=space.canonical(genotype),
        genotype=genotype,
        seed=0,
        status="ok",
        scores={"sum": float(sum(genotype))},
    )
    return replace(trial, **changes)


def score(space: ToySpace, number: int, genotype: Digits) -> Trial[Digits]:
    """As :func:`make_trial`, but a seventh of the genotypes fails and a seventh turns out to be infeasible."""
    kind = sum(digit * (position + 1) for position, digit in enumerate(sorted(genotype))) % 7
    if kind > 1:
        return make_trial(space, number, genotype)
    status = "failed" if kind else "infeasible"
    return make_trial(space, number, genotype, status=status, scores={}, error="as arranged")


def run(searcher: Searcher[Digits], space: ToySpace, trials: int, batch: int) -> list[Trial[Digits]]:
    """The trials of a search, told batch by batch."""
    history: list[Trial[Digits]] = []
    while len(history) < trials:
        asked = searcher.ask(min(batch, trials - len(history)))
        told = [score(space, len(history) + i, genotype) for i, genotype in enumerate(asked)]
        searcher.tell(told)
        history += told
    return history


def best_sum(history: Sequence[Trial[Digits]]) -> float:
    """The largest score of a history."""
    return max(trial.scores["sum"] for trial in history if trial.status == "ok")
