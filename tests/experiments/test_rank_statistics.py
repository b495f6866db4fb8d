from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr

from experiments.rank_statistics import (
    Estimate,
    kendall_tau,
    partial_tau,
    resample_weights,
    spearman_rho,
    tied_pairs,
)


def literal_tau(x: np.ndarray, y: np.ndarray) -> float:
    """tau-b, pair by pair."""
    surplus = untied_x = untied_y = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        surplus, untied_x, untied_y = surplus + a * b, untied_x + a * a, untied_y + b * b
    return surplus / np.sqrt(untied_x * untied_y) if untied_x and untied_y else float("nan")


def written_out(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """A resample with every copy in its place."""
    return np.repeat(column, row.astype(int))


COLUMNS = arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 6))


@given(COLUMNS, st.integers(0, 2**32))
def test_tau_and_rho_of_every_resample_are_those_of_the_columns_written_out(x: np.ndarray, seed: int) -> None:
    y = np.random.default_rng(seed).integers(0, 9, len(x))
    weights = resample_weights(len(x), 5, seed)
    taus, rhos = kendall_tau(x, y, weights), spearman_rho(x, y, weights)
    for row, tau, rho in zip(weights, taus, rhos, strict=True):
        a, b = written_out(x, row), written_out(y, row)
        assert tau == pytest.approx(literal_tau(a, b), abs=1e-12, nan_ok=True)
        if np.ptp(a) and np.ptp(b):
            assert tau == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)
            assert rho == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
        else:
            assert np.isnan(tau) and np.isnan(rho)


def test_tau_over_several_blocks_is_exactly_scipys() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=1300)
    y = np.round(x + rng.normal(size=1300), 1)  # with ties
    weights = resample_weights(1300, 3, 1)
    for row, tau in zip(weights, kendall_tau(x, y, weights), strict=True):
        assert tau == pytest.approx(kendalltau(written_out(x, row), written_out(y, row)).statistic, abs=1e-14)


def test_weights_are_a_row_of_ones_and_resamples_of_the_same_size() -> None:
    weights = resample_weights(40, 100, 3)
    assert weights.shape == (101, 40) and (weights[0] == 1).all() and (weights.sum(1) == 40).all()
    assert (weights == resample_weights(40, 100, 3)).all() and (weights != resample_weights(40, 100, 4)).any()


def test_partial_tau_by_hand() -> None:
    assert partial_tau(0.5, 0.6, 0.3) == pytest.approx((0.5 - 0.6 * 0.3) / np.sqrt((1 - 0.36) * (1 - 0.09)))
    assert partial_tau(0.5, 0.0, 0.0) == 0.5
    assert np.isnan(partial_tau(0.5, 1.0, 0.5)) and np.isnan(partial_tau(0.5, 0.5, -1.0))


def test_tied_pairs() -> None:
    assert tied_pairs([1, 2, 2, 2, 3, 3]) == 3 + 1
    assert tied_pairs([]) == tied_pairs([1.5]) == 0


def test_interval_is_that_of_the_percentiles() -> None:
    estimate = Estimate.of([0.25, *np.linspace(0, 1, 1001)])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.25, 0.025, 0.975))


def test_interval_leaves_out_what_is_undefined() -> None:
    nan = float("nan")
    assert Estimate.of([1.0, 0.5, 0.5, nan]).low == 0.5
    assert np.isnan(Estimate.of([1.0, 0.5, nan, nan]).low)
    assert Estimate.of([nan, nan]).to_json() == {"value": None, "low": None, "high": None}


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        kendall_tau([1.0, float("nan")], [1, 2], resample_weights(2, 1, 0))
