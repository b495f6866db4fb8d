from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from searchers.successive_halving import SuccessiveHalving
from tests.searchers.toy_space import Digits, ToySpace, make_trial

SUM = SingleScore("sum", "maximize")
LOW, MIDDLE, FULL = 1 / 9, 1 / 3, 1.0


def halving(space: ToySpace, budget: int | None = None, **options: Any) -> SuccessiveHalving[Digits]:
    made = SuccessiveHalving.Options(**options)
    searcher = SuccessiveHalving(space, seed=0, objectives=SUM, options=made)
    searcher.budget = budget
    return searcher


def tell(searcher: SuccessiveHalving[Digits], space: ToySpace, *cells: Digits, rung: float, **changes: Any) -> None:
    first = searcher.told
    searcher.tell(make_trial(space, first + i, cell, fidelity=rung, **changes) for i, cell in enumerate(cells))


def ones(n: int) -> Digits:
    """A cell whose score is ``n``."""
    return (1,) * n + (0,) * (8 - n)


def asked(searcher: SuccessiveHalving[Digits], n: int) -> list[tuple[Digits, float]]:
    return list(zip(searcher.ask(n), searcher.fidelities(n), strict=True))


def test_new_cells_are_those_of_random_search_at_the_lowest_fidelity(space: ToySpace) -> None:
    searcher = halving(space)
    assert searcher.ask(5) == RandomSearch(space, seed=0, objectives=SUM).ask(5)
    assert searcher.fidelities(5) == pytest.approx([LOW] * 5)


def test_the_best_third_of_a_rung_is_promoted_highest_rung_first(space: ToySpace) -> None:
    searcher = halving(space)
    low, middle, full = searcher.rungs
    assert (low, middle, full) == pytest.approx((LOW, MIDDLE, FULL)) and full == 1.0
    tell(searcher, space, ones(1), ones(2), rung=low)
    assert asked(searcher, 1)[0][1] == low  # a third of two is none
    tell(searcher, space, ones(5), ones(4), ones(3), ones(6), rung=low)
    assert asked(searcher, 3)[:2] == [(ones(6), middle), (ones(5), middle)]
    assert asked(searcher, 3)[2][1] == low
    tell(searcher, space, ones(6), ones(5), rung=middle)
    assert asked(searcher, 1)[0][1] == low  # both are promoted already, and a third of two is none
    tell(searcher, space, ones(7), ones(0), ones(8), rung=low)
    assert asked(searcher, 2)[:2] == [(ones(8), middle), (ones(7), middle)]  # the best three are 8, 7 and 6
    tell(searcher, space, ones(8), rung=middle, scores={"sum": 0.0})
    assert asked(searcher, 3)[:2] == [(ones(6), full), (ones(7), middle)]
    tell(searcher, space, ones(6), rung=full)
    assert asked(searcher, 1)[0] == (ones(7), middle)


def test_a_cell_that_failed_is_no_member_of_its_rung_and_is_promoted_once(space: ToySpace) -> None:
    searcher = halving(space)
    low, middle, _ = searcher.rungs
    tell(searcher, space, ones(8), ones(7), rung=low, status="failed", scores={})
    tell(searcher, space, ones(1), ones(2), rung=low)
    assert asked(searcher, 1)[0][1] == low
    tell(searcher, space, ones(3), rung=low)
    assert asked(searcher, 1) == [(ones(3), middle)]
    tell(searcher, space, ones(3), rung=middle, status="failed", scores={})
    assert asked(searcher, 1)[0][1] == low


def test_of_cells_that_tie_the_first_is_promoted(space: ToySpace) -> None:
    searcher = halving(space, eta=2, rungs=2)
    tell(searcher, space, (0, 1, 0), (0, 0, 1), rung=0.5)
    assert asked(searcher, 1) == [((0, 1, 0), 1.0)]


def test_one_rung_is_random_search_at_the_full_size(space: ToySpace) -> None:
    searcher, baseline = halving(space, rungs=1), RandomSearch(space, seed=0, objectives=SUM)
    for trials in (4, 4):
        assert searcher.ask(trials) == baseline.ask(trials) and searcher.fidelities(trials) == [1.0] * trials
        told = [make_trial(space, searcher.told + i, cell) for i, cell in enumerate(searcher.ask(trials))]
        searcher.tell(told)
        baseline.tell(told)


@pytest.mark.parametrize(
    ("rungs_told", "last"),
    [
        ([], None),  # nothing is known: a random cell
        ([(0, (1, 2))], ones(2)),
        ([(0, (1, 2, 3)), (1, (3,))], ones(3)),
        ([(0, (1, 2, 3, 4)), (1, (3,))], ones(3)),  # 4 is better, but on a lower rung
    ],
)
def test_the_last_candidate_is_of_the_full_size(
    space: ToySpace, rungs_told: Sequence[tuple[int, Sequence[int]]], last: Digits | None
) -> None:
    told = sum(len(cells) for _, cells in rungs_told)
    searcher = halving(space, budget=told + 3)
    for rung, cells in rungs_told:
        tell(searcher, space, *map(ones, cells), rung=searcher.rungs[rung])
    (*others, (cell, rung)) = asked(searcher, 3)
    assert rung == 1.0 and all(each < 1 for _, each in others)
    assert last is None or cell == last
    assert asked(searcher, 2) == others


def test_the_last_candidate_is_like_others_where_one_has_the_full_size(space: ToySpace) -> None:
    searcher = halving(space, budget=4)
    tell(searcher, space, ones(1), rung=1.0)
    assert 1.0 not in searcher.fidelities(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1}, "eta must be at least 2, got 1"),
        ({"eta": 2.5}, "eta must be a whole number, got 2.5"),
        ({"rungs": 0}, "rungs must be at least 1, got 0"),
        ({"rungs": 11}, "rungs must be at most 10, got 11"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuccessiveHalving.Options(**options)
