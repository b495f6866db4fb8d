"""Several networks of the DARTS family computed as one, so that an accelerator gets few, large operations.

K networks of one size differ only in the edges of their cells. A tensor of the stack is ``(N, B C, H, W)``: B *blocks*
of C channels each, every block a state of one of the K networks. In each cell, all edges whose inputs are known are
computed together, grouped by their operations: a depthwise convolution runs over the channels of all edges that have
it, a pointwise one is a batched matrix product with one matrix for each edge.

The networks are those that :class:`~search_spaces.cells.network.CellNetwork` builds, with the same weights drawn in the
same order; their outputs and gradients are equal up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.folding import FoldingNetwork
from search_spaces.cells.genotype import INPUTS, Cell, CellStack, reduction_layers
from search_spaces.cells.network import STEM_MULTIPLIER
from search_spaces.cells.operations import OPERATIONS
from search_spaces.cells.stacked_operations import (
    GroupedConvNorm,
    GroupedLinear,
    GroupedReduce,
    GroupedSeparableConv,
    GroupedSepConv,
    Member,
    OwnedReLU,
    Select,
)

#: The operations that a stack takes, in the order of their blocks, and the kind that is computed together.
KINDS = {
    "sep_conv_3x3": "sep", "sep_conv_5x5": "sep", "sep_conv_7x7": "sep", "dil_conv_3x3": "dil", "dil_conv_5x5": "dil",
    "skip_connect": "reduce", "max_pool_3x3": "max", "avg_pool_3x3": "avg",
}  # fmt: skip
ACTIVATED = ("sep", "dil", "reduce")  # the kinds that begin with a ReLU
STATES = "states"  # the kind of edges that return what they read

#: Names of modules and parameters, in the order in which a network makes them and draws their weights.
ORDER = (
    "stem", "cells", "preprocess0", "preprocess1", "operations", "classifier", "depthwise", "pointwise", "conv",
    "conv_even", "conv_odd", "norm", "weight", "bias",
)  # fmt: skip


def can_stack(genotypes: Iterable[CellStack], spec: NetworkSpec) -> bool:
    """Whether one :class:`StackedNetwork` takes these genotypes: as many states concatenated, nodes of two edges."""
    cells = [cell for genotype in genotypes for cell in genotype.named_cells().values()]
    nodes = [node for cell in cells for node in cell.nodes]
    return (
        not spec.auxiliary
        and len({len(cell.concat) for cell in cells}) == 1
        and all(min(cell.concat) >= INPUTS for cell in cells)
        and all(len(node) == 2 and all(name in KINDS for name, _ in node) for node in nodes)
    )


def bytes_per_image(spec: NetworkSpec) -> int:
    """About how much memory the passes of a stack take for each image of each network.

    Measured at 16 channels and 8 layers: 13 MB, which is 47 float32 values for each value of each cell's state.
    """
    (channels, layers), pixels, values = spec.stack, spec.image_size[0] * spec.image_size[1], 0
    for layer in range(layers):
        if layer in reduction_layers(layers):
            channels, pixels = 2 * channels, -(-pixels // 4)
        values += channels * pixels
    return 4 * 47 * values


class State(NamedTuple):
    """An input or a node of the cell of the k-th network."""

    k: int
    number: int


class Edge(NamedTuple):
    """The first or second (``place`` 0 or 1) edge of a node; ``path`` is that of the operation's module."""

    node: State
    place: int
    operation: str
    path: str
    source: State


