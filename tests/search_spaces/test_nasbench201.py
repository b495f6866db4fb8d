from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.base import NetworkSpec
from search_spaces.cells import GenotypeError
from search_spaces.edge_cells import EDGES, OPERATIONS, EdgeGenotype
from search_spaces.edge_functions import CONVOLUTIONS, network_form, published_key, representative
from search_spaces.nasbench201 import NasBench201Space
from search_spaces.nasbench201_network import EdgeNetwork
from tests.search_spaces.test_operations import assert_same, gradients, randomised, values_and_gradients

SPACE = NasBench201Space()
PUBLISHED = NetworkSpec(channels=16, layers=15)
SMALL = NetworkSpec(channels=2, layers=3, classes=3)
CELLS = [EdgeGenotype(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]

#: A usual cell; one whose node 1 is zero and read by every operation; convolutions that reach nothing; zero itself.
LITERAL = ["321403", "341023", "012234", "030214", "022113", "000200", "300000", "300020", "444444", "111111", "333333"]


def cell(digits: str) -> EdgeGenotype:
    return SPACE.parse(digits)


# Notations


def test_the_text_of_the_benchmark() -> None:
    """The first architecture of NAS-Bench-201 and of NAS-RobBench-201's list."""
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert SPACE.parse(text) == cell("421211")
    assert SPACE.format(cell("421211")) == text
    assert cell("421211").digits == "421211"


def test_all_notations_come_back() -> None:
    for genotype in CELLS[::97]:
        assert SPACE.parse(genotype.digits) == SPACE.parse(str(genotype)) == genotype
        assert SPACE.parse(json.dumps(genotype.to_json())) == genotype
        assert EdgeGenotype.from_networkx(genotype.to_networkx()) == genotype


def test_json_and_graph_by_hand() -> None:
    genotype = cell("103040")
    assert genotype.to_json() == {
        "cell": [
            [["skip_connect", 0]],
            [["none", 0], ["nor_conv_3x3", 1]],
            [["none", 0], ["avg_pool_3x3", 1], ["none", 2]],
        ]
    }
    graph = genotype.to_networkx()
    assert list(graph) == [0, 1, 2, 3]
    edges = {(0, 1): "skip_connect", (1, 2): "nor_conv_3x3", (1, 3): "avg_pool_3x3"}
    assert {edge: graph.edges[edge]["operation"] for edge in graph.edges} == edges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12345", "got '12345', expected .* six digits"),
        ("123455", "got '123455'"),
        ("|none~0|", r"1 operations, expected 6"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_5x5~2|", "edge 2-3: unknown operation 'nor_conv_5x5'; did"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "edge 1-2, expected 0-2 in its place"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "edge 0-3, expected 1-2 in its place"),
        ("|none~0|+|none~0|none|+|none~0|none~1|none~2|", r"node 2 is '\|none~0\|none\|', expected"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|", "7 operations, expected 6"),
        ('{"cell": 3}', r'got .*"cell": 3.*, expected .*"cell"'),
        ('{"cell": [[["none", 0]]]}', "1 operations, expected 6"),
        ('{"cell": [[["none", "0"]]]}', "node 1: edge .*'0'.*, expected .operation, source"),
        ('{"normal": []}', "got .*normal"),
        ("{", "not readable JSON"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        SPACE.parse(text)


def test_count() -> None:
    assert SPACE.count(cell("321133"), "cell.nor_conv_3x3") == SPACE.count(cell("321133"), "nor_conv_3x3") == 3
    for path, message in (("normal.none", "unknown cell 'normal'"), ("cell.skip", "unknown operation 'skip'")):
        with pytest.raises(ValueError, match=message):
            SPACE.count(cell("000000"), path)


# Search


def test_samples_are_uniform() -> None:
    generator = np.random.default_rng(0)
    samples = [SPACE.sample(generator) for _ in range(2000)]
    for edge in range(6):
        counts = Counter(sample.operations[edge] for sample in samples)
        assert set(counts) == set(OPERATIONS)
        assert all(abs(count - 400) < 90 for count in counts.values())  # 5 standard deviations


def test_a_cell_has_24_neighbours_and_is_one_of_each() -> None:
    genotype = cell("304121")
    neighbours = list(SPACE.neighbours(genotype))
    assert len(set(neighbours)) == 24
    for neighbour in neighbours:
        assert sum(a != b for a, b in zip(genotype.operations, neighbour.operations, strict=True)) == 1
        assert genotype in SPACE.neighbours(neighbour)
    generator = np.random.default_rng(1)
    assert {SPACE.mutate(genotype, generator) for _ in range(500)} == set(neighbours)


def test_crossover_takes_each_edge_from_either_parent() -> None:
    generator = np.random.default_rng(2)
    a, b = cell("000000"), cell("341211")
    children = {SPACE.crossover(a, b, generator).digits for _ in range(1000)}
    assert children == {"".join(digits) for digits in product(*(("0", digit) for digit in "341211"))}


# Which cells are one network


def test_representatives_are_the_least_digits_of_their_networks() -> None:
    networks: dict[Any, list[EdgeGenotype]] = defaultdict(list)
    for genotype in CELLS:
        networks[network_form(genotype.operations)].append(genotype)
    assert len(networks) == 5924
    for genotypes in networks.values():
        assert {representative(genotype).digits for genotype in genotypes} == {min(g.digits for g in genotypes)}


def test_one_network_has_one_cost() -> None:
    for genotype in CELLS:
        assert SPACE.cost(genotype, PUBLISHED) == SPACE.cost(representative(genotype), PUBLISHED)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("201011", "220011", False),  # one convolution through two paths; two convolutions
        ("030001", "300010", True),  # through node 2; through node 1
        ("230001", "320010", True),  # a convolution that reaches nothing is the same parameters, wherever it is
        ("230001", "330001", False),  # other parameters
        ("230001", "030001", False),  # none
        ("110411", "114001", False),  # 2 x + pool(x); x + pool(x)
        ("311004", "300440", True),  # pool(x + conv(x)); pool(x) + pool(conv(x))
        ("311003", "300330", False),  # conv(x + conv(x)); conv(x) + conv(conv(x))
        ("140004", "410040", True),
        ("000020", "000002", True),  # a convolution of nothing is its norm's bias
        ("002004", "000020", True),  # and stays so when it is pooled
        ("000020", "000200", False),
        ("000020", "000000", False),
        ("000020", "000030", False),
    ],
)
def test_networks_by_hand(a: str, b: str, same: bool) -> None:
    assert (representative(cell(a)) == representative(cell(b))) == same


def toy_functions(genotype: EdgeGenotype, maps: dict[str, list[Any]]) -> tuple[Any, ...]:
    """All functions that the cell has when its convolutions are given these maps of vectors in every possible way."""
    places = {name: [i for i, each in enumerate(genotype.operations) if each == name] for name in CONVOLUTIONS}
    outputs = set()
    for chosen in product(*(permutations(maps[name][: len(places[name])]) for name in CONVOLUTIONS)):
        of_edge = {
            i: f
            for name, each in zip(CONVOLUTIONS, chosen, strict=True)
            for i, f in zip(places[name], each, strict=True)
        }
        nodes = [maps["input"][0], *(np.zeros(3) for _ in range(3))]
        for i, ((source, target), name) in enumerate(zip(EDGES, genotype.operations, strict=True)):
            if name in CONVOLUTIONS:
                nodes[target] = nodes[target] + of_edge[i](nodes[source])
            elif name != "none":
                state = nodes[source]
                nodes[target] = nodes[target] + (state if name == "skip_connect" else maps["pool"][0] @ state)
        outputs.add(tuple(np.round(nodes[3], 9).tolist()))
    return tuple(sorted(outputs))


def test_the_networks_are_all_the_functions_there_are() -> None:
    """Where convolutions are arbitrary maps of R^3 and pooling a linear one that keeps constants, forms that differ are
    functions or numbers of convolutions that differ, and equal forms are equal functions."""
    rng = np.random.default_rng(3)

    def convolution(scale: float) -> Callable[[Any], Any]:
        matrix, bias = rng.normal(size=(3, 3)) * scale, rng.normal() * np.ones(3)
        return lambda x: matrix @ np.tanh(x) + bias

    pool = rng.random((3, 3))
    maps: dict[str, list[Any]] = {name: [convolution(1 + i) for _ in range(6)] for i, name in enumerate(CONVOLUTIONS)}
    maps |= {"pool": [pool / pool.sum(1, keepdims=True)], "input": [rng.random(3) + 0.5]}
    few = [each for each in CELLS if sum(each.count(name) for name in CONVOLUTIONS) <= 3]
    chosen = random.Random(0).sample(few, 2500)
    forms: dict[Any, set[Any]] = defaultdict(set)
    functions: dict[Any, set[Any]] = defaultdict(set)
    for genotype in chosen:
        counts = tuple(genotype.count(name) for name in CONVOLUTIONS)
        function, form = (counts, toy_functions(genotype, maps)), network_form(genotype.operations)
        forms[form].add(function)
        functions[function].add(form)
    assert max(map(len, forms.values())) == 1
    assert max(map(len, functions.values())) == 1
    assert 1000 < len(forms) < len(chosen)


def test_the_benchmark_counts_6466_classes_that_are_not_networks() -> None:
    classes: dict[str, set[EdgeGenotype]] = defaultdict(set)
    for genotype in CELLS:
        classes[published_key(genotype)].add(representative(genotype))
    assert len(classes) == 6466
    assert sum(len(networks) > 1 for networks in classes.values()) == 578
    twice, two = cell("201011"), cell("220011")
    assert published_key(twice) == published_key(two)
    assert SPACE.cost(twice, PUBLISHED) != SPACE.cost(two, PUBLISHED)


def benchmark_file(name: str) -> Any:
    path = Path(os.environ.get("NAS_DATA", "")) / "nas_robbench_201" / name
    if not os.environ.get("NAS_DATA") or not path.exists():
        pytest.skip(f"needs nas_robbench_201/{name} in the folder that NAS_DATA names")
    return json.loads(path.read_text(encoding="utf-8").partition("=")[2].strip().rstrip(";"))


@pytest.mark.parametrize("name", ["acc.json", "NAS-RobBench-201_html.json"])
def test_the_published_key_gives_the_classes_of_the_tables(name: str) -> None:
    """A table holds numbers for one cell of each class, and the id of that one for the others."""
    digits, table = benchmark_file("ops.json"), benchmark_file(name)
    keys = [published_key(cell(each)) for each in digits]
    ids = [int(each) for each in table if each]
    measured = {keys[id]: id for id in ids if isinstance(table[str(id)], list)}
    assert len(measured) == sum(isinstance(table[str(id)], list) for id in ids)
    for id in ids:
        if not isinstance(table[str(id)], list):
            assert measured[keys[id]] == int(table[str(id)])
    if name == "acc.json":
        assert len(ids) == len(CELLS)
        assert len(measured) == 6466


def test_ids_follow_no_rule() -> None:
    digits = benchmark_file("ops.json")
    assert sorted(digits) == [genotype.digits for genotype in CELLS]
    assert digits[:3] == ["421211", "334131", "433444"]


# Networks


class LiteralConv(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1):
        conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


class LiteralZero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class LiteralCell(nn.Module):
    def __init__(self, genotype: EdgeGenotype, channels: int):
        super().__init__()
        make: dict[str, Callable[[], nn.Module]] = {
            "none": LiteralZero,
            "skip_connect": nn.Identity,
            "nor_conv_1x1": lambda: LiteralConv(channels, channels, 1),
            "nor_conv_3x3": lambda: LiteralConv(channels, channels, 3),
            "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }
        self.edges = nn.ModuleList(make[name]() for name in genotype.operations)

    def forward(self, x: Tensor) -> Tensor:
        one = self.edges[0](x)
        two = self.edges[1](x) + self.edges[2](one)
        out: Tensor = self.edges[3](x) + self.edges[4](one) + self.edges[5](two)
        return out


class LiteralResidual(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.a, self.b = LiteralConv(c, 2 * c, 3, 2), LiteralConv(2 * c, 2 * c, 3)
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c, 2 * c, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(x) + self.b(self.a(x))
        return out


def literal_network(genotype: EdgeGenotype, spec: NetworkSpec) -> nn.Sequential:
    """As the paper describes it, from torch's own modules; parameters and buffers in the order of ours."""
    n, c = spec.layers // 3, spec.channels
    stages = [[LiteralCell(genotype, width) for _ in range(n)] for width in (c, 2 * c, 4 * c)]
    return nn.Sequential(
        nn.Conv2d(spec.image_channels, c, 3, padding=1, bias=False), nn.BatchNorm2d(c),
        *stages[0], LiteralResidual(c), *stages[1], LiteralResidual(2 * c), *stages[2],
        nn.BatchNorm2d(4 * c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * c, spec.classes),
    )  # fmt: skip


def both_networks(digits: str, training: bool) -> tuple[EdgeNetwork, nn.Sequential]:
    generator = torch.Generator().manual_seed(4)
    network = randomised(SPACE.build(cell(digits), SMALL), generator).train(training)
    literal = literal_network(cell(digits), SMALL).double().train(training)
    ours, theirs = network.state_dict().values(), literal.state_dict()
    literal.load_state_dict(dict(zip(theirs, (tensor.clone() for tensor in ours), strict=True)))
    return network, literal


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
        network = literal_network(cell(digits), spec).eval()
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
