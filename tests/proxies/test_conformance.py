"""What every proxy must do. A new proxy is one row of ``TABLE``: its options and the same value computed slowly."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxies import PROXIES, get_proxy
from proxies.base import Probe, Proxy, ProxyError
from tests.proxies import slow_formulas as slow
from tests.proxies import slow_passes as passes
from tests.proxies.networks import (
    IMAGES,
    NETWORKS,
    batch_kernel,
    darts_network,
    layers,
    literal,
    plain_cnn,
    probe_of,
    single_image_gradients,
    smooth_mlp,
    step_change,
    triple_sum,
)

Reference = Callable[[nn.Module, Tensor, Tensor], float]

NTK_IMAGES, CURVATURE_IMAGES, T, H = IMAGES, 4, 30.0, 5.0
AZ = {"images": 5, "seed": 2}
STEP = {"images": 3, "beta": 0.3, "epsilon": 0.1}
WHOLE = {"images": IMAGES}
COUNTS = ("params", "macs", "conv_count", "az_complexity")  # whatever the values of the weights
ROBUST = {"ntk_images": NTK_IMAGES, "curvature_images": CURVATURE_IMAGES, "t": T, "h": H}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A proxy with its options and its formula.

    ``undefined`` tells the networks that have no value. ``draws_weights``: those of the network do not matter.
    """

    name: str
    options: dict[str, Any]
    reference: Reference
    undefined: Callable[[nn.Module], bool] = field(default=lambda network: False)
    draws_weights: bool = False


def robust(function: str, norm: str) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        if norm == "eval":
            kernel = triple_sum(single_image_gradients(network, images, labels, function))
        else:
            kernel = batch_kernel(network, images, labels, function)
        x, y = images[:CURVATURE_IMAGES], labels[:CURVATURE_IMAGES]
        change = step_change(literal(network, norm), x, y, H) / H
        curvature = sum(each.norm().item() ** 2 for each in change) / CURVATURE_IMAGES
        return -math.log(math.exp(T * kernel) * curvature)

    return value


