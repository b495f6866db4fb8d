"""What every proxy of a population must do, and what is special to each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import proxies
from proxies.base import Probe, Proxy, ProxyError
from proxies.population import PopulationProxy
from tests.proxies.networks import darts_network

Rows = list[dict[str, float]]


def az_nas(rows: Rows) -> list[float]:
    """Ranks counted one by one: those below, and half of those that are equal."""
    values = [0.0] * len(rows)
    for name in ("az_expressivity", "az_progressivity", "az_trainability", "az_complexity"):
        for i, row in enumerate(rows):
            below = sum(other[name] < row[name] for other in rows)
            equal = sum(other[name] == row[name] for other in rows)
            values[i] += math.log((below + (equal + 1) / 2) / len(rows))
    return values


def r_score(rows: Rows) -> list[float]:
    def scaled(name: str) -> list[float]:
        logs = [math.log(row[name]) for row in rows]
        return [1 + 99 * (each - min(logs)) / (max(logs) - min(logs)) for each in logs]

    return [math.sqrt(snap) * con_js for snap, con_js in zip(scaled("snap"), scaled("con_js"), strict=True)]


TABLE: dict[str, Callable[[Rows], list[float]]] = {"az_nas": az_nas, "r_score": r_score}


@pytest.fixture(params=TABLE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(name: str) -> PopulationProxy:
    found = proxies.get_proxy(name)
    assert isinstance(found, PopulationProxy)
    return found


@pytest.fixture
def rows(proxy: PopulationProxy) -> Rows:
    numbers = np.random.default_rng(0)
    drawn = [{each.name: float(numbers.uniform(0.1, 9)) for each in proxy.components} for _ in range(7)]
    return [*drawn, dict(drawn[2]), {**drawn[3], proxy.components[0].name: drawn[4][proxy.components[0].name]}]


def columns(rows: Rows) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_every_name_of_the_registry_is_in_the_table() -> None:
    assert set(proxies.POPULATION_PROXIES) == set(TABLE)
    assert not set(proxies.POPULATION_PROXIES) & set(proxies.PROXIES)


def test_says_what_it_is(name: str, proxy: PopulationProxy) -> None:
    assert proxy.name == name and proxy.direction in ("maximize", "minimize")
    assert all(isinstance(each, Proxy) and each.name in proxies.PROXIES for each in proxy.components)


def test_value_equals_the_formula(name: str, proxy: PopulationProxy, rows: Rows) -> None:
    values = proxy.combine(columns(rows))
    assert values.dtype == np.float64 and values.shape == (len(rows),)
    assert values.tolist() == pytest.approx(TABLE[name](rows), rel=1e-12)
    assert np.ptp(values) > 0


def test_order_and_further_scores_do_not_matter(proxy: PopulationProxy, rows: Rows) -> None:
    values = proxy.combine(columns(rows))
    backwards = proxy.combine({**columns(rows[::-1]), "params": [1.0]})
    assert backwards[::-1].tolist() == pytest.approx(values.tolist(), rel=1e-12)


def test_equal_networks_have_equal_scores(proxy: PopulationProxy, rows: Rows) -> None:
    assert np.ptp(proxy.combine(columns([rows[0]] * 3))) == 0


def test_better_in_everything_is_better(proxy: PopulationProxy, rows: Rows) -> None:
    best = {part.name: 10.0 if part.direction == "maximize" else 0.01 for part in proxy.components}
    values = proxy.combine(columns([*rows, best])) * (1 if proxy.direction == "maximize" else -1)
    assert values.argmax() == len(rows)


def test_one_network_or_none_is_an_error(proxy: PopulationProxy, rows: Rows) -> None:
    with pytest.raises(ProxyError, match=rf"{proxy.name} compares networks: expected at least 2, got 1"):
        proxy.combine(columns(rows[:1]))
    with pytest.raises(ProxyError, match="expected at least 2, got 0"):
        proxy.combine({each.name: [] for each in proxy.components})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(proxy: PopulationProxy, rows: Rows, value: float) -> None:
    part = proxy.components[1].name
    rows[3][part] = value
    with pytest.raises(ProxyError, match=rf"{part} of network 3 is {value}, expected a finite number"):
        proxy.combine(columns(rows))


def test_missing_or_uneven_scores_are_an_error(proxy: PopulationProxy, rows: Rows) -> None:
    given: dict[str, Any] = columns(rows)
    part = proxy.components[0].name
    with pytest.raises(ProxyError, match=rf"{proxy.name} needs the scores of {part}, got "):
        proxy.combine({other: values for other, values in given.items() if other != part})
    with pytest.raises(ProxyError, match="one score of each kind for each network, got shapes"):
        proxy.combine({**given, part: given[part][1:]})


def test_networks_are_scored_and_compared(name: str, proxy: PopulationProxy, images: Tensor, labels: Tensor) -> None:
    networks: list[nn.Module] = [darts_network("ROBUST_ZCP"), darts_network("ADVRUSH"), darts_network("PDARTS")]
    scored = proxies.score_population(networks, images, labels, names=[name])
    rows = [
        {each.name: each.score(Probe(network, images, labels)) for each in proxy.components} for network in networks
    ]
    assert list(scored) == [name]
    assert scored[name].tolist() == pytest.approx(proxy.combine(columns(rows)).tolist(), rel=1e-9)
    assert proxies.score_population(rows, names=name)[name].tolist() == pytest.approx(scored[name].tolist(), rel=1e-9)


def test_a_network_and_a_population_are_told_apart(images: Tensor, labels: Tensor, rows: Rows, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'{name}' compares networks: score_population takes it; a single network has"
    ):
        proxies.score(darts_network(), images, labels, names=[name])
    with pytest.raises(ValueError, match="'params' scores a single network"):
        proxies.score_population(rows, names=["params"])
    with pytest.raises(ValueError, match="expected images and labels to score the networks on, got none"):
        proxies.score_population([darts_network()], names=[name])
    with pytest.raises(ProxyError, match="network 1 has no score '"):
        proxies.score_population([rows[0], {}], names=[name])
    with pytest.raises(ValueError, match=r"unknown proxy 'az_nass'; did you mean az_nas"):
        proxies.get_proxy("az_nass")


def test_r_score_needs_positive_scores() -> None:
    with pytest.raises(ProxyError, match="snap of network 1 is 0.0, expected a positive number"):
        proxies.score_population([{"snap": 1.0, "con_js": 1.0}, {"snap": 0.0, "con_js": 1.0}], names=["r_score"])


def test_az_nas_is_zero_for_what_is_best_by_all() -> None:
    rows = [
        dict.fromkeys(("az_expressivity", "az_progressivity", "az_trainability", "az_complexity"), x) for x in (1, 2)
    ]
    assert proxies.score_population(rows, names=["az_nas"])["az_nas"].tolist() == pytest.approx([4 * math.log(0.5), 0])
