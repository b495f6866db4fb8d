"""Passes computed as a whole against the same modules called one by one, and against the literal network."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils._pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.literal import literal_network
from search_spaces.base import NetworkSpec
from search_spaces.cell_network import CellModule, CellNetwork
from search_spaces.cells import Cell, CellGenotype
from search_spaces.darts import DartsSpace
from search_spaces.known_cells import known_cell
from search_spaces.operations import ConvNorm
from search_spaces.whole_pass import whole_cell, whole_network
from tests.search_spaces.test_operations import assert_same, gradients, randomised, values_and_gradients

SPEC = NetworkSpec(channels=2, layers=4, classes=3)


def drawn(seed: int) -> CellGenotype:
    return DartsSpace().sample(np.random.default_rng(seed))


def network_of(genotype: CellGenotype, *, training: bool = False, seed: int = 0) -> CellNetwork:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CellNetwork(genotype, SPEC)
    return randomised(network, generator).train(training)


def images(*size: int, seed: int = 1) -> Tensor:
    return torch.randn(4, 3, *(size or (16, 12)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_by_one(network: nn.Module) -> nn.Module:
    """A copy of the network that is called module by module, as somebody listens everywhere."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if not isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_: None)
    return network


@contextmanager
def calls() -> Iterator[list[str]]:
    """The names of torch's operations that run inside."""

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    heard: list[str] = []
    with Calls():
        yield heard


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(16, 12), (9, 7), (8, 8)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_a_random_network_equals_its_modules_one_by_one(seed: int, size: tuple[int, int], training: bool) -> None:
    network = network_of(drawn(seed), training=training, seed=seed)
    apart = one_by_one(network)
    x, weights = images(*size), torch.randn(4, 3, dtype=torch.float64)
    assert whole_network(copy.deepcopy(network), x) is not None
    assert whole_network(apart, x) is None  # type: ignore[arg-type]
    assert_same(values_and_gradients(network, x, weights), values_and_gradients(apart, x, weights))
    assert_same(list(network.buffers()), list(apart.buffers()))


@pytest.mark.parametrize("seed", range(3))
def test_with_folded_norms_it_equals_the_literal_network(seed: int) -> None:
    network = network_of(drawn(10 + seed), seed=seed)
    x, weights = images(), torch.randn(4, 3, dtype=torch.float64)
    with network.folded() as folded:
        found = torch.autograd.grad((network(x) * weights).sum(), folded.leaves, allow_unused=True)
        by_name = folded.gradients(found)
    actual = [by_name.get(name, torch.zeros_like(each)) for name, each in network.named_parameters()]
    literal = literal_network(network).eval()
    assert_same(actual, gradients((literal(x) * weights).sum(), list(literal.parameters())))


@pytest.mark.parametrize("seed", range(2))
def test_without_norms(seed: int) -> None:
    """As synflow has it."""
    network = network_of(drawn(20 + seed), seed=seed)
    for module in network.modules():
        if hasattr(module, "norm"):
            module.norm = nn.Identity()
    x, weights = images(), torch.randn(4, 3, dtype=torch.float64)
    assert whole_network(network, x) is not None
    assert_same(values_and_gradients(network, x, weights), values_and_gradients(one_by_one(network), x, weights))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "cell",
    [
        Cell(((("skip_connect", 0),), (("skip_connect", 2), ("sep_conv_3x3", 2))), (2, 3)),
        Cell(((("max_pool_3x3", 1),), (("sep_conv_3x3", 2),)), (3, 2, 3)),
        Cell(((("skip_connect", 0), ("skip_connect", 0)), (("dil_conv_5x5", 0), ("avg_pool_3x3", 2))), (3,)),
        Cell(((("sep_conv_3x3", 1), ("dil_conv_3x3", 1), ("skip_connect", 1), ("max_pool_3x3", 1)),), (0, 2)),
        Cell(((("skip_connect", 0), ("sep_conv_5x5", 0)), (("max_pool_3x3", 1), ("sep_conv_5x5", 1))), (2,)),
    ],
    ids=["alias", "chain", "unread", "many", "dead end"],
)
def test_cells_of_other_shapes(cell: Cell, training: bool) -> None:
    """A node that is another state itself; a state that is read twice, or not at all; an input in the concatenation."""
    module = CellModule(cell, 4, 4, 2, reduction=False, reduced_before=False)
    module = randomised(module, torch.Generator().manual_seed(2)).train(training)
    apart = one_by_one(module)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    weights = torch.randn(3, 2 * len(cell.concat), 6, 5, dtype=torch.float64)
    results = []
    for each in (module, apart):
        before_last, last = x.clone().requires_grad_(), x.flip(0).requires_grad_()
        out = each(before_last, last)
        results.append([out, *gradients((out * weights).sum(), [before_last, last, *each.parameters()])])
    assert whole_cell(module, x, x) is not None
    assert_same(results[0], results[1])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_second_derivatives_of_a_cell_whose_inputs_are_one_tensor(training: bool) -> None:
    module = CellModule(drawn(3).normal, 4, 4, 2, reduction=False, reduced_before=False)
    module = randomised(module, torch.Generator().manual_seed(2)).train(training)
    apart = one_by_one(module)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    results = []
    for each in (module, apart):
        inputs = [x.clone().requires_grad_(), *each.parameters()]
        first = gradients(each(inputs[0], inputs[0]).pow(3).sum(), inputs, create_graph=True)
        product = torch.stack([(one * one.detach()).sum() for one in first]).sum()
        results.append([*first, *gradients(product, inputs)])
    assert_same(results[0], results[1])
    assert_same(list(module.buffers()), list(apart.buffers()))  # the pass that is repeated leaves no trace


