"""The front of a set of trials, its knee and its hypervolume; the ranking functions beside those of pymoo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from searchers.base import Trial
from searchers.fronts import front_of, hypervolume, knee, normalised
from searchers.objectives import crowding_distances, front_numbers
from tests.searchers.toy_space import ToySpace, make_trial

TWO = {"good": "maximize", "small": "minimize"}


def trial(number: int, good: float, small: float, **changes: object) -> Trial[tuple[int, ...]]:
    return make_trial(ToySpace(), number, (number,) * 8, scores={"good": good, "small": small}, **changes)


def random_values(seed: int, objectives: int) -> np.ndarray:
    """Few different values, so that many rows tie, and some are equal."""
    return np.random.default_rng(seed).integers(8, size=(60, objectives)).astype(float)


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_fronts_are_those_of_pymoo(seed: int, objectives: int) -> None:
    values = random_values(seed, objectives)
    expected = np.empty(len(values), dtype=int)
    for number, members in enumerate(NonDominatedSorting().do(-values)):
        expected[members] = number
    assert front_numbers(values).tolist() == expected.tolist() and expected.max() > 1


@pytest.mark.parametrize("seed", range(5))
def test_crowding_distances_are_those_of_pymoo(seed: int) -> None:
    """They are m times as large: pymoo takes the mean over the objectives, the paper the sum."""
    rng = np.random.default_rng(seed)
    free, tied = rng.random((20, 3)), np.unique(rng.integers(7, size=(60, 3)), axis=0).astype(float)
    np.testing.assert_allclose(crowding_distances(free), 3 * calc_crowding_distance(free))
    inner = ((tied > tied.min(axis=0)) & (tied < tied.max(axis=0))).all(axis=1)  # which extreme is first is free
    expected = 3 * calc_crowding_distance(tied, filter_out_duplicates=False)
    np.testing.assert_allclose(crowding_distances(tied)[inner], expected[inner])
    assert inner.sum() > 10


def test_the_hypervolume_is_the_share_of_cells_that_are_dominated() -> None:
    for seed, objectives in itertools.product(range(4), (2, 3)):
        values = random_values(seed, objectives) / 8
        corners = itertools.product(range(8), repeat=objectives)
        dominated = sum((values >= (np.array(corner) + 1) / 8).all(axis=1).any() for corner in corners)
        assert hypervolume(values) == pytest.approx(dominated / 8**objectives)


def test_the_knee_is_farthest_from_the_plane_through_the_extremes() -> None:
    assert knee(np.array([[0, 1], [0.2, 0.9], [0.7, 0.7], [1, 0]])) == 2
    assert knee(np.array([[0, 100], [2, 90], [7, 70], [10, 0]])) == 2  # in other units
    assert knee(np.array([[0, 1], [0.4, 0.5], [1, 0]])) == 0  # a dent: no point is beyond the line
    assert knee(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3]])) == 3
    assert knee(np.array([[3.0, 4.0]])) == 0 and knee(np.array([[1.0, 5.0], [1.0, 5.0]])) == 0


def test_normalised_values_are_between_the_worst_and_the_best() -> None:
    found = normalised(np.array([[1.0, 7.0], [3.0, 7.0]]), np.array([1.0, 7.0]), np.array([5.0, 7.0]))
    assert found.tolist() == [[0, 1], [0.5, 1]]


def test_the_front_of_trials() -> None:
    trials = [
        trial(0, 1.0, 10.0),
        trial(1, 3.0, 30.0),
        trial(2, 2.9, 12.0),
        trial(3, 2.0, 30.0),  # dominated
        trial(4, 0.5, 20.0),  # dominated, and the worst of "good"
        trial(5, 9.0, 1.0, status="infeasible"),
    ]
    again = trial(6, 3.0, 30.0)
    found = front_of([*trials, again.with_scores(again.scores)], TWO)
    assert [each.id for each in found.trials] == [1, 6, 2, 0] and found.knee.id == 2
    assert (found.best, found.worst) == ({"good": 3.0, "small": 10.0}, {"good": 0.5, "small": 30.0})
    # normalised: (1, 0), (0.96, 0.9), (0.2, 1)
    assert found.hypervolume == pytest.approx(0.2 * 1 + (0.96 - 0.2) * 0.9)


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([], "at least one trial of status ok, got none of 0"),
        ([trial(0, 1.0, 2.0, status="failed")], "got none of 1"),
        ([trial(0, float("inf"), 2.0)], "a front needs finite scores"),
    ],
)
def test_there_is_no_front_without_scores(trials: list[Trial[tuple[int, ...]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        front_of(trials, TWO)
