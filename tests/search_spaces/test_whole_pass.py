"""Passes computed as a whole against the same modules called one by one, and against the literal network."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
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
from search_spaces.operations import ConvNorm
from search_spaces.whole_pass import whole_cell, whole_network
from tests.search_spaces.test_operations import assert_same, gradients, randomised, values_and_gradients

SPEC = NetworkSpec(channels=2, layers=4, classes=3)


def drawn(seed: int) -> CellGenotype:
    return DartsSpace().sample(np.random.default_rng(seed))


def network_of(
    genotype: CellGenotype, *, training: bool = False, seed: int = 0, spec: NetworkSpec = SPEC
) -> CellNetwork:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CellNetwork(genotype, spec)
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


def test_an_input_is_never_written_to() -> None:
    module = CellModule(drawn(0).normal, 4, 4, 4, reduction=False, reduced_before=False).double().eval()
    module.preprocess0, module.preprocess1 = nn.Identity(), nn.Identity()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    before = x.detach().clone()
    out = whole_cell(module, x, x)
    assert out is not None
    assert torch.equal(x, before)
    assert_same([out], [one_by_one(module)(x, x)])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_many_gradients_at_a_time(training: bool) -> None:
    network = network_of(drawn(1), training=training)
    apart = one_by_one(network)
    found = []
    for each in (network, apart):
        x = images(8, 8).requires_grad_()
        logits = each(x)
        rows = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1).transpose(0, 1)
        found += [torch.autograd.grad(logits, x, rows, is_grads_batched=True)[0]]
    assert_same(found[:1], found[1:])


def test_several_backward_passes_over_one_graph() -> None:
    """Also after one that was differentiated; the last frees what they share."""
    network = network_of(drawn(1), training=True)
    x = images().requires_grad_()
    inputs = [x, *network.parameters()]
    logits = network(x)
    first = torch.autograd.grad(logits.sum(), inputs, retain_graph=True, materialize_grads=True)
    torch.autograd.grad(logits.square().sum(), inputs, create_graph=True, materialize_grads=True)
    again = torch.autograd.grad(logits.sum(), inputs, materialize_grads=True)
    assert_same(list(again), list(first))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(logits.sum(), inputs)


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph=True:UserWarning")
def test_nothing_is_left_to_differentiate() -> None:
    network = network_of(drawn(1), training=True)
    loss = network(images()).sum()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    loss.backward(create_graph=True)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("apart", [False, True], ids=["network", "cells"])
def test_the_last_backward_pass_frees_memory(apart: bool) -> None:
    """And with it goes the graph, though the output lives."""
    network = CellNetwork(drawn(2), NetworkSpec(channels=2, layers=12)).double().train()
    if apart:
        for cell in network.cells:
            cell.register_forward_hook(lambda *_: None)
    with Alive() as alive:
        logits = network(images(32, 32))
        most = alive.now()
        logits.sum().backward()
        left = alive.now()
    assert left < most / 4
    del logits


class Alive(TorchDispatchMode):
    """The memory of what was made inside and lives, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0

    def now(self) -> int:
        living = [tensor for reference in self.made if (tensor := reference()) is not None]
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in living}
        return sum(storages.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [each for each in torch.utils._pytree.tree_leaves(out) if isinstance(each, Tensor)]
        self.made += [weakref.ref(each) for each in tensors]
        self.most = max(self.most, self.now())
        return out


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

    most = {}
    for kept in (False, True):
        with torch.set_grad_enabled(kept), Alive() as alive:
            network(images(32, 32))
        most[kept] = alive.most
    assert most[False] < most[True] / 3