def edges_of(cells: Sequence[Cell], path: str) -> list[Edge]:
    """The edges of one cell of each network."""
    edges = []
    for k, cell in enumerate(cells):
        for number, (operation, source) in enumerate(cell.edges):
            node = State(k, INPUTS + number // 2)
            edges.append(Edge(node, number % 2, operation, f"{path}.operations.{number}", State(k, source)))
    return edges


class Level(nn.Module):
    """Edges of a cell that are computed at the same time: states ``(N, B C, H, W)`` -> their outputs, by kind.

    ``blocks`` says how many blocks the output of each kind has, ``places`` the kind and the block of each edge.
    """

    def __init__(self, edges: Sequence[Edge], states: Sequence[State], width: int, channels: int, stride: int):
        super().__init__()
        block = {state: number for number, state in enumerate(states)}
        skips = [edge for edge in edges if stride == 1 and edge.operation == "skip_connect"]
        self.places = {edge[:2]: (STATES, block[edge.source]) for edge in skips}
        self.blocks = {STATES: len(states)}
        computed = {name: [edge for edge in edges if edge.operation == name and edge not in skips] for name in KINDS}
        computed = {name: found for name, found in computed.items() if found}
        self.sizes = [channels * len(found) for found in computed.values()]
        self.activated = sum(KINDS[name] in ACTIVATED for name in computed)  # operations
        read = [edge for found in computed.values() for edge in found]
        self.gather = Select([[block[edge.source]] for edge in read], len(states)) if read else None
        self.relu = OwnedReLU([edge.node.k for edge in read if KINDS[edge.operation] in ACTIVATED], width)
        self.kinds, self.operations = nn.ModuleDict(), [KINDS[name] for name in computed]
        for kind in dict.fromkeys(self.operations):
            own = {name: found for name, found in computed.items() if KINDS[name] == kind}
            members = {name: [(edge.node.k, edge.path) for edge in found] for name, found in own.items()}
            self.kinds[kind] = _operation(kind, members, width, channels, stride)
            together = [edge for found in own.values() for edge in found]
            self.places |= {edge[:2]: (kind, number) for number, edge in enumerate(together)}
            self.blocks[kind] = len(together)

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        outputs = {STATES: states}
        if self.gather is None:
            return outputs
        activated, others = (self.sizes[: self.activated], self.sizes[self.activated :])
        to_activate, unchanged = self.gather(states).split([sum(activated), sum(others)], 1)
        parts = [*self.relu(to_activate).split(activated, 1)] if activated else []
        parts += unchanged.split(others, 1) if others else []
        for kind, module in self.kinds.items():
            outputs[kind] = module(*(x for x, own in zip(parts, self.operations, strict=True) if own == kind))
        return outputs


def _operation(kind: str, members: Mapping[str, list[Member]], width: int, channels: int, stride: int) -> nn.Module:
    """The module of a kind, which takes a tensor for each operation."""
    (first, own), *_ = members.items()
    if kind == "reduce":
        return GroupedReduce(channels, channels, own)
    if kind == "sep":
        return GroupedSepConv(members, width, channels, stride)
    return GroupedSeparableConv(members, channels, stride, 2) if kind == "dil" else OPERATIONS[first](channels, stride)


class StackedCell(nn.Module):
    """One cell of each network: ``(N, K C, H, W)`` twice -> ``(N, K |concat| C', H', W')``."""

    def __init__(
        self,
        cells: Sequence[Cell],
        path: str,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduced_before: bool,
    ):
        super().__init__()
        width, edges = len(cells), edges_of(cells, path)
        before, last = ([(k, f"{path}.{name}") for k in range(width)] for name in ("preprocess0", "preprocess1"))
        self.preprocess0 = (GroupedReduce if reduced_before else GroupedConvNorm)(c_prev_prev, channels, before)
        self.preprocess1 = GroupedConvNorm(c_prev, channels, last)
        self.levels, self.sums = nn.ModuleList(), nn.ModuleList()
        self.used: list[list[tuple[int, str]]] = []  # the levels and kinds of the outputs that each sum reads
        places: dict[tuple[State, int], tuple[int, str, int]] = {}
        blocks: dict[tuple[int, str], int] = {}
        states, nodes = [State(k, number) for number in range(INPUTS) for k in range(width)], []
        known = set(states)
        while len(known) < sum(INPUTS + len(cell.nodes) for cell in cells):
            number, stride = len(self.levels), 2 if reduction and not self.levels else 1
            level = Level([edge for edge in edges if edge.source in states], states, width, channels, stride)
            places |= {edge: (number, *place) for edge, place in level.places.items()}
            blocks |= {(number, kind): count for kind, count in level.blocks.items()}
            states = sorted({edge.node for edge in edges if edge.node not in known})
            states = [state for state in states if (state, 0) in places and (state, 1) in places]
            known.update(states)
            nodes += states
            read = [[places[state, place] for place in range(2)] for state in states]
            self.used.append(used := sorted({each[:2] for pair in read for each in pair}))
            starts = {each: sum(blocks[other] for other in used[:i]) for i, each in enumerate(used)}
            wanted = [[starts[number, kind] + block for number, kind, block in pair] for pair in read]
            self.levels.append(level)
            self.sums.append(Select(wanted, sum(blocks[each] for each in used)))
        concatenated = [State(k, number) for k, cell in enumerate(cells) for number in cell.concat]
        self.concat = Select([[nodes.index(state)] for state in concatenated], len(nodes))

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = torch.cat([self.preprocess0(before_last), self.preprocess1(last)], 1)
        outputs, nodes = [], []
        for level, total, used in zip(self.levels, self.sums, self.used, strict=True):
            outputs.append(level(states))
            states = total(torch.cat([outputs[number][kind] for number, kind in used], 1))
            nodes.append(states)
        found: Tensor = self.concat(torch.cat(nodes, 1))
        return found


class StackedNetwork(FoldingNetwork):
    """K networks as one: ``(N K, image_channels, H, W)`` -> logits ``(N K, classes)``.

    Row ``n K + k`` is the n-th image of the k-th network. The weights are not initialised: see :meth:`draw`.

    :param genotypes: K of them, for which :func:`can_stack` is true.
    """

    def __init__(self, genotypes: Sequence[CellStack], spec: NetworkSpec):
        super().__init__()
        self.width = len(genotypes)
        channels, layers = spec.stack
        c_prev_prev = c_prev = STEM_MULTIPLIER * channels
        self.stem = GroupedConvNorm(spec.image_channels, c_prev, [(k, "stem") for k in range(self.width)], 3)
        read = [state for layer in range(layers) for state in (max(layer - 1, 0), layer)]  # by the cells
        self.activations = nn.ModuleList(
            OwnedReLU(range(self.width), self.width, read.count(state)) for state in range(layers)
        )
        self.cells = nn.ModuleList()
        reduced_before = False
        for layer in range(layers):
            reduction = layer in reduction_layers(layers)
            channels *= 2 if reduction else 1
            cells = [genotype.cell(layer, layers) for genotype in genotypes]
            self.cells.append(
                StackedCell(cells, f"cells.{layer}", c_prev_prev, c_prev, channels, reduction, reduced_before)
            )
            c_prev_prev, c_prev, reduced_before = c_prev, len(cells[0].concat) * channels, reduction
        self.classifier = GroupedLinear(c_prev, spec.classes, [(k, "classifier") for k in range(self.width)])
        self.pack("cpu")

    def forward(self, images: Tensor) -> Tensor:
        last = self.stem(images.reshape(-1, self.width * images.shape[1], *images.shape[2:]))
        before_last: Tensor | None = None
        for cell, activation in zip(self.cells, self.activations, strict=True):
            activated = activation(last)
            last = cell(activated if before_last is None else before_last, activated)
            before_last = activated
        pooled = last.mean(dim=(2, 3))
        logits: Tensor = self.classifier(pooled.view(len(pooled), self.width, -1))
        return logits.flatten(0, 1)

    def pack(self, device: torch.device | str) -> StackedNetwork:
        """This network, moved to ``device`` with one copy for all parameters and one for all indices."""
        parameters, selects = list(self.parameters()), [each for each in self.modules() if isinstance(each, Select)]
        packed = torch.cat([each.data.flatten() for each in parameters]).to(device)
        values = torch.split(packed, [each.numel() for each in parameters])
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.view(parameter.shape)
        numbers = [each for select in selects for each in select.numbers]
        packed = torch.tensor([i for each in numbers for i in each]).to(device)
        indices = iter(torch.split(packed, [len(each) for each in numbers]))
        for select in selects:
            select.place([next(indices) for _ in select.numbers])
        self.to(device)
        self.parts = self.split(dict(self.named_parameters()))
        return self

    def split(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """For each network, its part of ``tensors``, which have names and shapes of the stack's parameters.

        The parts are views. They have the names of the network's own parameters, and their order.
        """
        found: list[dict[str, Tensor]] = [{} for _ in range(self.width)]
        for name, members in self._members():
            if name in tensors:
                for (k, own), part in zip(members, tensors[name].chunk(len(members)), strict=True):
                    found[k][own] = part
        return [{name: own[name] for name in sorted(own, key=_rank)} for own in found]

    def reach(self, counts: Sequence[int]) -> int:
        """How many of the first parameters hold, for each network k, its own first ``counts[k]`` parameters."""
        first = {(k, name) for k, count in enumerate(counts) for name in list(self.parts[k])[:count]}
        return max(number for number, (_, members) in enumerate(self._members(), 1) if not first.isdisjoint(members))

    def _members(self) -> Iterator[tuple[str, list[Member]]]:
        """The names of the parameters, in order, and which network's parameter each of their parts is."""
        for path, module in self.named_modules():
            members: list[Member] = getattr(module, "members", [])
            for name, parameter in module._parameters.items() if members else ():
                if parameter is not None:
                    yield f"{path}.{name}", [(k, f"{own}.{name}") for k, own in members]

    @torch.no_grad()
    def draw(self, k: int, seed: int) -> None:
        """Draw the weights of the k-th network, those of a network built after ``torch.manual_seed(seed)``."""
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in self.parts[k].items():
            if tensor.ndim > 1:
                nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
            elif name == "classifier.bias":
                bound = 1 / math.sqrt(self.classifier.in_features)
                tensor.uniform_(-bound, bound, generator=generator)


def _rank(name: str) -> list[int]:
    """By which the names of a network's parameters are in their order."""
    return [int(part) if part.isdecimal() else ORDER.index(part) for part in name.split(".")]
