from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nas import Search
from nas.errors import UserError
from searchers.bananas import Bananas
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from tests.searchers.toy_space import Digits, ToySpace, best_sum, make_trial, run

SUM = SingleScore("sum", "maximize")


class Unencoded(ToySpace):
    """A space without an encoding."""

    def encode(self, genotype: Digits) -> np.ndarray:
        return super(ToySpace, self).encode(genotype)


def bananas(space: ToySpace, seed: int = 0, **options: Any) -> Bananas[Digits]:
    made = Bananas.Options(**{"initial": 20, "ensemble": 20, "mutants": 50, "drawn": 20, **options})
    return Bananas(space, seed=seed, objectives=SUM, options=made)


def told_random(searcher: Bananas[Digits], space: ToySpace, trials: int) -> None:
    searcher.tell(make_trial(space, number, cell) for number, cell in enumerate(searcher.ask(trials)))


def test_begins_as_random_search(space: ToySpace) -> None:
    searcher, baseline = bananas(space), RandomSearch(space, seed=0, objectives=SUM)
    assert searcher.ask(20) == baseline.ask(20)
    told_random(searcher, space, 20)
    baseline.tell(make_trial(space, number, cell) for number, cell in enumerate(baseline.ask(20)))
    assert searcher.ask(10) != baseline.ask(10)


def test_only_cells_with_a_score_end_the_random_beginning(space: ToySpace) -> None:
    searcher, baseline = bananas(space, initial=3), RandomSearch(space, seed=0, objectives=SUM)
    failed = [
        make_trial(space, number, cell, status="failed", scores={}) for number, cell in enumerate(searcher.ask(9))
    ]
    searcher.tell(failed)
    baseline.tell(failed)
    assert searcher.ask(5) == baseline.ask(5)


def test_what_is_proposed_is_predicted_to_be_good(space: ToySpace) -> None:
    searcher = bananas(space, ensemble=50, mutants=1, drawn=300, initial=100)
    told_random(searcher, space, 100)
    pool = searcher.ask(301)  # all that was predicted, best first
    sums = [sum(cell) for cell in pool]
    assert statistics.mean(sums[:30]) > statistics.mean(sums) + 4 > statistics.mean(sums[-30:]) + 8


def test_mutants_are_those_of_the_best_cells(space: ToySpace) -> None:
    searcher = bananas(space, mutants=40, drawn=0, parents=2)
    cells = searcher.ask(20)
    best = sorted(range(20), key=lambda number: (-sum(cells[number]), number))[:2]
    told_random(searcher, space, 20)
    for cell in searcher.ask(10):
        assert any(sum(a != b for a, b in zip(cell, cells[number], strict=True)) <= 1 for number in best)


def test_an_exhausted_space_is_proposed_again() -> None:
    space = ToySpace(length=2, base=3)
    searcher = bananas(space, initial=3)
    keys = [space.canonical(space.parse(trial.key)) for trial in run(searcher, space, 30, 4)]
    assert len(keys) == 30 and len(set(keys)) == 6


def test_beats_random_search_on_the_toy_space() -> None:
    space = ToySpace(length=12)
    predicted = [best_sum(run(bananas(space, seed), space, 80, 10)) for seed in range(4)]
    drawn = [best_sum(run(RandomSearch(space, seed=seed, objectives=SUM), space, 80, 10)) for seed in range(4)]
    assert statistics.median(predicted) > max(drawn)


def test_an_infinite_score_is_the_worst_and_no_obstacle(space: ToySpace) -> None:
    searcher = Bananas(space, seed=0, objectives=SUM, options=Bananas.Options(initial=3, ensemble=3, mutants=5))
    asked = searcher.ask(3)
    for number, value in enumerate((1.0, -np.inf, 3.0)):
        searcher.tell([make_trial(space, number, asked[number], scores={"sum": value})])
    assert len(searcher.ask(4)) == 4


def test_a_space_without_an_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="space 'toy' has no encoding of cells"):
        bananas(Unencoded())


def test_a_search_there_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="^space .toy. has no encoding of cells"):
        Search(Unencoded(), "bananas", "params", budget=4).run()


def test_naming_it_imports_no_model() -> None:
    program = "import sys, searchers; searchers.get_searcher('bananas'); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1}, "initial must be at least 2, got 1"),
        ({"ensemble": 1}, "ensemble must be at least 2, got 1"),
        ({"mutants": 0}, "mutants must be at least 1, got 0"),
        ({"drawn": -1}, "drawn must be at least 0, got -1"),
        ({"parents": 0.5}, "parents must be a whole number, got 0.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bananas.Options(**options)
