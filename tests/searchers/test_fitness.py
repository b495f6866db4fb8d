from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchers.base import Status, Trial
from searchers.fitness import MeanRank, PopulationScore, RankSum, SingleScore, best, distinct


def trial(number: int, key: str | None = None, status: Status = "ok", **scores: float) -> Trial[str]:
    key = key or f"key{number}"
    return Trial(id=number, key=key, genotype=key, seed=0, status=status, scores=scores)


TRIALS = [trial(0, a=1.0, b=5.0), trial(1, a=3.0, b=5.0), trial(2, a=2.0, b=1.0)]


def test_single_score_is_higher_for_the_better() -> None:
    assert SingleScore("a", "maximize")(TRIALS).tolist() == [1.0, 3.0, 2.0]
    assert SingleScore("a", "minimize")(TRIALS).tolist() == [-1.0, -3.0, -2.0]


def test_rank_sum_is_the_mean_of_relative_ranks() -> None:
    # a ranks 1, 3, 2; b minimised ranks 1.5, 1.5, 3
    expected = np.array([1 + 1.5, 3 + 1.5, 2 + 3]) / 2 / 3
    np.testing.assert_allclose(RankSum({"a": "maximize", "b": "minimize"})(TRIALS), expected, rtol=1e-15)


def test_rank_sum_takes_infinite_scores_as_ranks() -> None:
    trials = [trial(0, a=-np.inf), trial(1, a=0.0), trial(2, a=np.inf)]
    np.testing.assert_allclose(RankSum({"a": "maximize"})(trials), [1 / 3, 2 / 3, 1])


#: a above its mean, plus b
RELATIVE = PopulationScore("p", "maximize", ("a", "b"), lambda scores: scores["a"] - scores["a"].mean() + scores["b"])


def test_a_population_score_is_made_of_all_trials_together() -> None:
    assert RELATIVE(TRIALS).tolist() == [4.0, 6.0, 1.0]
    assert RELATIVE(TRIALS[:2]).tolist() == [4.0, 6.0] and RELATIVE(TRIALS[1:]).tolist() == [5.5, 0.5]
    fewer = PopulationScore("p", "minimize", RELATIVE.components, RELATIVE.combine)
    assert fewer(TRIALS).tolist() == [-4.0, -6.0, -1.0] and fewer.values(TRIALS).tolist() == [4.0, 6.0, 1.0]


def test_a_single_trial_has_nothing_to_be_compared_with() -> None:
    assert RELATIVE(TRIALS[:1]).tolist() == [0.0]
    assert best(TRIALS[:1], RELATIVE, 3) == TRIALS[:1]


def test_the_mean_rank_of_single_scores_is_the_rank_sum() -> None:
    parts = MeanRank((SingleScore("a", "maximize"), SingleScore("b", "minimize")))
    np.testing.assert_array_equal(parts(TRIALS), RankSum({"a": "maximize", "b": "minimize"})(TRIALS))
    mixed = MeanRank((RELATIVE, SingleScore("a", "minimize")))
    np.testing.assert_allclose(mixed(TRIALS), [(2 + 3) / 6, (3 + 1) / 6, (1 + 2) / 6])
    with pytest.raises(ValueError, match="a mean rank needs at least one fitness, got none"):
        MeanRank(())


def test_a_component_that_is_missing() -> None:
    with pytest.raises(ValueError, match="trial 1 has no score 'b', got a"):
        RELATIVE([TRIALS[0], trial(1, a=1.0)])


def test_distinct_trials_are_the_first_of_each_key() -> None:
    trials = [trial(2, "x"), trial(0, "y", "failed"), trial(1, "x"), trial(3, "z")]
    assert [each.id for each in distinct(trials)] == [1, 3]


@pytest.mark.parametrize(
    "fitness",
    [SingleScore("a", "maximize"), RankSum({"a": "maximize", "b": "minimize"}), RELATIVE, MeanRank((RELATIVE,))],
)
def test_no_trials_have_no_values(fitness: Any) -> None:
    assert fitness([]).shape == (0,)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_rank_sum_does_not_change_under_increasing_maps(values: list[int]) -> None:
    plain = [trial(i, a=float(v)) for i, v in enumerate(values)]
    mapped = [trial(i, a=float(v) ** 3 * 100) for i, v in enumerate(values)]
    fitness = RankSum({"a": "maximize"})
    assert fitness(plain).tolist() == fitness(mapped).tolist()
    np.testing.assert_allclose(fitness(plain).mean(), (len(values) + 1) / 2 / len(values))


@pytest.mark.parametrize("make", [lambda d: SingleScore("a", d), lambda d: RankSum({"a": d})])
def test_unknown_direction_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="direction of 'a' must be maximize or minimize, got 'up'"):
        make("up")


def test_a_rank_sum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one proxy"):
        RankSum({})


@pytest.mark.parametrize("fitness", [SingleScore("c", "maximize"), RankSum({"a": "maximize", "c": "maximize"})])
def test_missing_and_undefined_scores_are_refused(fitness: Any) -> None:
    with pytest.raises(ValueError, match="trial 0 has no score 'c', got a, b"):
        fitness(TRIALS)
    with pytest.raises(ValueError, match="trial 7: score 'c' must be a number, got nan"):
        fitness([trial(7, a=1.0, c=float("nan"))])


A = SingleScore("a", "maximize")


def test_best_first_with_ties_to_the_lower_id() -> None:
    trials = [trial(2, a=5.0), trial(0, a=1.0), trial(3, a=7.0), trial(1, a=5.0)]
    assert [each.id for each in best(trials, A, 3)] == [3, 1, 2]
    assert [each.id for each in best(trials, A, 9)] == [3, 1, 2, 0]


def test_best_leaves_out_what_is_not_ok_and_what_repeats_a_key() -> None:
    trials = [
        trial(0, "x", status="failed"),
        trial(1, "x", a=9.0),
        trial(2, "y", a=4.0),
        trial(3, "x", a=9.0),
        trial(4, "z", status="infeasible"),
        trial(5, "w", a=6.0),
    ]
    assert [each.id for each in best(trials, A, 5)] == [1, 5, 2]


def test_best_ranks_each_key_once() -> None:
    """The repeats of one key would otherwise push its neighbours apart in a rank sum."""
    trials = [trial(0, "x", a=1.0, b=4.0), trial(1, "y", a=2.0, b=2.5)]
    repeats = [trial(i, "x", a=1.0, b=4.0) for i in range(2, 9)]
    fitness = RankSum({"a": "maximize", "b": "maximize"})
    assert [each.id for each in best(trials + repeats, fitness, 2)] == [each.id for each in best(trials, fitness, 2)]


def test_best_of_no_trials_is_none() -> None:
    assert best([], A, 3) == []
    assert best([trial(0, status="failed")], A, 3) == []


def test_best_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        best(TRIALS, A, 0)
