"""The networks of NAS-Bench-201's cells against literal ones."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.testing.literal import LiteralEdgeNetwork, literal_edge_network
from search_spaces.base import NetworkSpec
from search_spaces.nasbench201.equivalence import representative
from search_spaces.nasbench201.network import EdgeNetwork
from tests.search_spaces.cells.test_operations import (
    assert_same,
    gradients,
    randomised,
    relu_sums,
    values_and_gradients,
)
from tests.search_spaces.nasbench201.test_space import CELLS, LITERAL, PUBLISHED, SMALL, SPACE, cell


def both_networks(digits: str, training: bool) -> tuple[EdgeNetwork, LiteralEdgeNetwork]:
    generator = torch.Generator().manual_seed(4)
    network = randomised(SPACE.build(cell(digits), SMALL), generator).train(training)
    return network, literal_edge_network(network, cell(digits), SMALL)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("digits", LITERAL)
def test_network_equals_the_literal_one(digits: str, training: bool) -> None:
    """Values, all gradients, and the running statistics that training mode leaves behind."""
    network, literal = both_networks(digits, training)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4, 3, 12, 8, dtype=torch.float64, generator=generator)
    weights = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    assert_same(values_and_gradients(network, x, weights), values_and_gradients(literal, x, weights))
    assert_same(list(network.buffers()), list(literal.buffers()))


@pytest.mark.parametrize("digits", LITERAL)
def test_shared_relus_know_how_many_operations_read_them(digits: str) -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    network, literal = both_networks(digits, training=False)
    torch.testing.assert_close(relu_sums(network, x), relu_sums(literal, x))


@pytest.mark.parametrize("digits", ["321403", "012234"])
def test_second_derivatives_equal_the_literal_ones(digits: str) -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    results = []
    for each in both_networks(digits, training=False):
        images = x.clone().requires_grad_()
        (gradient,) = gradients(each(images).square().sum(), [images], create_graph=True)
        results.append(gradients(gradient.square().sum(), [images, *each.parameters()]))
    assert_same(results[0], results[1])


def test_one_network_is_one_function() -> None:
    """Equal weights throughout leave nothing but the shape of the cells to tell two networks apart."""
    x = torch.linspace(-1, 1, 3 * 8 * 8, dtype=torch.float64).view(1, 3, 8, 8).sin()
    others = [each for each in CELLS if representative(each) != each]
    for genotype in random.Random(1).sample(others, 20):
        logits = []
        for each in (genotype, representative(genotype)):
            network = SPACE.build(each, SMALL).double().eval()
            for parameter in network.parameters():
                nn.init.constant_(parameter, 0.3)
            logits.append(network(x))
        torch.testing.assert_close(*logits, rtol=1e-9, atol=0)


def test_a_relu_is_computed_once_for_all_that_read_a_node() -> None:
    calls = []
    network = SPACE.build(cell("333333"), SMALL).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_: calls.append(1))
    network(torch.randn(1, 3, 8, 8))
    assert len(calls) == 3 * 3 + 2 * 2 + 1


@pytest.mark.parametrize("size", [(9, 7), (5, 6), (1, 1)], ids=str)
def test_images_of_odd_size(size: tuple[int, int]) -> None:
    spec = NetworkSpec(channels=3, layers=6, classes=4, image_size=size, image_channels=1)
    network = SPACE.build(cell("324143"), spec).eval()
    with FlopCounterMode(display=False) as counter:
        assert network.to("meta")(torch.empty(2, 1, *size, device="meta")).shape == (2, 4)
    assert SPACE.cost(cell("324143"), spec).macs * 2 * 2 == counter.get_total_flops()


@pytest.mark.parametrize("layers", [1, 2, 4, 8])
def test_layers_are_a_multiple_of_three(layers: int) -> None:
    spec = NetworkSpec(layers=layers)
    for use in (SPACE.cost, SPACE.build):
        with pytest.raises(ValueError, match=f"layers must be a multiple of 3 .*the benchmark: 15.*, got {layers}"):
            use(cell("111111"), spec)


def test_there_is_no_auxiliary_head() -> None:
    with pytest.raises(ValueError, match="no auxiliary head, got auxiliary=True"):
        SPACE.build(cell("111111"), NetworkSpec(layers=3, auxiliary=True))


# Costs


@pytest.mark.parametrize(
    ("digits", "classes", "params", "flops"),
    [
        ("333333", 10, 1_531_546, 220_119_690),
        ("111111", 10, 73_306, 7_783_050),
        ("000000", 10, 73_306, 7_783_050),
        ("333333", 100, 1_537_396, 220_125_540),
        ("111111", 100, 79_156, 7_788_900),
    ],
)
def test_costs_are_the_published_ones(digits: str, classes: int, params: int, flops: int) -> None:
    """NAS-Bench-201's greatest and least cells; its FLOPs are MACs and count the linear layer's bias."""
    cost = SPACE.cost(cell(digits), NetworkSpec(channels=16, layers=15, classes=classes))
    assert cost.params == params
    assert cost.macs + classes == flops


def test_cost_is_what_torch_counts_on_the_literal_network() -> None:
    spec = NetworkSpec(channels=4, layers=6, classes=7, image_size=(16, 8), image_channels=1)
    for digits in LITERAL:
        network = LiteralEdgeNetwork(cell(digits), spec).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(2, 1, 16, 8))
        cost = SPACE.cost(cell(digits), spec)
        assert cost.macs * 2 * 2 == counter.get_total_flops()
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())


def test_cost_is_cheap() -> None:
    started = time.perf_counter()
    for _ in range(100):
        SPACE.cost(cell("321403"), PUBLISHED)
    assert (time.perf_counter() - started) / 100 < 0.02


def test_genotypes_keys_and_costs_need_no_torch() -> None:
    program = (
        "import sys, search_spaces; space = search_spaces.get_space('nasbench201'); cell = space.parse('321403');"
        " from search_spaces.base import NetworkSpec; space.canonical(cell); space.cost(cell, NetworkSpec(layers=15));"
        " sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
