from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from searchers.base import Searcher, Trial
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from searchers.regularized_evolution import RegularizedEvolution
from tests.searchers.toy_space import Digits, ToySpace, best_sum, make_trial, run

SUM = SingleScore("sum", "maximize")


class Marked(ToySpace):
    """A space whose mutations return the parent marked, so that tests see who it was."""

    def mutate(self, genotype: Digits, rng: np.random.Generator) -> Digits:
        return (*genotype, -1)


def evolution(space: ToySpace, **options: Any) -> RegularizedEvolution[Digits]:
    names = [field.name for field in fields(RegularizedEvolution.Options)]
    own = {"population": 4, "tournament": 2, **{name: options.pop(name) for name in names if name in options}}
    made = RegularizedEvolution.Options(**own)
    return RegularizedEvolution(space, **{"seed": 0, "objectives": SUM, "options": made, **options})


def tell_sums(searcher: Searcher[Digits], space: ToySpace, sums: Sequence[int]) -> None:
    first = searcher.told
    searcher.tell(
        make_trial(space, first + i, (first + i, 0), scores={"sum": float(total)}) for i, total in enumerate(sums)
    )


def parents(searcher: Searcher[Digits], n: int = 200) -> Counter[int]:
    """How often each trial, by its id, was the parent of a proposal."""
    return Counter(child[0] for child in searcher.ask(n))


def test_begins_as_random_search(space: ToySpace) -> None:
    searcher, baseline = evolution(space), RandomSearch(space, seed=0, objectives=SUM)
    assert searcher.ask(10) == baseline.ask(10)
    told = [make_trial(space, i, genotype) for i, genotype in enumerate(searcher.ask(3))]
    searcher.tell(told)
    baseline.tell(told)
    assert searcher.ask(10) == baseline.ask(10)


def test_evolves_once_the_population_is_told_whatever_was_asked() -> None:
    searcher = evolution(Marked())
    searcher.ask(100)
    tell_sums(searcher, Marked(), [1, 2, 3])
    assert all(child[-1] != -1 for child in searcher.ask(10))
    tell_sums(searcher, Marked(), [4])
    assert all(child[-1] == -1 for child in searcher.ask(10))


@pytest.mark.parametrize("status", ["failed", "infeasible"])
def test_only_ok_trials_enter_the_population(status: str) -> None:
    space = Marked()
    searcher = evolution(space, tournament=4)
    tell_sums(searcher, space, [1, 9, 3])
    searcher.tell(make_trial(space, i, (i, 0), status=status, scores={}) for i in range(3, 10))
    assert all(child[-1] != -1 for child in searcher.ask(10))
    tell_sums(searcher, space, [5])
    assert set(parents(searcher)) == {1}
    assert [trial.id for trial in searcher.members] == [0, 1, 2, 10]


def test_parent_is_the_best_of_the_whole_population_where_the_tournament_is_that_large() -> None:
    searcher = evolution(Marked(), tournament=4)
    tell_sums(searcher, Marked(), [1, 7, 3, 2])
    assert set(parents(searcher)) == {1}


def test_tournament_of_one_is_a_random_parent() -> None:
    searcher = evolution(Marked(), tournament=1)
    tell_sums(searcher, Marked(), [1, 7, 3, 2])
    counts = parents(searcher, 400)
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 65  # 100 each, 8.7 standard deviation


def test_tournament_of_two_never_picks_the_worst() -> None:
    searcher = evolution(Marked(), tournament=2)
    tell_sums(searcher, Marked(), [1, 7, 3, 2])
    counts = parents(searcher, 600)  # without replacement: 3 of the 6 pairs hold the best, 2 the second, 1 the third
    assert set(counts) == {1, 2, 3}
    assert counts[1] == pytest.approx(300, abs=50)
    assert counts[2] == pytest.approx(200, abs=50)


def test_ties_go_to_the_younger() -> None:
    searcher = evolution(Marked(), tournament=4)
    tell_sums(searcher, Marked(), [7, 1, 7, 2])
    assert set(parents(searcher)) == {2}


def test_aging_drops_the_oldest_even_where_it_is_the_best() -> None:
    searcher = evolution(Marked(), tournament=4)
    tell_sums(searcher, Marked(), [9, 1, 3, 2])
    assert set(parents(searcher)) == {0}
    tell_sums(searcher, Marked(), [2])
    assert set(parents(searcher)) == {2}
    assert [trial.id for trial in searcher.members] == [1, 2, 3, 4]


class Given:
    """Objectives that are a function of the trials."""

    def __init__(self, function: Callable[[Sequence[Trial[Digits]]], np.ndarray], names: tuple[str, ...] = ("given",)):
        self.function = function
        self.names = names

    def __call__(self, trials: Sequence[Trial[Digits]]) -> np.ndarray:
        return self.function(trials)


