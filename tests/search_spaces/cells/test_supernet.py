"""Supernets against the networks of single cells, and against literal formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.cells.operations import ConvNorm
from search_spaces.cells.supernet import MixedOperation, State, Supernet
from search_spaces.darts.space import DARTS_OPERATIONS
from search_spaces.darts.supernet import SOURCES, DartsSupernet
from search_spaces.nasbench201.genotype import OPERATIONS

NAMES = ("none", *DARTS_OPERATIONS)
SPEC = NetworkSpec(channels=4, layers=3, image_size=(8, 8))
#: without pools, which batch norms follow in the supernet only
CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 0), ('sep_conv_5x5', 2),"
    " ('dil_conv_3x3', 1), ('skip_connect', 3), ('sep_conv_3x3', 2), ('dil_conv_3x3', 4)], normal_concat=range(2, 6),"
    " reduce=[('skip_connect', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('skip_connect', 2), ('sep_conv_3x3', 1),"
    " ('dil_conv_5x5', 3), ('skip_connect', 1), ('sep_conv_3x3', 4)], reduce_concat=range(2, 6))"
)


#: nodes that read all before them, with the larger kernels
DENSE_NODES = "c7.0+s7.1|s3.0+c7.1+sk.2|sk.0+d3.1+s7.2+s5.3|d5.0+s3.1+sk.2+c7.3+s7.4>2,3,4,5"
DENSE_CELL = f"{DENSE_NODES}/{DENSE_NODES.replace('s3.0', 'sk.0')}"


def images(channels: int = 3, pixels: int = 8) -> Tensor:
    return torch.randn(4, channels, pixels, pixels, generator=torch.Generator().manual_seed(1))


def supernet(space: str, partial_channels: int = 1, spec: NetworkSpec = SPEC) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Supernet = get_space(space).supernet(spec, partial_channels=partial_channels)
    return made


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights; batch norms that only the target has with scale and shift keep 1 and 0."""
    given = source.state_dict()
    result = target.load_state_dict({n: v for n, v in given.items() if n in target.state_dict()}, strict=False)
    assert all("norm" in name for name in result.missing_keys)


def test_the_search_network_of_darts_has_as_many_weights_as_published() -> None:
    net = supernet("darts", spec=NetworkSpec(channels=16, layers=8))
    assert sum(each.numel() for each in net.network_parameters()) == 1_930_618
    assert {name: tuple(each.shape) for name, each in net.architecture.items()} == {
        "normal": (14, 8), "reduce": (14, 8)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "cell"),
    [("darts", CELL), ("darts10", DENSE_CELL), ("darts_imagenet", CELL), ("darts10_imagenet", DENSE_CELL)],
)
def test_with_one_operation_an_edge_it_is_the_network_of_that_cell_of_darts(name: str, cell: str) -> None:
    space, net = get_space(name), supernet(name)
    assert isinstance(net, DartsSupernet)
    genotype = space.parse(cell)
    network = space.build(genotype, SPEC).train()
    for part in ("first_stem", "stem", "classifier"):
        if getattr(net, part) is not None:
            copy_weights(getattr(net, part), getattr(network, part))
    mixing = {cell: torch.zeros(each.shape) for cell, each in net.architecture.items()}
    for layer, (theirs, ours) in enumerate(zip(net.cells, network.cells, strict=True)):
        kind = "reduce" if layer in (1, 2) else "normal"
        for name in ("preprocess0", "preprocess1"):
            copy_weights(getattr(theirs, name), getattr(ours, name))
        places = [(node, edge) for node, edges in enumerate(genotype.named_cells()[kind].nodes) for edge in edges]
        for (node, (operation, source)), module in zip(places, ours.operations, strict=True):
            row, column = sum(map(len, SOURCES[:node])) + source, net.operations.index(operation)
            mixing[kind][row, column] = 1.0
            copy_weights(theirs.edges[row].operations[column], module)
    x = images(pixels=64 if "imagenet" in name else 8)
    torch.testing.assert_close(net(x, mixing), network(x))
    if name.startswith("darts10"):  # a derived cell has all edges
        assert space.derive(mixing) == genotype


