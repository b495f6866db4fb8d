from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from searchers.base import Trial
from searchers.fronts import front_of, joint
from searchers.nsga2 import NSGA2, by_constrained_domination
from searchers.objectives import Direction, SingleScore
from searchers.random_search import RandomSearch
from tests.searchers.toy_space import Digits, ToySpace, make_trial

TWO: dict[str, Direction] = {"first": "maximize", "second": "minimize"}
SPACE = ToySpace()


def trial(number: int, genotype: Digits, **changes: Any) -> Trial[Digits]:
    middle = sum(genotype[2:6])  # belongs to both, so that no cell is best by both
    scores = {"first": float(sum(genotype[:2]) + middle), "second": float(sum(genotype[6:]) + middle)}
    return make_trial(SPACE, number, genotype, scores=scores, **changes)


def searched(searcher: Any, budget: int) -> list[Trial[Digits]]:
    trials: list[Trial[Digits]] = []
    while len(trials) < budget:
        step = [trial(len(trials) + i, genotype) for i, genotype in enumerate(searcher.ask(10))]
        searcher.tell(step)
        trials += step
    return trials


def new(**options: Any) -> NSGA2[Digits]:
    start = options.pop("start", ())
    return NSGA2(SPACE, seed=1, objectives=joint(TWO), options=NSGA2.Options(**options), start=start)


def test_it_dominates_more_than_random_search() -> None:
    found = searched(new(), 300)
    random = searched(RandomSearch(SPACE, seed=1, objectives=joint(TWO)), 300)
    assert [each.key for each in found[:20]] == [each.key for each in random[:20]] and found[20:] != random[20:]
    front = front_of([*found, *random], TWO).trials  # of both together
    assert sum(each.key not in {each.key for each in random} for each in front) > 0.8 * len(front) > 4
    assert len({each.key for each in found}) == 300


def test_survivors_are_the_first_by_constrained_domination() -> None:
    cells = [(9, 9, 0, 0, 0, 0, 0, 0), (9, 9, 1, 0, 0, 0, 0, 0), (9, 9, 1, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 9, 9)]
    first, second, third, dominated = (trial(number, cell) for number, cell in enumerate(cells))
    slight, much = (
        make_trial(SPACE, number, (number,) * 8, status="infeasible", scores={}, violation=excess)
        for number, excess in ((4, 0.1), (5, 0.7))
    )
    given = [much, dominated, slight, second, third, first]
    ordered = by_constrained_domination(given, joint(TWO))
    assert ordered == [third, first, second, dominated, slight, much]  # the ends of the front first, then its middle


def test_parents_change_when_a_generation_is_complete() -> None:
    searcher = new(population=4)
    statuses: list[dict[str, Any]] = [
        {}, {"status": "failed"}, {"status": "infeasible"}, {"status": "infeasible", "violation": 0.5}, {}
    ]  # fmt: skip
    for number, changes in enumerate(statuses):
        searcher.tell([trial(number, (number, 0, 0, 0, 0, 0, 0, 0), **changes)])
        assert searcher.members == []
    searcher.tell([trial(5, (0, 0, 0, 0, 0, 0, 0, 0))])  # a cell that is known
    assert searcher.members == []
    searcher.tell([trial(6, (6, 0, 0, 0, 0, 0, 0, 0))])
    assert [each.id for each in searcher.members] == [6, 4, 0, 3]
    searcher.tell([trial(7 + number, (7, number, 0, 0, 0, 0, 0, 0)) for number in range(4)])
    assert [each.id for each in searcher.members] == [10, 9, 8, 7]


def test_it_begins_with_the_cells_that_are_given() -> None:
    start = [(1,) * 8, (2,) * 8]
    searcher = new(start=start, population=4)
    asked = searcher.ask(4)
    assert asked[:2] == start and asked[2:] == new(population=4).ask(4)[2:]
    searcher.tell([trial(0, asked[0])])
    assert searcher.ask(3) == asked[1:]


def test_children_take_parts_of_two_parents_or_of_one() -> None:
    ends = [(0,) * 8, (9,) * 8]
    for crossover, mixed in ((1.0, True), (0.0, False)):
        searcher = new(start=ends, population=2, crossover=crossover)
        searcher.tell([trial(number, cell) for number, cell in enumerate(searcher.ask(2))])
        children = searcher.ask(20)
        parts = [min(sum(digit == end for digit in child) for end in (0, 9)) for child in children]
        assert (max(parts) > 2) == mixed, parts


def test_with_one_objective_the_best_survive() -> None:
    searcher = NSGA2(SPACE, seed=0, objectives=SingleScore("first", "maximize"), options=NSGA2.Options(population=10))
    trials = searched(searcher, 100)
    scores = [each.scores["first"] for each in trials]
    assert [each.scores["first"] for each in searcher.members] == sorted(scores, reverse=True)[:10]
    assert np.mean(scores[90:]) > np.mean(scores[:10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"crossover": 1.5}, "crossover must be from 0 to 1, got 1.5"),
        ({"crossover": float("nan")}, "crossover must be from 0 to 1, got nan"),
        ({"max_mutations": -1}, "max_mutations must be at least 0, got -1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSGA2.Options(**options)
