"""The suite of proxies refuses what breaks the contract."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.testing import check_proxy
from nas.testing import proxies as suite
from nas.testing.networks import plain_cnn
from proxies import get_network_proxy
from proxies.base import Probe, Proxy, ProxyError


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
        (lambda net: setattr(net[2], "forward", print), "the forward of the modules, of '2'"),
        (lambda net: setattr(net[1], "training", not net[1].training), "the mode of the modules, of '1'"),
        (lambda net: setattr(net, "kept", 1), "the attributes of the modules, of ''"),
        (lambda net: net[0].weight.requires_grad_(not net[0].weight.requires_grad), "requires_grad, of '0.weight'"),
        (lambda net: setattr(net[0].weight, "grad", net[0].weight.detach() + 1), "grad, of '0.weight'"),
        (lambda net: net[0].weight.data.add_(1), "the values of the tensors, of '0.weight'"),
        (lambda net: net[1].running_mean.add_(1), "the values of the tensors, of '1.running_mean'"),
        (lambda net: setattr(net[3], "padding", 1), "the output"),
        (lambda net: setattr(net[2], "__class__", nn.ReLU6), "the classes of the modules, of '2'"),
        (lambda net: net.float(), "the tensors, of '1.running_mean'"),
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
        check_proxy(lambda: Odd(print))


def test_a_hidden_error_and_a_wrong_number_of_images_are_found() -> None:
    class Hiding(Proxy):
        name, direction, cost = "hiding", "maximize", "forward"

        def images_needed(self) -> int:
            return 4

        def score(self, probe: Probe) -> float:
            with torch.no_grad():
                try:
                    probe.network(probe.images)
                except RuntimeError as error:
                    raise ProxyError("no score") from error
            return 1.0

    with pytest.raises(AssertionError, match="the network's own error is hidden by: no score"):
        suite.check_an_error_leaves_no_trace(Hiding, plain_cnn)  # a ProxyError in place of the network's error
    with pytest.raises(AssertionError, match=r"images_needed\(\) is 4, but 3 images gave the score 1\.0"):
        suite.check_images_needed(Hiding, lambda: plain_cnn().eval())


@pytest.mark.parametrize(
    ("written", "score"),
    [
        ("cells, as published", lambda net: float(sum(isinstance(module, nn.ReLU) for module in net.modules()))),
        ("one ReLU module", lambda net: float(sum(isinstance(module, nn.ReLU) for module in net.modules()))),
        ("in place", lambda net: float(sum(getattr(module, "inplace", False) for module in net.modules()))),
    ],
)
def test_the_suite_refuses_a_score_of_how_a_function_is_written(written: str, score: Callable[[Any], float]) -> None:
    class OfModules(Careless):
        def score(self, probe: Probe) -> float:
            return score(probe.network)

    class OnlyOneWay(Careless):
        def score(self, probe: Probe) -> float:
            if score(probe.network) == score(suite.WRITTEN_TWICE[written][0]()):
                return 1.0
            raise ProxyError("no score")

    for proxy in (OfModules, OnlyOneWay):
        with pytest.raises(AssertionError, match="the same function, written in another way"):
            suite.check_writing_does_not_matter(lambda proxy=proxy: proxy(print), *suite.WRITTEN_TWICE[written])


def test_importing_the_suites_imports_nothing_heavy() -> None:
    program = "import sys, nas.testing; sys.exit('torch' in sys.modules or 'pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_suite_runs_as_one_call() -> None:
    check_proxy(lambda: get_network_proxy("jacob_cov", images=12))
