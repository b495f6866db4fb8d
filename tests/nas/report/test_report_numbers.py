"""The numbers of a report, and their wording."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.report.ranking import (
    _weighted_taus,
    best_so_far,
    correlate,
    operation_shares,
    ranking,
    visible_range,
)
from nas.report.wording import amount, duration
from nas.runs.reader import ScoredBy
from searchers.base import Trial


def trial(id: int, score: float, key: str = "") -> Trial[str]:
    return Trial(id=id, key=key or str(id), genotype="", seed=0, status="ok", scores={"a": score})


def test_ties_keep_the_order_of_proposal() -> None:
    trials = [trial(0, 1.0), trial(1, 2.0), trial(2, 2.0), trial(3, 2.0, key="1")]
    assert [each.id for each in ranking(trials, [ScoredBy("a", "maximize")])] == [1, 2, 0]


def test_best_so_far() -> None:
    assert best_so_far([1.0, 3.0, 2.0], 1).tolist() == [1.0, 3.0, 3.0]
    assert best_so_far([2.0, 3.0, 1.0], -1).tolist() == [2.0, 2.0, 1.0]


def test_correlation_of_reversed_order_is_minus_one() -> None:
    result = correlate([1.0, 2.0, 3.0, 4.0], [4, 3, 2, 1])
    assert result is not None
    assert (result.tau, result.low, result.high, result.count) == (-1.0, -1.0, -1.0, 4)


def test_correlation_is_undefined_where_a_side_is_constant() -> None:
    assert correlate([1.0, 1.0, 1.0], [1, 2, 3]) is None
    assert correlate([1.0, 2.0], [1, 2]) is None
    assert correlate([], []) is None


def test_bootstrap_equals_resampling_one_by_one() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(20, size=(2, 300)).astype(float)  # with many ties
    drawn = rng.integers(300, size=(5, 300))
    weights = np.stack([np.bincount(each, minlength=300) for each in drawn]).astype(float)
    expected = [kendalltau(x[each], y[each]).statistic for each in drawn]
    assert np.allclose(_weighted_taus(x, y, weights), expected, atol=1e-12)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        result = correlate(rng.normal(size=60).tolist(), rng.normal(size=60).tolist())
        assert result is not None and result.low <= result.tau <= result.high
        covered += result.low <= 0 <= result.high
    assert covered >= 52


def test_operation_shares() -> None:
    shares = operation_shares([["a", "a"], ["a", "b"], ["b", "c"], ["a", "c"]], top=1)
    assert [(each.operation, each.top, each.all) for each in shares] == [
        ("a", 1.0, 0.5), ("b", 0.0, 0.25), ("c", 0.0, 0.25),
    ]  # fmt: skip
    assert all(0.0 <= each.low <= each.high <= 1.0 for each in shares)


def test_visible_range() -> None:
    scores = [1.0, 2.0, 3.0, 4.0, -1e6]
    seen = visible_range(scores, 1)
    assert (seen.low, seen.high, seen.logarithmic, seen.outside) == (1.0, 4.0, False, 1)
    assert visible_range(scores, -1).outside == 0  # lower is better: nothing good is left out
    assert visible_range([1.0, 1e5, 1e9], 1).logarithmic
    assert visible_range([2.0, 2.0], 1).high == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (42.4, "42 s"), (59.9, "60 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (200_000, "2 d 7 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "not recorded"), (999, "999"), (18_578, "18.6 k"), (999_900, "1.00 M"), (537_200_000, "537 M")],
)
def test_amount(count: int, text: str) -> None:
    assert amount(count).replace("\N{NO-BREAK SPACE}", " ") == text
