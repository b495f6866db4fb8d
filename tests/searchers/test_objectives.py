from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from searchers.base import Objectives, Status, Trial
from searchers.objectives import (
    Joint,
    MeanRank,
    PopulationScore,
    RankSum,
    SingleScore,
    average_ranks,
    crowding_distances,
    distinct,
    evaluate,
    front_numbers,
    rank,
    standing,
)


def trial(number: int, key: str | None = None, status: Status = "ok", **scores: float) -> Trial[str]:
    key = key or f"key{number}"
    return Trial(id=number, key=key, genotype=key, seed=0, status=status, scores=scores)


def column(objectives: Objectives, trials: Sequence[Trial[str]]) -> np.ndarray:
    """The values of a single objective."""
    values = objectives(trials)
    assert values.shape == (len(trials), len(objectives.names)) == (len(trials), 1)
    return values[:, 0]


TRIALS = [trial(0, a=1.0, b=5.0), trial(1, a=3.0, b=5.0), trial(2, a=2.0, b=1.0)]


def test_single_score_is_higher_for_the_better() -> None:
    assert column(SingleScore("a", "maximize"), TRIALS).tolist() == [1.0, 3.0, 2.0]
    assert column(SingleScore("a", "minimize"), TRIALS).tolist() == [-1.0, -3.0, -2.0]


def test_rank_sum_is_the_mean_of_relative_ranks() -> None:
    # a ranks 1, 3, 2; b minimised ranks 1.5, 1.5, 3
    expected = np.array([1 + 1.5, 3 + 1.5, 2 + 3]) / 2 / 3
    np.testing.assert_allclose(column(RankSum({"a": "maximize", "b": "minimize"}), TRIALS), expected, rtol=1e-15)


def test_rank_sum_takes_infinite_scores_as_ranks() -> None:
    trials = [trial(0, a=-np.inf), trial(1, a=0.0), trial(2, a=np.inf)]
    np.testing.assert_allclose(column(RankSum({"a": "maximize"}), trials), [1 / 3, 2 / 3, 1])


#: a above its mean, plus b
RELATIVE = PopulationScore("p", "maximize", ("a", "b"), lambda scores: scores["a"] - scores["a"].mean() + scores["b"])


def test_a_population_score_is_made_of_all_trials_together() -> None:
    assert column(RELATIVE, TRIALS).tolist() == [4.0, 6.0, 1.0]
    assert column(RELATIVE, TRIALS[:2]).tolist() == [4.0, 6.0] and column(RELATIVE, TRIALS[1:]).tolist() == [5.5, 0.5]
    fewer = PopulationScore("p", "minimize", RELATIVE.components, RELATIVE.combine)
    assert column(fewer, TRIALS).tolist() == [-4.0, -6.0, -1.0] and fewer.values(TRIALS).tolist() == [4.0, 6.0, 1.0]


def test_a_single_trial_has_nothing_to_be_compared_with() -> None:
    assert column(RELATIVE, TRIALS[:1]).tolist() == [0.0]
    assert rank(TRIALS[:1], RELATIVE, 3) == TRIALS[:1]


def test_the_mean_rank_of_single_scores_is_the_rank_sum() -> None:
    parts = MeanRank((SingleScore("a", "maximize"), SingleScore("b", "minimize")))
    np.testing.assert_array_equal(parts(TRIALS), RankSum({"a": "maximize", "b": "minimize"})(TRIALS))
    mixed = MeanRank((RELATIVE, SingleScore("a", "minimize")))
    np.testing.assert_allclose(column(mixed, TRIALS), [(2 + 3) / 6, (3 + 1) / 6, (1 + 2) / 6])
    with pytest.raises(ValueError, match="a mean rank needs at least one objective, got none"):
        MeanRank(())


def test_a_component_that_is_missing() -> None:
    with pytest.raises(ValueError, match="trial 1 has no score 'b', got a"):
        RELATIVE([TRIALS[0], trial(1, a=1.0)])


def test_distinct_trials_are_the_first_of_each_key() -> None:
    trials = [trial(2, "x"), trial(0, "y", "failed"), trial(1, "x"), trial(3, "z")]
    assert [each.id for each in distinct(trials)] == [1, 3]


@pytest.mark.parametrize(
    "objectives",
    [SingleScore("a", "maximize"), RankSum({"a": "maximize", "b": "minimize"}), RELATIVE, MeanRank((RELATIVE,))],
)
def test_no_trials_have_no_values(objectives: Objectives) -> None:
    assert column(objectives, []).shape == (0,)


