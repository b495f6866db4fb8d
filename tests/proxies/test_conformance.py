"""Every proxy passes the conformance suite, and equals a slow formula. A new one is a row of ``TABLE``.

Each check is made of all proxies on one network, and on the others of the rows ``FAMILIES``; of other rows it is slow
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from torch import Tensor, nn

from nas.testing import proxies as suite
from nas.testing.networks import EQUAL, UNUSUAL
from proxies import PROXIES, get_network_proxy, get_proxy
from proxies.base import Probe, ProxyError
from tests.proxies.conformance import TABLE, Case
from tests.proxies.networks import NETWORKS, plain_cnn, smooth_mlp

Build = Callable[[], nn.Module]

#: One row for each way of using a network: per-image gradients, a step of the images, hooks on activations or layers,
#: rewritten weights, second derivatives, random images, counting.
FAMILIES = (
    "robust", "robust, train", "robust_released", "snip", "grasp", "fisher", "synflow", "naswot", "zen",
    "az_trainability", "croze", "diverse_capacity", "macs",
)  # fmt: skip
FIRST = {"build": "cnn", "unusual": "hooked", "equal": "hooked", "written": "cells, as published"}

#: rows of the table with the networks that they have a value for
DEFINED = [
    (row, name) for name, build in NETWORKS.items() for row, case in TABLE.items() if not case.undefined(build())
]


def slow_if(redundant: bool) -> Sequence[pytest.MarkDecorator]:
    return [pytest.mark.slow] if redundant else []


def pairs(name: str, networks: Iterable[str]) -> list[Any]:
    """Each row with each of the networks that are called ``name``."""
    return [
        pytest.param(row, network, id=f"{row}-{network}", marks=slow_if(network != FIRST[name] and row not in FAMILIES))
        for network in networks
        for row in TABLE
        if (row, network) in DEFINED or name != "build"
    ]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return TABLE[request.param]


@pytest.fixture
def make(case: Case) -> suite.Make:
    return lambda: get_network_proxy(case.name, **case.options)


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Build:
    return NETWORKS[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every proxy, every network, or every pair of the two, of the project's networks those that have a value."""
    others = {"build": NETWORKS, "unusual": UNUSUAL, "equal": EQUAL, "written": suite.WRITTEN_TWICE}
    names = set(metafunc.fixturenames)
    if metafunc.function is test_value_equals_the_formula:
        metafunc.parametrize(("case", "build"), DEFINED, indirect=True)
    elif "case" in names and (name := next((name for name in others if name in names), "")):
        indirect = ["case", *(["build"] if name == "build" else [])]
        metafunc.parametrize(("case", name), pairs(name, others[name]), indirect=indirect)
    elif names & {"case", "build"}:
        (name,) = names & {"case", "build"}
        metafunc.parametrize(name, {"case": TABLE, "build": NETWORKS}[name], indirect=True)


def test_every_name_of_the_registry_is_in_the_table() -> None:
    assert set(FAMILIES) <= set(TABLE)
    assert {case.name for case in TABLE.values()} == set(PROXIES)


def test_says_what_it_is(case: Case, make: suite.Make) -> None:
    suite.check_description(make)
    assert make().name == case.name


def test_every_option_has_a_default(case: Case) -> None:
    assert get_proxy(case.name).name == case.name


@pytest.mark.parametrize("check", suite.NETWORK_CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract(
    case: Case, make: suite.Make, build: Build, check: Callable[[suite.Make, Build], None]
) -> None:
    check(make, build)


@pytest.mark.parametrize("check", suite.TRACE_CHECKS, ids=lambda check: check.__name__)
def test_leaves_no_trace_in_unusual_networks(
    case: Case, make: suite.Make, unusual: str, check: Callable[[suite.Make, Build], None]
) -> None:
    check(make, UNUSUAL[unusual])


def test_neither_hooks_nor_computed_weights_matter(case: Case, make: suite.Make, equal: str) -> None:
    suite.check_same_as_plain(make, EQUAL[equal])


def test_one_function_has_one_score(case: Case, make: suite.Make, written: str) -> None:
    suite.check_writing_does_not_matter(make, *suite.WRITTEN_TWICE[written])


def test_order_on_one_probe_does_not_matter(build: Build) -> None:
    defined = {row: case for row, case in TABLE.items() if not case.undefined(build())}
    makes = {row: lambda case=case: get_network_proxy(case.name, **case.options) for row, case in defined.items()}
    suite.check_order_does_not_matter(makes, build)


def test_value_equals_the_formula(case: Case, make: suite.Make, build: Build, images: Tensor, labels: Tensor) -> None:
    network = build()
    value = make().score(Probe(network, images, labels))
    assert value == pytest.approx(case.reference(network, images, labels), rel=1e-6)


@pytest.mark.parametrize("row", [row for row, case in TABLE.items() if case.undefined(smooth_mlp())])
def test_a_network_without_a_value_is_an_error(row: str) -> None:
    outcome = suite.outcome_of(get_network_proxy(TABLE[row].name, **TABLE[row].options), suite.mixed(smooth_mlp()))
    assert isinstance(outcome, ProxyError) and ("expected at least 2" in str(outcome) or "calls no" in str(outcome))


@pytest.mark.parametrize("name", ["macs", "az_complexity"])
def test_counting_runs_the_network(name: str, images: Tensor, labels: Tensor) -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        get_network_proxy(name).score(Probe(suite.Broken(plain_cnn()), images, labels))


def test_a_probe_builds_its_network_once(case: Case, make: suite.Make, images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    built: list[nn.Module] = []

    def build_network() -> nn.Module:
        built.append(network)
        return network

    probe, proxy = Probe(build_network, images, labels), make()
    for _ in range(2):
        proxy.score(probe)
    assert len(built) == 1
