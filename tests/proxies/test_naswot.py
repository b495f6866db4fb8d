from __future__ import annotations

import gc
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import proxies
from nas.testing.literal import literal_edge_network
from nas.testing.networks import SMALL
from proxies.base import Probe, ProxyError, Request
from proxies.engine.hooks import _Codes
from proxies.fisher import Fisher
from proxies.grad_norm import GradNorm
from proxies.naswot import Naswot
from search_spaces.cells.operations import SharedReLU
from search_spaces.nasbench201.network import EdgeNetwork
from search_spaces.nasbench201.space import NasBench201Space
from tests.proxies import slow_passes as passes
from tests.proxies.networks import darts_network, linear_batch, plain_cnn, randomised


def identity(units: int) -> nn.Sequential:
    """Its codes are which of the pixels are positive."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(units, units, bias=False), nn.ReLU(), nn.Linear(units, 2)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(units))
    return network


def test_by_hand() -> None:
    """Codes (1, 0) and (1, 1): K = ((2, 1), (1, 2))."""
    assert Naswot().score(Probe(identity(2), *linear_batch())) == pytest.approx(math.log(3), rel=1e-12)


@pytest.mark.parametrize("name", ["naswot", "snap", "diverse_capacity"])
def test_a_smooth_activation_has_no_states(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(2))
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network(images)
    with pytest.raises(ProxyError, match=r"no nn.ReLU module, .* smooth activations such as SiLU have no"):
        proxies.score(network, images, torch.arange(6) % 2, names=[name])


def test_a_shared_relu_by_hand() -> None:
    """The codes of two images, (1, 0) and (1, 1), three times: K = 3 ((2, 1), (1, 2)); once by the option."""
    network = identity(2)
    network[2] = SharedReLU(readers=3)
    scores = [Naswot(shared_once=once).score(Probe(network, *linear_batch())) for once in (False, True)]
    assert scores == pytest.approx([math.log(27), math.log(3)], rel=1e-12)


@pytest.mark.parametrize("digits", ["330333", "341023", "000200"])
def test_of_nasbench201_it_is_that_of_the_published_network(digits: str, images: Tensor, labels: Tensor) -> None:
    genotype = NasBench201Space().parse(digits)
    network = randomised(EdgeNetwork(genotype, SMALL))
    expected = passes.naswot("train")(literal_edge_network(network, genotype, SMALL), images, labels)
    assert Naswot().score(Probe(network, images, labels)) == pytest.approx(expected, rel=1e-9)


def test_both_ways_of_counting_share_a_pass(images: Tensor, labels: Tensor) -> None:
    network = darts_network()
    each, once = Naswot(), Naswot(shared_once=True)
    alone = [proxy.score(Probe(network, images, labels)) for proxy in (each, once)]
    probe, calls = Probe(network, images, labels), []
    network.register_forward_hook(lambda *_: calls.append(1))
    probe.plan([each, once])
    assert [each.score(probe), once.score(probe)] == alone
    assert len(calls) == 1 and alone[0] > alone[1]


def test_images_of_equal_codes(images: Tensor, labels: Tensor) -> None:
    images = images.clone()
    images[4] = images[7] = images[1]
    with pytest.raises(ProxyError, match="3 of 10 images share all ReLU codes with another: the kernel is singular"):
        Naswot().score(Probe(plain_cnn(), images, labels))


def test_codes_that_depend_on_one_another() -> None:
    """All four codes of two units."""
    images = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64).view(4, 1, 1, 2)
    probe = Probe(identity(2), images, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ProxyError, match="the ReLU codes of 4 images depend on one another linearly"):
        Naswot().score(probe)


def test_functions_cannot_be_observed(images: Tensor, labels: Tensor) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(192, 5).double(), nn.Linear(5, 3).double()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.last(F.relu(self.first(images.flatten(1))))
            return logits

    with pytest.raises(ProxyError, match=r"calls no nn\.ReLU module, .* functional relus cannot be observed"):
        Naswot().score(Probe(Functional(), images, labels))


def test_labels_do_not_matter(images: Tensor, labels: Tensor) -> None:
    values = [Naswot().score(Probe(plain_cnn(), images, each)) for each in (labels, labels.flip(0))]
    assert values[0] == values[1]


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        Naswot(images=0)
    with pytest.raises(ValueError, match="norm must be eval or train, got 'batch'"):
        Naswot(norm="batch")  # type: ignore[arg-type]


def relu_inputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0].detach().flatten(1)))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    network(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("bounds", [[(0, 10)], [(0, 3), (0, 7), (0, 10)], [(2, 5), (4, 9)], [(0, 2), (5, 7), (8, 9)]])
def test_agreement_of_images_in_several_passes(bounds: list[tuple[int, int]], images: Tensor, labels: Tensor) -> None:
    network = plain_cnn().eval()
    probe = Probe(network, images, labels)
    requests = [Request("activation_agreement", "eval", stop, start) for start, stop in bounds]
    probe._planned.update(dict.fromkeys(requests))
    inputs = relu_inputs(network, images)
    for request, (start, stop) in zip(requests, bounds, strict=True):
        expected = torch.zeros(stop - start, stop - start, dtype=torch.float64)
        for each in inputs:
            on = each[start:stop] > 0
            expected += (on.unsqueeze(1) == on.unsqueeze(0)).sum(2)
        assert torch.equal(probe._get(request), expected)


def test_nothing_is_left_for_the_collector(images: Tensor, labels: Tensor) -> None:
    """A search keeps it off: what refers to itself would stay."""
    probe = Probe(plain_cnn(), images.repeat(6, 1, 1, 1), labels.repeat(6))  # three passes
    gc.collect()
    gc.disable()
    try:
        probe.activation_agreement("eval")
        assert not [each for each in gc.get_objects() if type(each) is _Codes]
    finally:
        gc.enable()


class Negative(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("how", ["subclass", "hook", "nan"])
def test_what_counts_is_whether_the_output_is_positive(how: str) -> None:
    network = identity(2)
    if how == "subclass":
        network[2] = Negative()
    elif how == "hook":
        network[2].register_forward_hook(lambda _module, _inputs, output: output - 0.5)
    images = torch.tensor([[1.0, -1.0], [1.0, 0.25]], dtype=torch.float64).view(2, 1, 1, 2)
    if how == "nan":
        images[0, 0, 0, 1] = math.nan
        network[3] = nn.Linear(2, 2, bias=False).double()
        network.append(Zeros())
    both = {"subclass": 1.0, "hook": 2.0, "nan": 0.0}[how]  # the product makes both units nan
    expected = [[2.0, both], [both, 2.0]]
    found = Probe(network, images, torch.zeros(2, dtype=torch.int64)).activation_agreement("eval")
    assert found.tolist() == expected


class Zeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nan_to_num(x)


class Fickle(nn.Module):
    """Calls its ReLU as often as it is told."""

    def __init__(self, calls: Any):
        super().__init__()
        self.relu, self.last, self.calls = nn.ReLU(), nn.Linear(2, 2).double(), calls

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for _ in range(self.calls(len(images))):
            x = self.relu(x)
        logits: Tensor = self.last(x)
        return logits


@pytest.mark.parametrize("calls", [lambda images: images - 1, lambda images: 5 - images])
def test_relus_that_are_not_called_alike(calls: Any) -> None:
    """Two images, then three."""
    probe = Probe(Fickle(calls), torch.rand(5, 1, 1, 2, dtype=torch.float64), torch.zeros(5, dtype=torch.int64))
    few, many = (Request("activation_agreement", "eval", stop) for stop in (2, 5))
    probe._planned.update({few: None, many: None})
    assert probe._get(few).shape == (2, 2)
    with pytest.raises(ProxyError, match=r"the network calls its ReLUs \d or \d times, by the images"):
        probe._get(many)


def test_a_relu_of_something_else_than_the_images() -> None:
    class OfWeights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.weight = nn.ReLU(), nn.Parameter(torch.ones(1, 2, dtype=torch.float64))

        def forward(self, images: Tensor) -> Tensor:
            product: Tensor = images.flatten(1) * self.relu(self.weight)
            return product

    probe, grad_norm = Probe(OfWeights(), *linear_batch()), GradNorm()
    probe.plan([Naswot(), grad_norm, Fisher()])
    with pytest.raises(ProxyError, match="a ReLU is given 1 rows, expected one for each of 2 images"):
        Naswot().score(probe)
    with pytest.raises(ProxyError, match="no weight of a convolution"):  # an error of its own
        grad_norm.score(probe)