@given(st.lists(st.integers(-5, 5) | st.floats(allow_nan=False), max_size=12))
def test_average_ranks_are_scipy_s(values: list[float]) -> None:
    np.testing.assert_array_equal(average_ranks(np.array(values, dtype=float)), rankdata(values))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_rank_sum_does_not_change_under_increasing_maps(values: list[int]) -> None:
    plain = [trial(i, a=float(v)) for i, v in enumerate(values)]
    mapped = [trial(i, a=float(v) ** 3 * 100) for i, v in enumerate(values)]
    objectives = RankSum({"a": "maximize"})
    assert objectives(plain).tolist() == objectives(mapped).tolist()
    np.testing.assert_allclose(column(objectives, plain).mean(), (len(values) + 1) / 2 / len(values))


@pytest.mark.parametrize("make", [lambda d: SingleScore("a", d), lambda d: RankSum({"a": d})])
def test_unknown_direction_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="direction of 'a' must be maximize or minimize, got 'up'"):
        make("up")


def test_a_rank_sum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one proxy"):
        RankSum({})


@pytest.mark.parametrize("objectives", [SingleScore("c", "maximize"), RankSum({"a": "maximize", "c": "maximize"})])
def test_missing_and_undefined_scores_are_refused(objectives: Objectives) -> None:
    with pytest.raises(ValueError, match="trial 0 has no score 'c', got a, b"):
        objectives(TRIALS)
    with pytest.raises(ValueError, match="trial 7: score 'c' must be a number, got nan"):
        objectives([trial(7, a=1.0, c=float("nan"))])


A = SingleScore("a", "maximize")


def test_best_first_with_ties_to_the_lower_id() -> None:
    trials = [trial(2, a=5.0), trial(0, a=1.0), trial(3, a=7.0), trial(1, a=5.0)]
    assert [each.id for each in rank(trials, A, 3)] == [3, 1, 2]
    assert [each.id for each in rank(trials, A, 9)] == [3, 1, 2, 0]


def test_best_leaves_out_what_is_not_ok_and_what_repeats_a_key() -> None:
    trials = [
        trial(0, "x", status="failed"),
        trial(1, "x", a=9.0),
        trial(2, "y", a=4.0),
        trial(3, "x", a=9.0),
        trial(4, "z", status="infeasible"),
        trial(5, "w", a=6.0),
    ]
    assert [each.id for each in rank(trials, A, 5)] == [1, 5, 2]


def test_best_ranks_each_key_once() -> None:
    """The repeats of one key would otherwise push its neighbours apart in a rank sum."""
    trials = [trial(0, "x", a=1.0, b=4.0), trial(1, "y", a=2.0, b=2.5)]
    repeats = [trial(i, "x", a=1.0, b=4.0) for i in range(2, 9)]
    objectives = RankSum({"a": "maximize", "b": "maximize"})
    assert [each.id for each in rank(trials + repeats, objectives, 2)] == [
        each.id for each in rank(trials, objectives, 2)
    ]


def test_best_of_no_trials_is_none() -> None:
    assert rank([], A, 3) == []
    assert rank([trial(0, status="failed")], A, 3) == []


def test_best_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        rank(TRIALS, A, 0)


# Several objectives

BOTH = Joint((SingleScore("a", "maximize"), SingleScore("b", "minimize")))

#: Few distinct numbers, so that points tie and dominate each other often; both zeros are equal.
NUMBERS = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0, 3.0]) | st.floats(-100, 100, width=32)
POINTS = st.integers(2, 4).flatmap(
    lambda m: st.lists(st.lists(NUMBERS, min_size=m, max_size=m), min_size=1, max_size=25)
)


def slow_fronts(points: list[list[float]]) -> list[int]:
    """Peels off one front after another, by the definition of dominance."""

    def dominates(one: list[float], other: list[float]) -> bool:
        return all(x >= y for x, y in zip(one, other, strict=True)) and one != other

    fronts = [-1] * len(points)
    number = 0
    while -1 in fronts:
        left = [i for i, front in enumerate(fronts) if front == -1]
        for i in left:
            if not any(dominates(points[j], points[i]) for j in left):
                fronts[i] = -2
        fronts = [number if front == -2 else front for front in fronts]
        number += 1
    return fronts


def slow_crowding(points: list[list[float]]) -> list[float]:
    """Each point's neighbours looked up in the sorted list, objective by objective."""
    total = [0.0] * len(points)
    for objective in range(len(points[0])):
        values = [point[objective] for point in points]
        low, high = min(values), max(values)
        order = sorted(range(len(points)), key=lambda i: (values[i], i))
        for i in range(len(points)):
            place = order.index(i)
            if i in (values.index(low), values.index(high)):
                total[i] = float("inf")
            elif 0 < place < len(order) - 1:
                total[i] += (values[order[place + 1]] - values[order[place - 1]]) / (high - low) if high > low else 0.0
    return total


