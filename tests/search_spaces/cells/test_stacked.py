"""A stack of networks against the networks that it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.stacks import Operations
from proxies.engine.passes import Request, run_requests
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import CellGenotype
from search_spaces.cells.network import CellNetwork
from search_spaces.cells.stacked import StackedNetwork, can_stack
from search_spaces.cells.stacked_operations import Select
from search_spaces.darts.space import DartsSpace

SPACE = DartsSpace()
SPEC = NetworkSpec(channels=4, layers=6)


def sampled(count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [SPACE.parse(SPACE.canonical(SPACE.sample(rng))) for _ in range(count)]


def both(genotypes: Sequence, spec: NetworkSpec = SPEC) -> tuple[list[nn.Module], StackedNetwork]:
    """The networks, and a stack of them with the same draws."""
    networks, stack = [], StackedNetwork(genotypes, spec)
    for k, genotype in enumerate(genotypes):
        torch.manual_seed(k)
        networks.append(SPACE.build(genotype, spec).eval())
        stack.draw(k, seed=k)
    return networks, stack.eval()


@pytest.mark.parametrize("layers", [3, 6])
def test_weights_and_their_order_are_those_of_the_networks(layers: int) -> None:
    networks, stack = both(sampled(20), NetworkSpec(channels=4, layers=layers))
    for network, own in zip(networks, stack.split(dict(stack.named_parameters())), strict=True):
        expected = dict(network.named_parameters())
        assert list(own) == list(expected)
        assert all(torch.equal(own[name], expected[name]) for name in expected)


@pytest.mark.parametrize("mode", ["eval", "folded", "train"])
def test_logits_and_gradients_are_those_of_the_networks(mode: str) -> None:
    networks, stack = both(sampled(5, seed=1))
    stack.double().train(mode == "train")
    images = torch.rand(3, 3, 18, 14, dtype=torch.float64)
    rows = images.repeat_interleave(5, 0).requires_grad_()
    if mode == "folded":
        with stack.folded() as shared:
            logits = stack(rows)
            *by_leaf, by_image = torch.autograd.grad(logits.square().sum(), [*shared.leaves, rows])
            gradients = shared.gradients(by_leaf)
    else:
        logits = stack(rows)
        names, weights = zip(*stack.named_parameters(), strict=True)
        *found, by_image = torch.autograd.grad(logits.square().sum(), [*weights, rows])
        gradients = dict(zip(names, found, strict=True))
    for k, (network, own) in enumerate(zip(networks, stack.split(gradients), strict=True)):
        network.double().train(mode == "train")
        x = images.clone().requires_grad_()
        expected = network(x)
        expected.square().sum().backward()
        torch.testing.assert_close(logits[k::5], expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(by_image[k::5], x.grad, rtol=1e-9, atol=1e-12)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(own[name], parameter.grad, rtol=1e-9, atol=1e-11, msg=name)


def test_the_first_parameters_of_each_network_are_reached() -> None:
    _, stack = both(sampled(3))
    names = [name for name, _ in stack.named_parameters()]
    for count in (1, 10, 40):
        first = dict(list(stack.named_parameters())[: stack.reach([count, 3, 1])])
        parts = stack.split(first)
        assert all(name in parts[k] for k, n in enumerate([count, 3, 1]) for name in list(stack.parts[k])[:n])
    assert stack.reach([1, 1, 1]) == 1 and stack.reach([10_000, 1, 1]) == len(names)


def test_what_cannot_be_stacked_is_told() -> None:
    assert can_stack(sampled(4), SPEC) and SPACE.stack(sampled(2), SPEC) is not None
    assert not can_stack(sampled(4), NetworkSpec(channels=4, layers=6, auxiliary=True))
    published = SPACE.published()
    assert can_stack([published["ROBUST_ZCP"], published["DARTS_V2"]], SPEC)
    assert not can_stack([published["NASNet"]], SPEC)  # kernels of 7x1 and 1x7
    assert not can_stack([published["CROZE"]], SPEC)  # 14 edges
    assert SPACE.stack([published["CROZE"]], SPEC) is None
    assert get_space("darts_imagenet").stack(sampled(2), SPEC) is None  # two stems

    class Own(DartsSpace):
        def build(self, genotype: CellGenotype, spec: NetworkSpec) -> CellNetwork:
            return super().build(genotype, spec)

    assert Own().stack(sampled(2), SPEC) is None
    other = get_space("nasbench201")
    assert other.stack([other.parse("334413")], SPEC) is None


@pytest.mark.parametrize("wanted", [[[0], [1], [2]], [[2], [2], [0], [2]], [[0, 1], [1, 3], [3, 3]], [[1]]])
def test_blocks_are_selected_and_their_gradients_summed(wanted: list[list[int]]) -> None:
    blocks = 4 if max(map(max, wanted)) == 3 else 3
    x = torch.rand(2, blocks * 5, 3, 4, dtype=torch.float64, requires_grad=True)
    select = Select(wanted, blocks)
    parts = x.view(2, blocks, 5, 3, 4)
    expected = torch.stack([sum(parts[:, b] for b in sources) for sources in wanted], 1).flatten(1, 2)  # type: ignore[arg-type]
    torch.testing.assert_close(select(x), expected)
    weights = torch.rand_like(expected)
    (found,), (right,) = (torch.autograd.grad((y * weights).sum(), x) for y in (select(x), expected))
    torch.testing.assert_close(found, right)


def operations_of_robust(network: nn.Module, width: int) -> int:
    """The number of operations that an accelerator runs for the requests of ``robust``."""
    network.to("meta")
    for module in network.modules():
        if isinstance(module, Select):
            module.place([torch.tensor(each, device="meta") for each in module.numbers])
    images = torch.empty(16 * width, 3, 32, 32, device="meta")
    requests = [
        Request("weight_gradients", "eval", 16, function="logits"),
        Request("gradient_change", "eval", 8, step=50.0),
    ]
    with Operations() as operations:
        run_requests(network, images, torch.zeros(16 * width, dtype=torch.int64, device="meta"), requests, width)
    return operations.count


def test_a_stack_of_16_needs_less_than_a_fifth_of_the_operations() -> None:
    networks, stack = both(sampled(16), NetworkSpec(channels=4, layers=3))
    alone = sum(operations_of_robust(network, 1) for network in networks)
    assert alone > 5 * operations_of_robust(stack, 16)
