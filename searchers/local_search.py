"""Local search, https://arxiv.org/abs/2005.02960 (White, Nolen, Savani; UAI 2021), with restarts.

When all neighbours of a cell have been scored, a climb moves to the best of them, if that one is better than the cell;
otherwise the cell is a local optimum, and another climb begins. Departures from the paper:

* The first ``initial`` cells begin the first climbs, the best of them first. Later climbs begin at random cells.
* A cell that was scored before is not proposed again; its earlier trial counts.
* Where fewer unknown neighbours are left than candidates are asked for, the others are neighbours of the cell to which
  the climb would move by what is known so far, or else the cells at which the next climbs begin.
* A climb ends where an earlier one has passed. None begins at a cell without a score.
* Several objectives: a cell is better than another one if it dominates it, so that no climb can go in a circle. Of the
  neighbours that dominate a cell, the best is the one that :func:`~searchers.objectives.rank` would put first.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Literal, TypeVar, get_args

import numpy as np

from search_spaces.base import SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial, check_whole
from searchers.objectives import evaluate, rank, standing

G = TypeVar("G")

Move = Literal["best", "first"]

#: When so many climbs in a row would begin where an earlier one has passed, the space is taken to be exhausted.
FRUITLESS_CLIMBS = 100


class LocalSearch(Searcher[G]):
    """Climbs from cell to neighbour. The genotypes ``start`` are among the initial cells, before the random ones.

    Neighbours are visited in an order that is drawn from the seed and the cell. Every move is decided by trials that
    have been told, whichever have been told beside them. In an exhausted space the proposals are random.
    """

    takes_start = True

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """Where climbs begin, and how they move."""

        initial: int = field(default=10, metadata={"help": "random cells to begin with, the best of them first"})
        move: Move = field(
            default="best",
            metadata={"help": "to the best neighbour once all are scored, or to the first one that is better"},
        )

        def __post_init__(self) -> None:
            check_whole("initial", self.initial, 1)
            if self.move not in get_args(Move):
                raise ValueError(f"move must be {' or '.join(get_args(Move))}, got '{self.move}'")

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
        start: Sequence[G] = (),
    ):
        super().__init__(
            space,
            seed=seed,
            objectives=objectives,
            feasible=feasible,
            max_draws=max_draws,
            options=options,
            start=start,
        )
        self.climbs = 0  # that have ended
        self.passed: dict[str, None] = {}  # keys of the cells that climbs have been at, in order
        self._here: str | None = None  # key of the cell that the climb is at; None before its first cell is scored
        self._initial = max(self.options.initial, len(self.start))
        self._first: list[str] | None = None  # keys of the initial cells, best first, when all of them are scored
        self._cells: list[tuple[str, G]] = []  # the initial cells and the random ones after them
        self._around: dict[str, dict[str, G]] = {}  # the neighbours of a cell by key
        self._known: dict[str, Trial[G]] = {}  # by key, the first trial told
        self._asked: list[G] = []  # proposals since the last trial told
        self._asked_keys: set[str] = set()

    def ask(self, n: int) -> list[G]:
        if n > 0 and not self._asked:
            self._climb()
        while len(self._asked) < n:
            genotype = self._propose()
            self._asked.append(genotype)
            self._asked_keys.add(self.space.canonical(genotype))
        return self._asked[:n]

    def observe(self, trial: Trial[G]) -> None:
        self._known.setdefault(trial.key, trial)
        self._asked, self._asked_keys = [], set()

    def _propose(self) -> G:
        for key, genotype in self._wanted():
            if key not in self._known and key not in self._asked_keys:
                return genotype
        rng = np.random.default_rng((self.seed, self.told, len(self._asked)))
        return self.draw(lambda: self.space.sample(rng))

    def _wanted(self) -> Iterator[tuple[str, G]]:
        """Cells with their keys, known ones among them: first those on which the next move depends."""
        if self._first is None:
            initial = [self._cell(number) for number in range(self._initial)]
            yield from initial
            yield from self._neighbours(initial[0][0]).items()
            return
        if self._here is not None:
            neighbours = self._neighbours(self._here)
            yield from neighbours.items()
            for better in self._better(self._here, [key for key in neighbours if key in self._known])[:1]:
                yield from self._neighbours(better).items()
        for number in range(self.climbs, self.climbs + FRUITLESS_CLIMBS):
            key, genotype = self._beginning(number)
            if key not in self.passed:
                yield key, genotype
                yield from self._neighbours(key).items()

    def _climb(self) -> None:
        """Make all moves that the trials told so far decide."""
        if self._first is None:
            keys = [self._cell(number)[0] for number in range(self._initial)]
            if not all(key in self._known for key in keys):
                return
            ranked = rank([self._known[key] for key in dict.fromkeys(keys)], self.objectives, len(keys))
            self._first = [trial.key for trial in ranked]
        while self._here is not None or self._begin():
            assert self._here is not None
            neighbours = list(self._neighbours(self._here))
            known = list(takewhile(self._known.__contains__, neighbours))
            if self.options.move == "best":
                better = self._better(self._here, known) if len(known) == len(neighbours) else []
            else:
                better = next((found for key in known if (found := self._better(self._here, [key]))), [])
            if better and better[0] not in self.passed:
                self._go(better[0])
            elif better or len(known) == len(neighbours):  # an optimum, or the way of an earlier climb
                self._here, self.climbs = None, self.climbs + 1
            else:
                return

    def _begin(self) -> bool:
        """Go to the first cell of the next climb; False if that cell is not known, or the space is exhausted."""
        for number in range(self.climbs, self.climbs + FRUITLESS_CLIMBS):
            key, _ = self._beginning(number)
            if key not in self._known:
                return False
            if self._known[key].status == "ok" and key not in self.passed:
                self.climbs = number
                self._go(key)
                return True
        return False

    def _go(self, key: str) -> None:
        self._here = key
        self.passed[key] = None

    def _better(self, here: str, others: Sequence[str]) -> list[str]:
        """Those of the known cells ``others`` that are better than ``here``, the best first."""
        scored = [key for key in others if self._known[key].status == "ok"]
        values = evaluate(self.objectives, [self._known[key] for key in (here, *scored)])
        dominates = (values[1:] >= values[0]).all(axis=1) & (values[1:] > values[0]).any(axis=1)
        order = np.argsort(-standing(values)[1:], kind="stable")
        return [scored[index] for index in order if dominates[index]]

    def _neighbours(self, key: str) -> dict[str, G]:
        """The feasible neighbours of the cell that ``key`` stands for, by their keys, in random order."""
        if key not in self._around:
            neighbours = list(self.space.neighbours(self.space.parse(key)))
            order = np.random.default_rng((self.seed, zlib.crc32(key.encode()))).permutation(len(neighbours))
            keyed = {self.space.canonical(neighbours[index]): neighbours[index] for index in order}
            keyed.pop(key, None)
            self._around[key] = {other: each for other, each in keyed.items() if self._is_feasible(each)}
        return self._around[key]

    def _is_feasible(self, genotype: G) -> bool:
        feasible = self.feasible is None or self.feasible(genotype)
        self.rejected += not feasible
        return feasible

    def _beginning(self, climb: int) -> tuple[str, G]:
        """The cell at which a climb begins, with its key."""
        assert self._first is not None
        if climb < len(self._first):
            return self._first[climb], self._known[self._first[climb]].genotype
        return self._cell(self._initial + climb - len(self._first))

    def _cell(self, number: int) -> tuple[str, G]:
        """Cell ``number`` of ``start`` and the random cells that follow, with its key."""
        while len(self._cells) <= number:
            made = len(self._cells)
            rng = np.random.default_rng((self.seed, made))
            genotype = self.start[made] if made < len(self.start) else self.draw(partial(self.space.sample, rng))
            self._cells.append((self.space.canonical(genotype), genotype))
        return self._cells[number]
