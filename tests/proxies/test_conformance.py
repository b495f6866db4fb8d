"""Every proxy passes the conformance suite, and equals a slow formula. A new one is a row of ``TABLE``."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.testing import proxies as suite
from proxies import PROXIES, get_network_proxy, get_proxy
from proxies.base import Probe, Proxy, ProxyError
from tests.proxies.conformance import TABLE, Case
from tests.proxies.networks import NETWORKS, plain_cnn, smooth_mlp

Build = Callable[[], nn.Module]

#: rows of the table with the networks that they have a value for
DEFINED = [
    (row, name) for name, build in NETWORKS.items() for row, case in TABLE.items() if not case.undefined(build())
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
    """Every proxy, every network, or every pair of the two that has a value."""
    asked = {"case", "build"} & set(metafunc.fixturenames)
    if asked == {"case", "build"}:
        metafunc.parametrize(("case", "build"), DEFINED, indirect=True)
    elif asked:
        (name,) = asked
        metafunc.parametrize(name, {"case": TABLE, "build": NETWORKS}[name], indirect=True)


def test_every_name_of_the_registry_is_in_the_table() -> None:
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


@pytest.mark.parametrize("unusual", suite.UNUSUAL)
def test_leaves_no_trace_in_unusual_networks(case: Case, make: suite.Make, unusual: str) -> None:
    suite.check_leaves_no_trace(make, suite.UNUSUAL[unusual])


def test_hooks_do_not_matter(case: Case, make: suite.Make) -> None:
    suite.check_hooks_do_not_matter(make)


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


class Careless(Proxy):
    """Keeps the contract, except that it does one thing to the network."""

    name = "careless"
    direction = "maximize"
    cost = "forward"

    def __init__(self, harm: Callable[[nn.Sequential], object]):
        self.harm = harm

    def score(self, probe: Probe) -> float:
        network = probe.network
        assert isinstance(network, nn.Sequential)
        self.harm(network)
        return 1.0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda net: net[2].register_forward_hook(print), "the forward hooks, of '2'"),
        (lambda net: net[2].register_forward_pre_hook(print), "the forward pre hooks, of '2'"),
        (lambda net: net[2].register_full_backward_pre_hook(print), "the backward pre hooks, of '2'"),
        (lambda net: net[2].register_backward_hook(print), "the backward hooks, of '2'"),
        (lambda net: net[0].weight.register_hook(print), "the hooks of the tensors, of '0.weight'"),
        (lambda net: setattr(net[2], "forward", print), "of '2'"),
        (lambda net: setattr(net[1], "training", not net[1].training), "the mode of the modules, of '1'"),
        (lambda net: setattr(net, "kept", 1), "the attributes of the modules, of ''"),
        (lambda net: net[0].weight.requires_grad_(not net[0].weight.requires_grad), "requires_grad, of '0.weight'"),
        (lambda net: setattr(net[0].weight, "grad", net[0].weight.detach() + 1), "grad, of '0.weight'"),
        (lambda net: net[0].weight.data.add_(1), "the values of the tensors, of '0.weight'"),
        (lambda net: net[1].running_mean.add_(1), "the values of the tensors, of '1.running_mean'"),
        (lambda net: net.float(), "the values of the tensors, of '0.weight'"),
        (lambda net: net.__setitem__(2, nn.Identity()), "the modules, of '2'"),
        (lambda net: torch.rand(1), "the random states"),
        (lambda net: np.random.rand(), "the random states"),
        (lambda net: random.random(), "the random states"),
    ],
)
def test_the_suite_sees_every_trace(harm: Callable[[nn.Sequential], object], said: str) -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        with pytest.raises(AssertionError, match=re.escape(said)):
            suite.check_leaves_no_trace(lambda: Careless(harm), plain_cnn)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda probe: 1, "a score must be a finite float, got 1"),
        (lambda probe: math.nan, "a score must be a finite float, got nan"),
        (lambda probe: float(torch.rand(1)), "the score on the same probe"),
        (lambda probe: float(probe.network.training), "the score in eval mode"),
    ],
)
def test_the_suite_refuses_other_scores(score: Callable[[Probe], float], said: str) -> None:
    class Odd(Careless):
        def score(self, probe: Probe) -> float:
            return score(probe)

    with pytest.raises(AssertionError, match=f"network 'cnn': {said}"):
        suite.check_proxy(lambda: Odd(print))


def test_the_suite_runs_as_one_call() -> None:
    suite.check_proxy(lambda: get_network_proxy("jacob_cov", images=12))