@given(POINTS)
def test_fronts_are_those_of_the_definition(points: list[list[float]]) -> None:
    assert front_numbers(np.array(points)).tolist() == slow_fronts(points)


@given(POINTS)
def test_crowding_distances_are_those_of_the_definition(points: list[list[float]]) -> None:
    np.testing.assert_allclose(crowding_distances(np.array(points)), slow_crowding(points), rtol=1e-12)


@given(POINTS)
def test_rank_is_by_front_then_crowding_then_id(points: list[list[float]]) -> None:
    names = [f"s{number}" for number in range(len(points[0]))]
    trials = [trial(i, **dict(zip(names, point, strict=True))) for i, point in enumerate(points)]
    fronts = slow_fronts(points)
    crowding: dict[int, float] = {}
    for number in set(fronts):
        members = [i for i, front in enumerate(fronts) if front == number]
        crowding.update(zip(members, crowding_distances(np.array([points[i] for i in members])).tolist(), strict=True))
    expected = sorted(range(len(points)), key=lambda i: (fronts[i], -crowding[i], i))
    ranked = rank(trials[::-1], Joint(tuple(SingleScore(name, "maximize") for name in names)), len(points))
    assert [each.id for each in ranked] == expected


def test_fronts_and_crowding_by_hand() -> None:
    """Larger a and smaller b are better: 0, 1, 2, 4 are the first front, 3 is dominated by 1, 5 by all."""
    points = [(1, 1), (4, 2), (6, 5), (3, 3), (9, 9), (0, 10)]
    trials = [trial(i, a=float(a), b=float(b)) for i, (a, b) in enumerate(points)]
    values = evaluate(BOTH, trials)
    assert BOTH.names == ("a", "b") and values.tolist() == [[a, -b] for a, b in points]
    assert front_numbers(values).tolist() == [0, 0, 0, 1, 0, 2]
    inner = [(6 - 1) / 8 + (5 - 1) / 8, (9 - 4) / 8 + (9 - 2) / 8]
    np.testing.assert_allclose(crowding_distances(values[[0, 1, 2, 4]]), [np.inf, *inner, np.inf])
    assert [each.id for each in rank(trials, BOTH, 9)] == [0, 4, 2, 1, 3, 5]
    assert [each.id for each in rank(trials, BOTH, 3)] == [0, 4, 2]


def test_of_equal_points_only_the_first_is_an_extreme() -> None:
    values = np.array([(2.0, 1.0), (2.0, 1.0), (1.0, 2.0), (2.0, 1.0)])
    assert crowding_distances(values).tolist()[0] == crowding_distances(values).tolist()[2] == np.inf
    assert all(np.isfinite(crowding_distances(values)[[1, 3]]))


@given(st.lists(NUMBERS, min_size=1, max_size=12))
def test_the_standing_of_one_objective_is_its_value(values: list[float]) -> None:
    assert standing(np.array(values)[:, None]).tolist() == values


def test_equal_standing_is_told_from_different() -> None:
    values = np.array([(0.0, 4.0), (1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (4.0, 0.0), (0.0, 0.0)])
    assert standing(values).tolist() == [0, -1, -1, -1, 0, -2]


def test_several_objectives_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="several objectives need finite values"):
        rank([trial(0, a=1.0, b=float("inf"))], BOTH, 1)


def test_values_of_another_shape_are_refused() -> None:
    class Flat:
        names = ("a",)

        def __call__(self, trials: Sequence[Trial[Any]]) -> np.ndarray:
            return np.zeros(len(trials))

    with pytest.raises(ValueError, match=r"must return values of shape \(3, 1\), got shape \(3,\)"):
        rank(TRIALS, Flat(), 1)


def test_joint_objectives_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one objective, got none"):
        Joint(())


def test_a_mean_rank_takes_every_column() -> None:
    np.testing.assert_array_equal(MeanRank((BOTH,))(TRIALS), RankSum({"a": "maximize", "b": "minimize"})(TRIALS))


@pytest.mark.parametrize(("k", "message"), [(1.5, "a whole number, got 1.5"), (True, "a whole"), (0, "at least 1")])
def test_rank_takes_whole_numbers(k: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"k must be {message}"):
        rank([], SingleScore("a", "maximize"), k)
    assert rank([], SingleScore("a", "maximize"), np.int64(1)) == []  # type: ignore[arg-type]
