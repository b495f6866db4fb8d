"""What every proxy must do. A new proxy is one row of ``TABLE``: its options and the same value computed slowly."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxies import PROXIES, get_proxy
from proxies.base import Probe, Proxy, ProxyError
from tests.proxies.conformance import COUNTS, TABLE, Case
from tests.proxies.networks import (
    NETWORKS,
    darts_network,
    layers,
    plain_cnn,
    probe_of,
    smooth_mlp,
)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return TABLE[request.param]


@pytest.fixture
def proxy(case: Case) -> Proxy:
    return get_proxy(case.name, **case.options)


#: rows of the table with the networks that they have a value for
DEFINED = [
    (row, name) for name, build in NETWORKS.items() for row, case in TABLE.items() if not case.undefined(build())
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every proxy, every network, or every pair of the two that has a value."""
    asked = {"case", "network"} & set(metafunc.fixturenames)
    if asked == {"case", "network"}:
        metafunc.parametrize(("case", "network"), DEFINED, indirect=True)
    elif asked:
        (name,) = asked
        metafunc.parametrize(name, {"case": TABLE, "network": NETWORKS}[name], indirect=True)


@pytest.fixture
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]()


@pytest.mark.parametrize("row", [row for row, case in TABLE.items() if case.undefined(smooth_mlp())])
def test_a_network_without_a_value_is_an_error(row: str, images: Tensor, labels: Tensor) -> None:
    network = mixed(smooth_mlp())
    before = trace(network, images, labels)
    with pytest.raises(ProxyError, match=r"expected at least 2|calls no"):
        get_proxy(TABLE[row].name, **TABLE[row].options).score(Probe(network, images, labels))
    assert trace(network, images, labels) == before


def test_every_name_of_the_registry_is_in_the_table() -> None:
    assert {case.name for case in TABLE.values()} == set(PROXIES)


def test_says_what_it_is(case: Case, proxy: Proxy) -> None:
    assert proxy.name == case.name
    assert proxy.direction in ("maximize", "minimize")
    assert proxy.cost in ("count", "forward", "backward")


def test_every_option_has_a_default(case: Case) -> None:
    assert get_proxy(case.name).name == case.name


def test_value_equals_the_formula(
    case: Case, proxy: Proxy, network: nn.Module, images: Tensor, labels: Tensor, probe: Probe
) -> None:
    value = proxy.score(probe)
    assert isinstance(value, float)
    assert value == pytest.approx(case.reference(network, images, labels), rel=1e-6)


def test_called_again_it_returns_the_same(proxy: Proxy, network: nn.Module, probe: Probe) -> None:
    value = proxy.score(probe)
    assert proxy.score(probe) == pytest.approx(value, rel=1e-12)
    assert proxy.score(probe_of(network)) == pytest.approx(value, rel=1e-12)


def test_order_on_one_probe_does_not_matter(network: nn.Module) -> None:
    defined = {row: case for row, case in TABLE.items() if not case.undefined(network)}
    proxies = {row: get_proxy(case.name, **case.options) for row, case in defined.items()}
    one, other = probe_of(network), probe_of(network)
    forwards = {row: proxies[row].score(one) for row in proxies}
    backwards = {row: proxies[row].score(other) for row in reversed(proxies)}
    assert forwards == pytest.approx(backwards, rel=1e-12)


def test_neither_mode_nor_grad_mode_nor_seed_of_the_caller_matters(proxy: Proxy, network: nn.Module) -> None:
    torch.manual_seed(5)
    in_training = proxy.score(probe_of(network.train()))
    torch.manual_seed(6)
    with torch.no_grad():
        assert proxy.score(probe_of(network.eval())) == pytest.approx(in_training, rel=1e-12)


def test_a_network_built_on_first_use(proxy: Proxy, images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(network)
        return network

    probe = Probe(build, images, labels)
    assert not built
    assert proxy.score(probe) == pytest.approx(proxy.score(probe_of(network)), rel=1e-12)
    proxy.score(probe)
    assert len(built) == 1


def trace(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Everything a proxy could leave changed."""
    tensors = [*network.parameters(), *network.buffers(), images, labels]
    python, numpy = random.getstate(), np.random.get_state()
    return {
        "identity": [id(tensor) for tensor in tensors],
        "modules": [(id(module), len(module._forward_hooks)) for module in network.modules()],
        "values": [tensor.detach().numpy().tobytes() for tensor in tensors],
        "training": [module.training for module in network.modules()],
        "requires grad": [tensor.requires_grad for tensor in tensors],
        "grad": [tensor.grad for tensor in tensors],
        "random state": (python, [np.asarray(each).tolist() for each in numpy], torch.get_rng_state().tolist()),
        "global flags": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()),
    }


def mixed(network: nn.Module) -> nn.Module:
    """The network half in training mode, with a frozen layer and a frozen bias."""
    for i, module in enumerate(network.modules()):
        module.training = i % 2 == 0
    layers(network)[1].weight.requires_grad_(False)
    list(network.parameters())[-1].requires_grad_(False)
    return network


def test_leaves_no_trace(proxy: Proxy, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    probe = Probe(mixed(network), images, labels)
    before = trace(network, images, labels)
    assert before["grad"] == [None] * len(before["grad"])
    assert math.isfinite(proxy.score(probe))
    after = trace(network, images, labels)
    for what, value in before.items():
        assert after[what] == value, what


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_no_finite_value_is_an_error_and_leaves_no_trace(
    case: Case, proxy: Proxy, network: nn.Module, images: Tensor, labels: Tensor, value: float
) -> None:
    network = mixed(network)
    for layer in layers(network)[-2:]:
        layer.weight.data.view(-1)[::3] = value
    before = trace(network, images, labels)
    if case.name in COUNTS or case.draws_weights:
        assert math.isfinite(proxy.score(Probe(network, images, labels)))
    else:
        with pytest.raises(ProxyError, match=r"expected a (finite|positive) number"):
            proxy.score(Probe(network, images, labels))
    assert trace(network, images, labels) == before


class Broken(nn.Module):
    """A classifier that fails once its batch norm has seen the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = plain_cnn()[:3]  # type: ignore[index]

    def forward(self, images: Tensor) -> Tensor:
        self.features(images)
        raise RuntimeError("out of order")


def test_a_network_that_raises_is_left_as_it_was(proxy: Proxy, images: Tensor, labels: Tensor) -> None:
    network = Broken()
    before = trace(network, images, labels)
    if proxy.name not in ("params", "conv_count", "l2_norm"):
        with pytest.raises(RuntimeError, match="out of order"):
            proxy.score(Probe(network, images, labels))
    assert trace(network, images, labels) == before


@pytest.mark.parametrize("build", [plain_cnn, smooth_mlp, darts_network])
def test_frozen_weights_are_no_trouble(
    proxy: Proxy, build: Callable[[], nn.Module], images: Tensor, labels: Tensor
) -> None:
    """A network without anything to learn has a value, or none, but never an error of torch."""
    network = build().requires_grad_(False)
    try:
        assert math.isfinite(proxy.score(Probe(network, images, labels)))
    except ProxyError as error:
        assert str(error)
    assert not any(parameter.requires_grad for parameter in network.parameters())
