"""Random search, https://arxiv.org/abs/1902.07638: every candidate is drawn independently of the others.

Li and Talwalkar (UAI 2019) propose it as the baseline with which every search should be compared. It is also the
protocol of published zero-cost searches: draw many cells, score all of them, and take the best. A cell that is drawn
twice is proposed twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial

G = TypeVar("G")

Sampler = Literal["uniform", "published"]


class RandomSearch(Searcher[G]):
    """Independent draws that meet the constraints.

    With the sampler ``uniform``, proposal ``i`` is drawn with a generator seeded with ``(seed, i)``, repeatedly until
    it meets the constraints.

    With ``published``, the sampler published with the space is called with the seeds ``seed``, ``seed + 1``, ...;
    proposal ``i`` is number ``i`` of the draws that meet the constraints. A new searcher that is told ``i`` trials
    repeats these draws from the first one, and ``rejected`` counts those of them that do not.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """How candidates are drawn."""

        sampler: Sampler = field(
            default="uniform",
            metadata={"help": "uniform, or the space's published sampler, one seed a cell counting up from --seed"},
        )

        def __post_init__(self) -> None:
            if self.sampler not in get_args(Sampler):
                raise ValueError(f"sampler must be {' or '.join(get_args(Sampler))}, got '{self.sampler}'")

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
        if self.options.sampler == "published":
            space.sample_published(seed)  # raises now if the space has none, not at the first ask
        self._uniform: dict[int, G] = {}  # by number: proposals asked for, but not told yet
        self._published: list[G] = []  # the feasible draws, from the first seed on
        self._next_seed = seed  # the seed after that of the last feasible draw

    def ask(self, n: int) -> list[G]:
        numbers = range(self.told, self.told + n)
        if self.options.sampler == "published":
            return [self._from_stream(number) for number in numbers]
        return [self._uniform_draw(number) for number in numbers]

    def observe(self, trial: Trial[G]) -> None:
        self._uniform.pop(trial.id, None)

    def _uniform_draw(self, number: int) -> G:
        if number not in self._uniform:
            rng = np.random.default_rng((self.seed, number))
            self._uniform[number] = self.draw(lambda: self.space.sample(rng))
        return self._uniform[number]

    def _from_stream(self, number: int) -> G:
        while len(self._published) <= number:
            self._published.append(self._next_published())
        return self._published[number]

    def _next_published(self) -> G:
        seeds = itertools.count(self._next_seed)
        genotype = self.draw(lambda: self.space.sample_published(next(seeds)))
        self._next_seed = next(seeds)
        return genotype
