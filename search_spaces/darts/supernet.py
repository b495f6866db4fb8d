"""The supernet of the DARTS space: each node reads all earlier nodes of its cell, each through all operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import INPUTS, reduction_layers
from search_spaces.cells.network import STEM_MULTIPLIER, first_stem, second_stem
from search_spaces.cells.operations import OPERATIONS, ConvNorm, FactorizedReduce, channels_last
from search_spaces.cells.supernet import MixedOperation, State, Supernet, without_affine
from search_spaces.darts.space import CELLS, DARTS_OPERATIONS, EDGES, NODES

#: For each node, the sources of its edges, in the order of the architecture weights' rows.
SOURCES = tuple(tuple(range(INPUTS + node)) for node in range(NODES))


def _make(name: str, channels: int, stride: int) -> nn.Module:
    made = OPERATIONS[name](channels, stride)
    pools = isinstance(made, (nn.MaxPool2d, nn.AvgPool2d))  # as published, a batch norm follows them in the supernet
    return nn.Sequential(made, nn.BatchNorm2d(channels)) if pools else made


class MixedCell(nn.Module):
    """One cell with all edges and operations: two states -> ``(N, 4 C, H', W')``."""

    def __init__(
        self, names: Sequence[str], c_prev_prev: int, c_prev: int, channels: int, reduction: bool, reduced_before: bool,
        partial_channels: int,
    ):  # fmt: skip
        super().__init__()
        first = FactorizedReduce(c_prev_prev, channels) if reduced_before else ConvNorm(c_prev_prev, channels, 1)
        self.preprocess0 = without_affine(first)
        self.preprocess1 = without_affine(ConvNorm(c_prev, channels, 1))
        self.part = channels // partial_channels
        shared: list[dict[str, nn.Module]] = [{} for _ in SOURCES[-1]]  # for each state
        self.edges = nn.ModuleList(
            MixedOperation(
                names, _make, channels, 2 if reduction and source < INPUTS else 1, partial_channels, shared[source]
            )
            for sources in SOURCES
            for source in sources
        )

    def forward(self, before_last: Tensor, last: Tensor, weights: Tensor, active: list[list[bool]]) -> Tensor:
        """:param before_last: and ``last``: the two states before it, after a ReLU. :param weights: ``(14, names)``."""
        states = [State(self.preprocess0(before_last), self.part), State(self.preprocess1(last), self.part)]
        edges = iter(zip(self.edges, weights, active, strict=True))
        for sources in SOURCES:
            terms = []
            for source in sources:
                edge, weight, used = next(edges)
                terms.append(edge(states[source], weight, used))
            states.append(State(sum(terms[1:], terms[0]), self.part))
        return torch.cat([state.x for state in states[INPUTS:]], dim=1)


class DartsSupernet(Supernet):
    """The DARTS search network, of the same stem, reduction layers and classifier as the networks of single cells.

    :param operations: those of the space; ``none`` comes before them.
    :param imagenet: whether it is the ImageNet network, with two stems.
    """

    def __init__(
        self, spec: NetworkSpec, partial_channels: int = 1, operations: Sequence[str] = DARTS_OPERATIONS,
        imagenet: bool = False,
    ):  # fmt: skip
        self.operations = ("none", *operations)
        super().__init__(dict.fromkeys(CELLS, EDGES), partial_channels)
        ends = [sum(map(len, SOURCES[: node + 1])) for node in range(NODES)]
        nodes = [list(range(end - len(sources), end)) for end, sources in zip(ends, SOURCES, strict=True)]
        self.groups = dict.fromkeys(CELLS, nodes)
        channels, layers = spec.stack
        c_prev_prev = c_prev = channels if imagenet else STEM_MULTIPLIER * channels
        self.first_stem = first_stem(spec.image_channels, channels) if imagenet else None
        self.stem = second_stem(channels) if imagenet else ConvNorm(spec.image_channels, c_prev, 3, padding=1)
        self.cells = nn.ModuleList()
        self.kinds: list[str] = []
        reduced_before = imagenet
        for layer in range(layers):
            reduction = layer in reduction_layers(layers)
            channels *= 2 if reduction else 1
            sizes = c_prev_prev, c_prev, channels, reduction, reduced_before, partial_channels
            self.cells.append(MixedCell(self.operations, *sizes))
            self.kinds.append(CELLS[reduction])
            c_prev_prev, c_prev, reduced_before = c_prev, NODES * channels, reduction
        self.classifier = nn.Linear(c_prev, spec.classes)

    def mixed_edges(self) -> list[tuple[str, list[nn.Module]]]:
        edges = [list(cell.get_submodule("edges").children()) for cell in self.cells]
        return list(zip(self.kinds, edges, strict=True))

    def forward(self, images: Tensor, mixing: Mapping[str, Tensor] | None = None) -> Tensor:
        weighted = self.weighted(mixing)
        images = channels_last(images)
        before_last = None if self.first_stem is None else self.first_stem(images)
        features = self.stem(images if before_last is None else before_last)
        last = features.relu()
        before_last = last if before_last is None else before_last
        for cell, kind in zip(self.cells, self.kinds, strict=True):
            features = cell(before_last, last, *weighted[kind])
            before_last, last = last, features.relu()
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
