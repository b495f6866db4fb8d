"""The supernet of NAS-Bench-201: each edge of the cell carries all five operations, ``none`` among them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.operations import ConvNorm, Zero, channels_last
from search_spaces.cells.supernet import MixedOperation, State, Supernet
from search_spaces.nasbench201.genotype import EDGES, NODES, OPERATIONS, OUTPUT, STAGES
from search_spaces.nasbench201.network import ResidualReduction, make_operation

CELL = "cell"


def _make(name: str, channels: int, stride: int) -> nn.Module:
    return Zero(stride) if name == "none" else make_operation(name, channels)


class MixedEdgeCell(nn.Module):
    """One cell with all operations on all edges, ``(N, C, H, W)`` -> the same shape."""

    def __init__(self, channels: int, partial_channels: int):
        super().__init__()
        self.part = channels // partial_channels
        shared: list[dict[str, nn.Module]] = [{} for _ in range(NODES)]  # for each node
        self.edges = nn.ModuleList(
            MixedOperation(OPERATIONS, _make, channels, 1, partial_channels, shared[source]) for source, _ in EDGES
        )

    def forward(self, x: Tensor, weights: Tensor, active: list[list[bool]]) -> Tensor:
        """:param weights: ``(6, 5)``, and for each of them in ``active`` whether it is not 0."""
        nodes = [State(x, self.part)]
        for target in range(1, NODES):
            terms = [
                edge(nodes[source], weight, used)
                for (source, end), edge, weight, used in zip(EDGES, self.edges, weights, active, strict=True)
                if end == target
            ]
            nodes.append(State(sum(terms[1:], terms[0]), self.part))
        return nodes[OUTPUT].x


class EdgeSupernet(Supernet):
    """The search network of NAS-Bench-201; stem, reductions and classifier are those of a single cell's network."""

    operations = OPERATIONS

    def __init__(self, spec: NetworkSpec, partial_channels: int = 1):
        super().__init__({CELL: len(EDGES)}, partial_channels)
        into = [[index for index, (_, end) in enumerate(EDGES) if end == target] for target in range(1, NODES)]
        self.groups = {CELL: into}
        channels, layers = spec.stack
        self.stem = ConvNorm(spec.image_channels, channels, 3, 1, 1)
        self.blocks = nn.ModuleList()
        for stage in range(STAGES):
            if stage > 0:
                self.blocks.append(ResidualReduction(channels))
                channels *= 2
            self.blocks.extend(MixedEdgeCell(channels, partial_channels) for _ in range(layers // STAGES))
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, spec.classes)

    def mixed_edges(self) -> list[tuple[str, list[nn.Module]]]:
        return [(CELL, list(block.edges)) for block in self.blocks if isinstance(block, MixedEdgeCell)]

    def forward(self, images: Tensor, mixing: Mapping[str, Tensor] | None = None) -> Tensor:
        weights, active = self.weighted(mixing)[CELL]
        features = self.stem(channels_last(images))
        for block in self.blocks:
            features = block(features, weights, active) if isinstance(block, MixedEdgeCell) else block(features)
        logits: Tensor = self.classifier(self.norm(features).relu().mean(dim=(2, 3)))
        return logits