def test_objectives_are_taken_of_the_population_once_an_ask() -> None:
    calls: list[list[int]] = []

    def values(trials: Sequence[Trial[Digits]]) -> np.ndarray:
        calls.append([trial.id for trial in trials])
        return SUM(trials)

    searcher = evolution(Marked(), objectives=Given(values))
    tell_sums(searcher, Marked(), [1, 2, 3, 4, 5, 6])
    searcher.ask(10)
    searcher.ask(20)
    assert calls == [[2, 3, 4, 5]]


def test_values_of_the_wrong_shape_are_refused() -> None:
    searcher = evolution(Marked(), objectives=Given(lambda trials: np.zeros(3)))
    tell_sums(searcher, Marked(), [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"objectives must return values of shape \(4, 1\), got shape \(3,\)"):
        searcher.ask(1)


def test_children_are_new_as_long_as_mutations_find_new_ones() -> None:
    space = ToySpace(length=4, base=4)
    searcher = evolution(space, population=10, tournament=5, max_mutations=100)
    history = run(searcher, space, 100, 5)
    keys = [trial.key for trial in history]
    start = next(trial.id for trial in history if sum(t.status == "ok" for t in history[: trial.id]) >= 10)
    evolved = keys[start + 5 :]
    assert len(evolved) > 60
    assert len(set(evolved)) == len(evolved)
    assert not set(evolved) & set(keys[:start])


def test_an_exhausted_space_is_proposed_again() -> None:
    space = ToySpace(length=2, base=2)
    history = run(evolution(space), space, 40, 4)
    assert len({trial.key for trial in history}) == 3  # 0-1 and 1-0 are one


def test_a_known_child_is_mutated_a_stated_number_of_times() -> None:
    space = Marked()
    searcher = evolution(space, tournament=4, max_mutations=3)
    tell_sums(searcher, space, [9, 0, 0, 0])
    lengths = [len(child) for child in searcher.ask(6)]
    assert lengths == [3, 4, 5, 6, 6, 6]  # one mutation; then one more for each child known; three more at most


def test_constraints_hold_for_children_and_cost_a_new_tournament() -> None:
    space = Marked()
    searcher = evolution(space, tournament=1, feasible=lambda genotype: genotype[0] != 2)
    tell_sums(searcher, space, [1, 1, 1, 1])
    assert set(parents(searcher, 100)) == {0, 1, 3}
    assert searcher.rejected > 10


def test_beats_random_search_on_the_toy_space() -> None:
    space = ToySpace(length=12)

    def best_of(kind: type[Searcher[Digits]], seed: int, **options: Any) -> float:
        return best_sum(run(kind(space, seed=seed, objectives=SUM, options=kind.Options(**options)), space, 200, 5))

    evolved = [best_of(RegularizedEvolution, seed, population=20, tournament=5) for seed in range(10)]
    drawn = [best_of(RandomSearch, seed) for seed in range(10)]
    assert statistics.median(evolved) > statistics.median(drawn) + 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 20, "tournament": 50}, r"tournament must be at most the population \(20\), got 50"),
        ({"tournament": 0}, "tournament must be at least 1, got 0"),
        ({"max_mutations": -1}, "max_mutations must be at least 0, got -1"),
        ({"population": 2.5}, "population must be a whole number, got 2.5"),
    ],
)
def test_options_out_of_range_are_refused(space: ToySpace, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evolution(space, **options)


def test_several_objectives_prefer_the_first_front_then_the_least_crowded() -> None:
    """(0, 9), (4, 5), (5, 4), (9, 0) are one front, the inner two equally crowded; (3, 3) is dominated."""
    points = np.array([(3, 3), (4, 5), (0, 9), (5, 4), (9, 0)], dtype=float)
    both = Given(lambda trials: points[[trial.id for trial in trials]], ("a", "b"))

    def winners(tournament: int) -> Counter[int]:
        searcher = evolution(Marked(), objectives=both, population=5, tournament=tournament)
        tell_sums(searcher, Marked(), [0] * 5)
        return parents(searcher)

    assert set(winners(5)) == {4}  # both ends are infinitely far from their neighbours; the younger one
    assert set(winners(4)) == {2, 4}  # one end at least
    assert set(winners(3)) == {2, 3, 4}  # without the ends: 0, 1, 3, of which the younger of the front
    assert set(winners(2)) == {1, 2, 3, 4}  # never the dominated one


def test_begins_with_the_cells_given_and_goes_on_at_random(space: ToySpace) -> None:
    start = [(1,) * 8, (2,) * 8, (3,) * 8]
    searcher, other = evolution(space, start=start), evolution(space)
    assert searcher.ask(5) == [*start, *other.ask(5)[3:]]
    tell_sums(searcher, space, [1, 2])
    assert searcher.ask(2) == [start[2], other.ask(5)[3]]
