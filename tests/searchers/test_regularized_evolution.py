from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from searchers.base import Searcher, Trial
from searchers.fitness import SingleScore
from searchers.random_search import RandomSearch
from searchers.regularized_evolution import RegularizedEvolution
from tests.searchers.toy_space import Digits, ToySpace, best_sum, make_trial, run

SUM = SingleScore("sum", "maximize")


class Marked(ToySpace):
    """A space whose mutations return the parent marked, so that tests see who it was."""

    def mutate(self, genotype: Digits, rng: np.random.Generator) -> Digits:
        return (*genotype, -1)


def evolution(space: ToySpace, **options: Any) -> RegularizedEvolution[Digits]:
    return RegularizedEvolution(space, **{"seed": 0, "fitness": SUM, "population": 4, "tournament": 2, **options})


def tell_sums(searcher: Searcher[Digits], space: ToySpace, sums: Sequence[int]) -> None:
    first = searcher.told
    searcher.tell(
        make_trial(space, first + i, (first + i, 0), scores={"sum": float(total)}) for i, total in enumerate(sums)
    )


def parents(searcher: Searcher[Digits], n: int = 200) -> Counter[int]:
    """How often each trial, by its id, was the parent of a proposal."""
    return Counter(child[0] for child in searcher.ask(n))


def test_begins_as_random_search(space: ToySpace) -> None:
    searcher, baseline = evolution(space), RandomSearch(space, seed=0, fitness=SUM)
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


def test_fitness_is_taken_of_the_population_once_an_ask() -> None:
    calls: list[list[int]] = []

    def fitness(trials: Sequence[Trial[Digits]]) -> np.ndarray:
        calls.append([trial.id for trial in trials])
        return SUM(trials)

    searcher = evolution(Marked(), fitness=fitness)
    tell_sums(searcher, Marked(), [1, 2, 3, 4, 5, 6])
    searcher.ask(10)
    searcher.ask(20)
    assert calls == [[2, 3, 4, 5]]


def test_a_fitness_of_the_wrong_length_is_refused() -> None:
    searcher = evolution(Marked(), fitness=lambda trials: np.zeros(3))
    tell_sums(searcher, Marked(), [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"fitness must return 4 values, got shape \(3,\)"):
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
        return best_sum(run(kind(space, seed=seed, fitness=SUM, **options), space, 200, 5))

    evolved = [best_of(RegularizedEvolution, seed, population=20, tournament=5) for seed in range(10)]
    drawn = [best_of(RandomSearch, seed) for seed in range(10)]
    assert statistics.median(evolved) > statistics.median(drawn) + 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 20, "tournament": 50}, r"tournament size must be at most the population size \(20\), got 50"),
        ({"tournament": 0}, "tournament size must be at least 1, got 0"),
        ({"max_mutations": -1}, "max_mutations must be at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(space: ToySpace, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evolution(space, **options)
