from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from searchers.base import Trial
from searchers.local_search import LocalSearch
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from tests.searchers.toy_space import Digits, ToySpace, best_sum, make_trial, run

SUM = SingleScore("sum", "maximize")


class Rugged(ToySpace):
    """One digit from 0 to 29, of which the neighbours are the next ones; see :data:`HEIGHTS`."""

    def __init__(self) -> None:
        super().__init__(length=1, base=30)

    def neighbours(self, genotype: Digits) -> Any:
        return ((digit,) for digit in (genotype[0] - 1, genotype[0] + 1) if 0 <= digit < self.base)


#: Optima at 4 (height 5), 14 (height 9) and 24 (height 7).
HEIGHTS = [max(5 - abs(x - 4), 9 - abs(x - 14), 7 - abs(x - 24)) for x in range(30)]


def local(space: ToySpace, initial: int = 1, move: Any = "best", **options: Any) -> LocalSearch[Digits]:
    made = LocalSearch.Options(initial=initial, move=move)
    return LocalSearch(space, **{"seed": 0, "objectives": SUM, "options": made, **options})


def climb(searcher: LocalSearch[Digits], space: ToySpace, trials: int, step: int = 1) -> list[Digits]:
    """The cells proposed on the rugged heights."""
    while searcher.told < trials:
        searcher.tell(
            make_trial(space, number, cell, scores={"sum": float(HEIGHTS[cell[0]])})
            for number, cell in enumerate(searcher.ask(step), start=searcher.told)
        )
    searcher.ask(1)  # makes the last moves
    return [space.parse(key) for key in searcher.passed]


@pytest.mark.parametrize("move", ["best", "first"])
@pytest.mark.parametrize("step", [1, 3])
def test_a_climb_ends_at_a_local_optimum_and_the_next_begins_elsewhere(move: str, step: int) -> None:
    space = Rugged()
    searcher = local(space, move=move, start=[(0,), (20,)], initial=2)
    passed = [x for (x,) in climb(searcher, space, 27, step)]
    assert passed[:5] == [20, 21, 22, 23, 24]  # the better one of the two first
    assert passed[5:10] == [0, 1, 2, 3, 4]
    assert 14 in passed[10:] and len(set(passed)) == len(passed)  # a random restart finds the greatest height
    assert searcher.climbs >= 3


def test_the_next_cell_is_the_best_neighbour_and_known_ones_are_not_proposed_again() -> None:
    space = ToySpace(length=3, base=4)
    searcher = local(space, start=[(0, 1, 1)])
    proposed = run_sums(searcher, space, 20)
    keys = {space.canonical(cell) for cell in space.neighbours((0, 1, 1))}
    assert proposed[0] == "0-1-1" and set(proposed[1 : 1 + len(keys)]) == keys
    assert list(searcher.passed)[:2] == ["0-1-1", "1-3-1"]  # (3, 1, 1); the first two digits commute
    assert len(set(proposed)) == len(proposed)


def run_sums(searcher: LocalSearch[Digits], space: ToySpace, trials: int) -> list[str]:
    """The keys proposed one at a time, where the score is the sum of the digits."""
    keys = []
    for number in range(trials):
        (cell,) = searcher.ask(1)
        keys.append(space.canonical(cell))
        searcher.tell([make_trial(space, number, cell)])
    return keys


def test_first_moves_to_the_first_neighbour_that_is_better() -> None:
    space = ToySpace(length=3, base=4)
    searcher = local(space, start=[(1, 1, 1)], move="first")
    keys = run_sums(searcher, space, 12)
    sums = [sum(space.parse(key)) for key in keys]
    better = next(i for i, total in enumerate(sums) if total > 3)
    assert list(searcher.passed)[:2] == [keys[0], keys[better]]
    assert all(total <= 3 for total in sums[1:better])


def test_the_rest_of_a_step_are_neighbours_of_the_next_cell() -> None:
    space = Rugged()
    searcher = local(space, start=[(8,)])
    searcher.tell(make_trial(space, i, (x,), scores={"sum": float(HEIGHTS[x])}) for i, x in enumerate((8, 9)))
    assert searcher.ask(2) == [(7,), (10,)]  # 7 decides whether 9 is the best; 10 is wanted if it is


def test_a_start_without_a_score_begins_no_climb() -> None:
    space = Rugged()
    searcher = local(space, start=[(0,), (20,)])
    searcher.tell([
        make_trial(space, 0, (0,), status="failed", scores={}), make_trial(space, 1, (20,), scores={"sum": 3.0}),
    ])  # fmt: skip
    assert set(searcher.ask(2)) == {(19,), (21,)}


class Given:
    """Two objectives: the digits themselves."""

    names = ("a", "b")

    def __call__(self, trials: Sequence[Trial[Digits]]) -> np.ndarray:
        return np.array([trial.genotype for trial in trials], dtype=float)


class Ordered(ToySpace):
    """Two digits that do not commute."""

    def canonical(self, genotype: Digits) -> str:
        return self.format(genotype)


def test_several_objectives_move_only_to_a_cell_that_dominates() -> None:
    space = Ordered(length=2, base=4)
    searcher = local(space, objectives=Given(), start=[(1, 2)])
    run_sums(searcher, space, 14)
    passed = [space.parse(key) for key in searcher.passed]
    assert passed[0] == (1, 2) and passed[1] in {(3, 2), (1, 3)} and passed[2] == (3, 3)


def test_an_exhausted_space_is_proposed_at_random() -> None:
    space = ToySpace(length=2, base=2)
    assert len({trial.key for trial in run(local(space), space, 20, 4)}) == 3  # 0-1 and 1-0 are one


def test_beats_random_search_on_the_toy_space() -> None:
    space = ToySpace(length=6)
    climbed = [best_sum(run(local(space, seed=seed), space, 200, 5)) for seed in range(6)]
    drawn = [best_sum(run(RandomSearch(space, seed=seed, objectives=SUM), space, 200, 5)) for seed in range(6)]
    assert statistics.median(climbed) > statistics.median(drawn) + 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 0}, "initial must be at least 1, got 0"),
        ({"move": "up"}, "move must be best or first, got 'up'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalSearch.Options(**options)