def test_relus_are_heard_as_before() -> None:
    network = network_of(drawn(0))
    apart = one_by_one(network)
    heard: list[list[Tensor]] = []
    for each in (network, apart):
        outputs: list[Tensor] = []
        for module in each.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda _module, _inputs, out, outputs=outputs: outputs.append(out.clone()))
        assert (whole_network(each, images()) is not None) == (each is network)  # type: ignore[arg-type]
        outputs.clear()
        each(images())
        heard.append(outputs)
    assert_same(heard[0], heard[1])
    assert len(heard[0]) > 10


def a_convolution(network: CellNetwork) -> nn.Module:
    return next(module.conv for module in network.cells.modules() if isinstance(module, ConvNorm))


@pytest.mark.parametrize(
    "listen",
    [
        lambda network: network.cells[1].register_forward_hook(lambda *_: None),
        lambda network: network.stem.register_forward_pre_hook(lambda *_: None),
        lambda network: network.classifier.register_full_backward_hook(lambda *_: None),
        lambda network: network.cells[0].operations.register_full_backward_pre_hook(lambda *_: None),
        lambda network: a_convolution(network).register_forward_hook(lambda *_: None),
    ],
)
def test_who_listens_is_called(listen: Callable[[CellNetwork], Any]) -> None:
    network = network_of(drawn(0))
    assert whole_network(network, images()) is not None
    listen(network)
    assert whole_network(network, images()) is None


@pytest.mark.parametrize("name", ["CROZE", "NASNet"])
def test_operations_without_rows_run_module_by_module(name: str) -> None:
    """``conv_7x1_1x7`` of the one, another operation of a user's in the other."""
    network = network_of(known_cell(name))
    if name == "NASNet":
        network.cells[0].operations[0] = nn.Sequential(nn.Identity())  # type: ignore[index, union-attr]
    assert whole_network(network, images()) is None
    assert network(images()).isfinite().all()


def test_other_precisions_and_compilers_run_module_by_module() -> None:
    network = network_of(drawn(0)).float()
    x = images().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert whole_network(network, x) is None
    assert whole_network(network.to("meta"), x.to("meta")) is None


@pytest.mark.parametrize("asked", ["images", "stem", "all"])
def test_only_what_is_asked_for_is_computed(asked: str) -> None:
    """A parameter that requires no gradient any more, when the backward pass comes, gets none."""
    network = network_of(drawn(1))
    x = images().requires_grad_()
    parameters = list(network.parameters())
    by = {"images": [x], "stem": [network.stem.conv.weight], "all": [x, *parameters]}[asked]
    with network.folded() as folded:
        expected = torch.autograd.grad(network(x).sum(), x if asked != "stem" else folded.leaves[:1], retain_graph=True)
        logits = network(x)
        for leaf in folded.leaves:
            leaf.requires_grad_(asked == "all")
        if asked == "stem":
            folded.leaves[0].requires_grad_(True)
            by = folded.leaves[:1]
        elif asked == "all":
            by = [x, *folded.leaves]
        with calls() as heard:
            found = torch.autograd.grad(logits.sum(), by, allow_unused=True)
        for leaf in folded.leaves:
            leaf.requires_grad_(True)
    if asked != "all":
        assert_same(list(found), list(expected))
    products = heard.count("mm") + heard.count("addmm")
    cells = sum(isinstance(module, ConvNorm) for module in network.cells.modules())
    assert products > 2 * cells if asked == "all" else products <= 1.5 * cells


def test_without_a_gradient_nothing_is_kept() -> None:
    """Images go through in the memory of a few layers, as a large batch is evaluated."""
    network = CellNetwork(drawn(2), NetworkSpec(channels=2, layers=12)).double().eval()

    class Alive(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[weakref.ref[Tensor]] = []
            self.most = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            self.made += [weakref.ref(each) for each in torch.utils._pytree.tree_leaves(out)]
            storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
                        for reference in self.made if (each := reference()) is not None}  # fmt: skip
            self.most = max(self.most, sum(storages.values()))
            return out

    most = {}
    for kept in (False, True):
        with torch.set_grad_enabled(kept), Alive() as alive:
            network(images(32, 32))
        most[kept] = alive.most
    assert most[False] < most[True] / 3


def test_a_single_value_has_no_variance() -> None:
    module = CellModule(drawn(0).normal, 4, 4, 2, reduction=False, reduced_before=False).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(torch.ones(1, 4, 1, 1), torch.ones(1, 4, 1, 1))
