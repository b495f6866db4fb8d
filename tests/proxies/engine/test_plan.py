"""Passes that proxies share: fewer, and the same values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxies import PROXIES, get_network_proxy
from proxies.base import Probe, Proxy, ProxyError, Request
from tests.proxies.networks import IMAGES, darts_network, layers, plain_cnn, probe_of, smooth_mlp

OPTIONS = {name: {"ntk_images": IMAGES, "curvature_images": 4} for name in ("robust", "robust_released")}


def proxies_of(names: Sequence[str]) -> list[Proxy]:
    """By name, or by name and mode of the batch norms."""
    parts = [name.split(", ") for name in names]
    return [
        get_network_proxy(name, **OPTIONS.get(name, {}), **({"norm": norm[0]} if norm else {})) for name, *norm in parts
    ]


def scored(network: nn.Module, names: Sequence[str], *, planned: bool) -> tuple[list[float], int]:
    """The scores on one probe, and how often the network was called."""
    calls: list[int] = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    probe, proxies = probe_of(network), proxies_of(names)
    if planned:
        probe.plan(proxies)
    values = [proxy.score(probe) for proxy in proxies]
    handle.remove()
    return values, len(calls)


@pytest.mark.parametrize(
    ("names", "calls"),
    [
        (["grad_norm", "snip", "plain", "fisher"], 1),
        (["naswot", "jacob_cov"], 1),
        # images 1 to 4, the same a step away, images 5 to 10
        (["robust", "robust_released", "jacob_cov, eval", "naswot, eval"], 3),
        (["zico"], 2),
    ],
)
@pytest.mark.parametrize("build", [plain_cnn, darts_network])
def test_passes_are_shared(build: type[nn.Module], names: list[str], calls: int) -> None:
    network = build()
    alone = [scored(network, [name], planned=True) for name in names]
    together, shared = scored(network, names, planned=True)
    assert shared == calls
    assert sum(each[1] for each in alone) > shared or len(names) == 1
    assert together == pytest.approx([each[0][0] for each in alone], rel=1e-12)


@pytest.mark.parametrize("build", [plain_cnn, darts_network])
def test_a_plan_of_all_proxies_changes_no_value(build: type[nn.Module]) -> None:
    network = build()
    planned, fewer = scored(network, PROXIES, planned=True)
    unplanned, more = scored(network, PROXIES, planned=False)
    assert planned == pytest.approx(unplanned, rel=1e-12)
    assert fewer < more


def test_without_a_value_for_one_the_others_keep_theirs() -> None:
    probe = probe_of(smooth_mlp())
    naswot, grad_norm = proxies_of(["naswot", "grad_norm"])
    probe.plan([naswot, grad_norm])
    assert grad_norm.score(probe) == grad_norm.score(probe_of(smooth_mlp()))
    with pytest.raises(ProxyError, match=r"calls no nn\.ReLU module"):
        naswot.score(probe)


def test_weights_that_are_frozen_leave_input_gradients() -> None:
    network = plain_cnn().requires_grad_(False)
    probe = probe_of(network)
    jacob_cov, robust = proxies_of(["jacob_cov", "robust"])
    probe.plan([jacob_cov, robust])
    assert jacob_cov.score(probe) == pytest.approx(jacob_cov.score(probe_of(plain_cnn())), rel=1e-12)
    with pytest.raises(ProxyError, match="no parameter of the network requires a gradient"):
        robust.score(probe)


def test_frozen_layers_have_one_saliency_whatever_else_is_asked_for() -> None:
    network = plain_cnn()
    layers(network)[0].requires_grad_(False)
    (fisher,) = proxies_of(["fisher"])
    probe = probe_of(network)
    alone = fisher.score(probe_of(network))
    probe.plan([fisher, get_network_proxy("jacob_cov", norm="train")])
    assert fisher.score(probe) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("norm", ["train", "eval"])
def test_a_step_away_nothing_is_observed(norm: str) -> None:
    """The change of the gradient takes a second pass, which adds neither codes nor saliency."""
    network = plain_cnn()
    alone, together = probe_of(network), probe_of(network)
    together.plan([Asks(Request("gradient_change", norm, IMAGES, step=1.0))])  # type: ignore[arg-type]
    assert torch.equal(together.activation_agreement(norm), alone.activation_agreement(norm))  # type: ignore[arg-type]
    together = probe_of(network)
    together.plan([Asks(Request("gradient_change", norm, IMAGES, step=1.0))])  # type: ignore[arg-type]
    expected = alone.output_saliency(norm)  # type: ignore[arg-type]
    for name, saliency in together.output_saliency(norm).items():  # type: ignore[arg-type]
        torch.testing.assert_close(saliency, expected[name])


@pytest.mark.parametrize(
    ("norm", "function", "backward_passes"),
    [("eval", "loss", 1), ("train", "loss", 1), ("eval", "logits", 2), ("train", "logits", 3)],
)
@pytest.mark.parametrize("build", [plain_cnn, darts_network])
def test_one_backward_pass_for_each_function(
    monkeypatch: pytest.MonkeyPatch, build: type[nn.Module], norm: str, function: str, backward_passes: int
) -> None:
    """It gives the gradients in the weights, of all or of the first ones, and in the images.

    With batch statistics, one more shows whether the gradient of the logits is only rounding.
    """
    network = build()
    calls: list[bool] = []
    requests = (
        Request("weight_gradients", norm, 4, tensors=3),  # type: ignore[arg-type]
        Request("input_gradients", norm, 4, function=function),  # type: ignore[arg-type]
    )
    alone = [probe_of(network)._get(each) for each in requests]
    grad = torch.autograd.grad

    def counted(outputs: Any, *rest: Any, **options: Any) -> Any:
        calls.append(isinstance(outputs, Tensor))  # the way back through folded weights begins at many
        return grad(outputs, *rest, **options)

    probe = probe_of(network)
    probe.plan([Asks(*requests)])
    monkeypatch.setattr(torch.autograd, "grad", counted)
    found = [probe._get(each) for each in requests]
    assert sum(calls) == backward_passes
    for name, gradient in alone[0].items():
        torch.testing.assert_close(found[0][name], gradient)
    torch.testing.assert_close(found[1], alone[1])


class Asks(Proxy):
    name, direction, cost = "asks", "maximize", "backward"

    def __init__(self, *requests: Request):
        self._requests = requests

    def requests(self, probe: Probe) -> tuple[Request, ...]:
        return self._requests

    def score(self, probe: Probe) -> float:
        return 0.0


def test_requests_for_more_images_than_there_are_do_not_disturb_others() -> None:
    probe = probe_of(plain_cnn())
    probe.plan([Asks(Request("weight_gradients", "eval", IMAGES + 1))])
    assert probe.weight_gradients("loss", "eval")
    with pytest.raises(ValueError, match="the probe holds 10 images, got a request for 11"):
        probe.weight_gradients("loss", "eval", IMAGES + 1)


@pytest.mark.parametrize("build", [plain_cnn, darts_network, smooth_mlp])
@pytest.mark.parametrize("tensors", [1, 2, 5, 1000])
def test_gradients_of_the_first_tensors(build: type[nn.Module], tensors: int) -> None:
    network = build()
    found = probe_of(network).weight_gradients("loss", "eval", 5, 2, tensors=tensors)
    single = [probe_of(network).weight_gradients("loss", "eval", i + 1, i) for i in (2, 3, 4)]
    assert list(found) == list(single[0])[:tensors]
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, sum(each[name] for each in single))


def test_a_sum_that_ends_before_it_begins() -> None:
    with pytest.raises(ValueError, match="start must be at least 0 and below 2, where the sum ends, got 2"):
        probe_of(plain_cnn()).weight_gradients("loss", "eval", 2, 2)


WITH_IMAGES = ["grad_norm", "snip", "plain", "grasp", "fisher", "jacob_cov", "naswot", "zico"]


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_the_option_images_takes_the_first(name: str) -> None:
    images, labels = probe_of(plain_cnn()).images, probe_of(plain_cnn()).labels
    value = get_network_proxy(name, images=6).score(probe_of(plain_cnn()))
    assert get_network_proxy(name, images=6).score(Probe(plain_cnn(), images[:6], labels[:6])) == value
    with pytest.raises(ValueError, match="the probe holds 10 images, got a request for 11"):
        get_network_proxy(name, images=11).score(probe_of(plain_cnn()))
    with pytest.raises(ValueError, match=r"images must be at least [12], got 0"):
        get_network_proxy(name, images=0)
    with pytest.raises(ValueError, match="norm must be eval or train, got 'batch'"):
        get_network_proxy(name, norm="batch")