def robust_released(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    gradients = single_image_gradients(network, images, labels, "loss")  # N M
    first = [parameter.numel() for parameter in network.parameters()][:2]
    entering = torch.cat([torch.arange(first[0])[:50], first[0] + torch.arange(first[1])[:50]])
    kernel = triple_sum(gradients[:, entering].cumsum(0))
    change = step_change(literal(network), images[:CURVATURE_IMAGES], labels[:CURVATURE_IMAGES], H)
    return -math.log(math.exp(T * kernel) * sum(each.norm().item() for each in change) / CURVATURE_IMAGES)


def params(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def macs(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    copied, counts = literal(network), []
    for layer in layers(copied):  # each output is a sum of as many products as a filter has weights
        layer.register_forward_hook(
            lambda layer, inputs, output: counts.append(output[0].numel() * layer.weight[0].numel())
        )
    copied(images)
    return sum(counts)


def conv_count(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return len(layers(network))


TABLE: dict[str, Case] = {
    "robust": Case(name="robust", options=ROBUST, reference=robust("logits", "eval")),
    "robust, loss": Case(name="robust", options={**ROBUST, "function": "loss"}, reference=robust("loss", "eval")),
    "robust, train": Case(name="robust", options={**ROBUST, "norm": "train"}, reference=robust("logits", "train")),
    "robust_released": Case(name="robust_released", options={**ROBUST, "tensors": 2}, reference=robust_released),
    "grad_norm": Case(name="grad_norm", options=WHOLE, reference=passes.grad_norm("train")),
    "grad_norm, eval": Case(name="grad_norm", options={**WHOLE, "norm": "eval"}, reference=passes.grad_norm("eval")),
    "snip": Case(name="snip", options=WHOLE, reference=passes.snip("train")),
    "snip, eval": Case(name="snip", options={**WHOLE, "norm": "eval"}, reference=passes.snip("eval")),
    "plain": Case(name="plain", options=WHOLE, reference=passes.plain("train")),
    "plain, eval": Case(name="plain", options={**WHOLE, "norm": "eval"}, reference=passes.plain("eval")),
    "l2_norm": Case(name="l2_norm", options={}, reference=passes.l2_norm),
    "grasp": Case(name="grasp", options={"images": 4}, reference=passes.grasp("train", 4)),
    "grasp, eval": Case(name="grasp", options={"norm": "eval", "images": 6}, reference=passes.grasp("eval", 6)),
    "fisher": Case(name="fisher", options=WHOLE, reference=passes.fisher("train", False)),
    "fisher, eval": Case(name="fisher", options={**WHOLE, "norm": "eval"}, reference=passes.fisher("eval", False)),
    "fisher, fan-in": Case(name="fisher", options={**WHOLE, "fan_in": True}, reference=passes.fisher("train", True)),
    "jacob_cov": Case(name="jacob_cov", options={}, reference=passes.jacob_cov("train")),
    "jacob_cov, eval": Case(name="jacob_cov", options={"norm": "eval"}, reference=passes.jacob_cov("eval")),
    "synflow": Case(name="synflow", options={}, reference=passes.synflow(None)),
    "synflow_bn": Case(name="synflow_bn", options={}, reference=passes.synflow("train")),
    "synflow_bn, eval": Case(name="synflow_bn", options={"norm": "eval"}, reference=passes.synflow("eval")),
    "naswot": Case(name="naswot", options={}, reference=passes.naswot("train"), undefined=slow.has_no_relu),
    "naswot, eval": Case(
        name="naswot", options={"norm": "eval"}, reference=passes.naswot("eval"), undefined=slow.has_no_relu
    ),
    "zico": Case(name="zico", options={}, reference=passes.zico("train", False)),
    "zico, eval": Case(name="zico", options={"norm": "eval"}, reference=passes.zico("eval", False)),
    "zico, absolute": Case(name="zico", options={"absolute": True}, reference=passes.zico("train", True)),
    "zen": Case(
        name="zen", options={"images": 3, "repeats": 2, "seed": 1}, reference=slow.zen(3, 2, 1), draws_weights=True
    ),
    "az_expressivity": Case(
        name="az_expressivity", options=AZ, reference=slow.az_expressivity(5, 2), draws_weights=True
    ),
    "az_progressivity": Case(
        name="az_progressivity",
        options=AZ,
        reference=slow.az_progressivity(5, 2),
        draws_weights=True,
        undefined=slow.has_one_block,
    ),
    "az_trainability": Case(
        name="az_trainability",
        options=AZ,
        reference=slow.az_trainability(5, 2),
        draws_weights=True,
        undefined=slow.has_one_block,
    ),
    "az_complexity": Case(name="az_complexity", options={}, reference=macs),
    "croze": Case(name="croze", options=STEP, reference=slow.croze(3, 0.3, 0.1, False)),
    "croze, program": Case(
        name="croze", options={**STEP, "variant": "program"}, reference=slow.croze(3, 0.3, 0.1, True)
    ),
    "snap": Case(
        name="snap",
        options={"images": 7, "repeats": 2, "seed": 3},
        reference=slow.snap(7, 2, 3),
        draws_weights=True,
        undefined=slow.has_no_relu,
    ),
    "con_js": Case(name="con_js", options=STEP, reference=slow.con_js(3, 0.3, 0.1)),
    "con_js, program": Case(
        name="con_js", options={**STEP, "variant": "program"}, reference=slow.con_js_program(3, 0.3, 0.1)
    ),
    "diverse_capacity": Case(
        name="diverse_capacity", options={}, reference=passes.diverse_capacity, undefined=slow.has_no_relu
    ),
    "params": Case(name="params", options={}, reference=params),
    "macs": Case(name="macs", options={}, reference=macs),
    "conv_count": Case(name="conv_count", options={}, reference=conv_count),
}


@pytest.fixture(params=TABLE)
def case(request: pytest.FixtureRequest) -> Case:
    return TABLE[request.param]


@pytest.fixture
def proxy(case: Case) -> Proxy:
    return get_proxy(case.name, **case.options)


@pytest.fixture(autouse=True)
def only_networks_with_a_value(request: pytest.FixtureRequest) -> None:
    named = {"case", "network"} <= set(request.fixturenames)
    if named and request.getfixturevalue("case").undefined(request.getfixturevalue("network")):
        pytest.skip("no value, as another test checks")


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
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_no_finite_value_is_an_error_and_leaves_no_trace(
    case: Case, proxy: Proxy, build: Callable[[], nn.Module], images: Tensor, labels: Tensor, value: float
) -> None:
    network = mixed(build())
    for layer in layers(network)[-2:]:
        layer.weight.data.view(-1)[::3] = value
    before = trace(network, images, labels)
    if case.undefined(network):
        pytest.skip("no value, as another test checks")
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
