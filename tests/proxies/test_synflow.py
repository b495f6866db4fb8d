from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe, Proxy, ProxyError
from proxies.croze import Croze
from proxies.synflow import Synflow
from proxies.synflow_bn import SynflowBn
from tests.proxies.networks import layers, plain_cnn, probe_of


def two_layers() -> nn.Sequential:
    """f(x) = (1, -1) W x + b with W = ((-1, 2), (0, 3)); on ones, the positive copy gives |b| + 3 + 3."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 1)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0, 2.0], [0.0, 3.0]]))
        network[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
        network[2].bias.fill_(-7.0)
    return network


def pixels() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 1, 1, 2, dtype=torch.float64), torch.tensor([0, 0])


def test_by_hand() -> None:
    """The flow through the weights of each layer is 6; the bias is no weight."""
    assert Synflow().score(Probe(two_layers(), *pixels())) == pytest.approx(math.log(6 + 6), rel=1e-12)


def test_biases_of_inner_layers_flow_on() -> None:
    network = two_layers()
    network[1] = nn.Linear(2, 2).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0, 2.0], [0.0, 3.0]]))
        network[1].bias.copy_(torch.tensor([-1.0, 0.5]))
    # the second layer reads 3 + 1 and 3 + 0.5
    assert Synflow().score(Probe(network, *pixels())) == pytest.approx(math.log(6 + 7.5), rel=1e-12)


def test_neither_images_nor_labels_matter(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    value = Synflow().score(Probe(network, images, labels))
    assert Synflow().score(Probe(network, -3 * images[:1], labels[:1] + 1)) == pytest.approx(value, rel=1e-12)


def test_nothing_in_the_network_is_negative(network: nn.Module) -> None:
    least: list[float] = []
    for module in network.modules():  # copies keep the hooks
        module.register_forward_hook(lambda module, inputs, output: least.append(min(inputs[0].min(), output.min())))
    Synflow().score(probe_of(network))
    assert len(least) > 3
    assert min(least) >= 0


def test_batch_norms_are_not_called_and_stay_in_their_places(network: nn.Module) -> None:
    network.float()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    called: list[nn.Module] = []
    for norm in norms:
        norm.register_forward_hook(lambda module, inputs, output: called.append(module))
    before = list(network.named_modules())
    dtypes: list[torch.dtype] = []
    layers(network)[0].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    Synflow().score(probe_of(network))
    assert not called and dtypes == [torch.float64]
    assert list(network.named_modules()) == before
    assert layers(network)[0].weight.dtype == torch.float32


def test_everything_is_in_its_place_after_an_error() -> None:
    network = plain_cnn()
    before = list(network.named_modules())
    probe = Probe(network, torch.rand(2, 7, 8, 8, dtype=torch.float64), torch.tensor([0, 1]))
    for proxy in (Synflow(), SynflowBn(), Croze(variant="program")):
        with pytest.raises(RuntimeError, match="channels"):
            proxy.score(probe)
        assert list(network.named_modules()) == before


def test_batch_norms_do_not_matter() -> None:
    network = plain_cnn()
    value = Synflow().score(probe_of(network))
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data.mul_(-5)
            norm.running_var.fill_(9.0)  # type: ignore[union-attr]
    assert Synflow().score(probe_of(network)) == pytest.approx(value, rel=1e-12)


def deep(weight: float, depth: int, dtype: torch.dtype) -> Probe:
    """``depth`` layers of width 2: on ones the flow is (2 weight) ** depth through each, twice for the two logits."""
    linear = [nn.Linear(2, 2, bias=False) for _ in range(depth)]
    network = nn.Sequential(nn.Flatten(), *linear).to(dtype)
    for layer in linear:
        nn.init.constant_(layer.weight, -weight)
    return Probe(network, torch.rand(2, 1, 1, 2, dtype=dtype), torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_beyond_float32(dtype: torch.dtype) -> None:
    expected = math.log(20) + math.log(2) + 20 * math.log(2e9)  # about 1e187
    assert expected > math.log(torch.finfo(torch.float32).max)
    assert Synflow().score(deep(1e9, 20, dtype)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("weight", "value"), [(1e30, "inf"), (0.0, "0.0")])
def test_no_sentinel_where_there_is_no_value(weight: float, value: str) -> None:
    with pytest.raises(ProxyError, match=f"the synaptic flow is {value}, expected a positive number"):
        Synflow().score(deep(weight, 20, torch.float64))


def test_a_weight_that_two_layers_share_counts_once() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    nn.init.constant_(network[1].weight, 1.0)
    network[2].weight = network[1].weight
    # R = 2 w w 2 2 = 8, and w dR/dw = 2 R
    assert Synflow().score(Probe(network, *pixels())) == pytest.approx(math.log(16), rel=1e-12)


def test_frozen_layers_do_not_count() -> None:
    network = two_layers()
    network[1].requires_grad_(False)
    assert Synflow().score(Probe(network, *pixels())) == pytest.approx(math.log(6), rel=1e-12)
    assert not layers(network)[0].weight.requires_grad


class Indexed(nn.Module):
    """Picks its channels by a buffer of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 2, 1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        picked: Tensor = x[:, self.order]
        return picked


def with_modules_at_two_places(dtype: torch.dtype) -> nn.Sequential:
    """A convolution and a norm that stand there twice, and two layers that share a weight."""
    torch.manual_seed(0)
    conv, norm, relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
    tied = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, bias=False)
    tied[1].weight = tied[0].weight
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), conv, norm, relu, conv, norm, relu, *tied, Indexed(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 3),
    ).to(dtype)  # fmt: skip


def slow_synflow(network: nn.Module) -> float:
    """Every norm by hand, the gradients on a network of its own."""
    copied = copy.deepcopy(network).double()
    for module in copied.modules():
        for name, child in module._modules.items():
            if isinstance(child, nn.BatchNorm2d):
                module._modules[name] = nn.Identity()
    weights = {module.weight for module in copied.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.abs_()
    flow = copied(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum()
    found = torch.autograd.grad(flow, list(weights))
    return math.log(sum((w * g).abs().sum().item() for w, g in zip(weights, found, strict=True)))


STATE = Synflow, SynflowBn, partial(SynflowBn, norm="eval"), partial(Croze, variant="program"), Croze


@pytest.mark.parametrize("make", STATE, ids=str)
@pytest.mark.parametrize("beta", [2.0, 1e6])  # from a step of which the gradients overflow float32
def test_modules_at_two_places_stay_as_they_are(make: Callable[..., Proxy], beta: float) -> None:
    network = with_modules_at_two_places(torch.float32)
    proxy = make(beta=beta) if "roze" in str(make) else make()

    def state() -> list[tuple[str, int, int]]:
        held = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
        return [(name, id(each), hash(each.detach().numpy().tobytes())) for name, each in held]

    before = state()
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4) % 3
    value = proxy.score(Probe(network, images, labels))
    assert state() == before
    assert proxy.score(Probe(network, images, labels)) == value
    double = copy.deepcopy(network).double()
    assert value == pytest.approx(proxy.score(Probe(double, images.double(), labels)), rel=1e-3)


def test_a_norm_at_two_places_is_bypassed_at_both() -> None:
    network = with_modules_at_two_places(torch.float64)
    nn.init.constant_(network[2].weight, 7.0)
    found = Synflow().score(Probe(network, torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1])))
    assert found == pytest.approx(slow_synflow(network), rel=1e-12)