def test_with_one_operation_an_edge_it_is_the_network_of_that_cell_of_nasbench201() -> None:
    space, net = get_space("nasbench201"), supernet("nasbench201")
    genotype = space.parse("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|")
    network = space.build(genotype, SPEC).train()
    columns = [OPERATIONS.index(name) for name in genotype.operations]
    mixing = {"cell": F.one_hot(torch.tensor(columns), 5).float()}
    for name in ("stem", "norm", "classifier"):
        copy_weights(getattr(net, name), getattr(network, name))
    for theirs, ours in zip(net.blocks, network.blocks, strict=True):
        if not hasattr(theirs, "edges"):
            copy_weights(theirs, ours)
            continue
        kept = [edge.operations[column] for edge, column in zip(theirs.edges, columns, strict=True) if column]
        for one, other in zip(kept, ours.operations, strict=True):
            copy_weights(one, other)
    torch.testing.assert_close(net(images(), mixing), network(images()))


def test_a_cell_is_the_sum_of_all_operations_of_all_edges() -> None:
    """With pools, whose output the edges that leave one state share."""
    net = supernet("darts")
    assert isinstance(net, DartsSupernet)
    weights = torch.rand(14, 8, generator=torch.Generator().manual_seed(2))
    for cell, stride in ((net.cells[0], 1), (net.cells[1], 2)):
        before, last = images(cell.preprocess0.conv.in_channels), images(cell.preprocess1.conv.in_channels)
        states = [cell.preprocess0(before), cell.preprocess1(last)]
        row = 0
        for node in range(4):
            total = torch.zeros(4, states[0].shape[1], 8 // stride, 8 // stride)
            for source in range(2 + node):
                for name, weight, operation in zip(NAMES, weights[row], cell.edges[row].operations, strict=True):
                    reads_relu = "conv" in name or (name == "skip_connect" and stride == 2 and source < 2)
                    total = total + weight * operation(states[source].relu() if reads_relu else states[source])
                row += 1
            states.append(total)
        expected = torch.cat(states[2:], dim=1)
        torch.testing.assert_close(cell(before, last, weights, [[True] * 8] * 14), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_channel_sample_is_what_it_literally_is(stride: int) -> None:
    def make(name: str, channels: int, stride: int) -> nn.Module:
        return nn.Conv2d(channels, channels, 3, stride, 1, bias=False)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        edge = MixedOperation(("one", "two"), make, 8, stride, 4, {})
    x, weights = images(8), torch.tensor([0.3, 0.7])
    out = edge(State(x, 2), weights, [True, True])
    through = sum(weight * operation(x[:, :2]) for weight, operation in zip(weights, edge.operations, strict=True))
    by_passed = x[:, 2:] if stride == 1 else F.max_pool2d(x[:, 2:], 2)
    before = torch.cat([through, by_passed], dim=1)
    for channel in range(8):  # four groups of two channels: channel 0 of each group, then channel 1 of each
        torch.testing.assert_close(out[:, channel], before[:, 2 * (channel % 4) + channel // 4])


@pytest.mark.parametrize(("space", "convolution"), [("darts", 4), ("nasbench201", 3)])
def test_an_operation_of_weight_0_is_not_computed(space: str, convolution: int) -> None:
    net, ran = supernet(space), []
    for name, module in net.named_modules():
        if isinstance(module, ConvNorm) and ".operations." in name:
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    mixing = {name: torch.zeros_like(each) for name, each in net.mixing().items()}
    net(images(), mixing)
    assert not ran
    mixing[next(iter(mixing))][:, convolution] = 1.0
    net(images(), mixing)
    assert ran and all(f".operations.{convolution}" in name for name in ran)


def test_edges_share_their_weights_by_node_with_partial_channels() -> None:
    net = supernet("darts", partial_channels=2)
    with torch.no_grad():
        net.architecture["normal_edges"].copy_(torch.arange(14.0))
    share = net.edge_shares()["normal"]
    torch.testing.assert_close(share[2:5], torch.tensor([2.0, 3.0, 4.0]).softmax(0))
    torch.testing.assert_close(net.strengths()["normal"], (net.mixing()["normal"] * share[:, None]).detach())
    with pytest.raises(ValueError, match="partial_channels must divide the 4 channels of a cell into even numbers"):
        supernet("darts", partial_channels=4)


def test_expected_parameters_are_those_of_a_cell_without_the_scales_and_shifts_of_its_edges() -> None:
    space, made = get_space("nasbench201"), supernet("nasbench201")
    genotype = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|")
    cell = torch.eye(len(OPERATIONS))[[OPERATIONS.index(operation) for operation in genotype.operations]]
    expected = space.cost(genotype, SPEC).params - sum(2 * channels * 3 for channels in (4, 8, 16))
    assert made.expected_parameters({"cell": cell}) == expected
    none = torch.eye(len(OPERATIONS))[[0] * len(cell)]
    half = made.expected_parameters({"cell": (cell + none) / 2})
    assert half == (expected + made.expected_parameters({"cell": none})) / 2
