"""The network of NAS-Bench-201 (Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326).

A 3x3 convolution to C channels; three stages of equal cells at C, 2 C and 4 C channels, with a residual block that
halves the resolution before the second and the third; batch norm, ReLU, global average pooling, a linear classifier.
A convolution in a cell is ReLU, convolution and batch norm, which is affine and has running statistics, as in the
benchmark's training.

The function and its parameters are those of the published program. Two things are computed in another way: a ReLU that
several convolutions apply to one node is computed once, and ``none`` is left out of the sums. Departure: images of any
size. At odd heights and widths, where the published residual block fails, the last windows of its pooling average the
pixels inside the image only.
"""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells.blocks import BlockNetwork
from search_spaces.cells.operations import AveragePool, ConvNorm, shared_relus
from search_spaces.nasbench201.genotype import EDGES, NODES, STAGES, EdgeGenotype


class EdgeCell(nn.Module):
    """One cell, ``(N, C, H, W)`` -> the same shape."""

    def __init__(self, genotype: EdgeGenotype, channels: int):
        super().__init__()
        self.edges = [
            (source, target, name)
            for (source, target), name in zip(EDGES, genotype.operations, strict=True)
            if name != "none"
        ]
        self.operations = nn.ModuleList(make_operation(name, channels) for _, _, name in self.edges)
        through_relu = [source for source, _, name in self.edges if name.startswith("nor_conv")]
        self.activations = shared_relus(through_relu, NODES - 1)

    def forward(self, x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x, *(None for _ in range(NODES - 1))]  # None: zero, no edge was added yet
        activated: dict[int, Tensor] = {}
        for (source, target, _), operation in zip(self.edges, self.operations, strict=True):
            state = nodes[source]
            if isinstance(operation, ConvNorm):
                if source not in activated:
                    activated[source] = self.activations[source](x * 0 if state is None else state)
                state = activated[source]
            elif state is None:
                continue
            delivered, before = operation(state), nodes[target]
            nodes[target] = delivered if before is None else before + delivered
        output = nodes[-1]
        return x * 0 if output is None else output


def make_operation(name: str, channels: int) -> nn.Module:
    """The module of an operation other than ``none``. A convolution reads the ReLU of its input."""
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return AveragePool(1)
    return ConvNorm(channels, channels, 1) if name == "nor_conv_1x1" else ConvNorm(channels, channels, 3, 1, 1)


class ResidualReduction(nn.Module):
    """``(N, C, H, W)`` -> ``(N, 2 C, ceil(H / 2), ceil(W / 2))``; the shortcut is a pooling and a 1x1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(2))
        self.first = ConvNorm(channels, 2 * channels, 3, 2, 1)
        self.second = ConvNorm(2 * channels, 2 * channels, 3, 1, 1)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.shortcut = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(self.activations[1](self.first(self.activations[0](x))))
        out: Tensor = self.shortcut(self.pool(x)) + residual
        return out


class EdgeNetwork(BlockNetwork):
    """``(N, image_channels, H, W)`` -> logits ``(N, classes)``."""

    linear_between = True

    def __init__(self, genotype: EdgeGenotype, spec: NetworkSpec):
        super().__init__()
        channels, layers = spec.stack
        self.stem = ConvNorm(spec.image_channels, channels, 3, 1, 1)
        self.blocks = nn.ModuleList()
        for stage in range(STAGES):
            if stage > 0:
                self.blocks.append(ResidualReduction(channels))
                channels *= 2
            self.blocks.extend(EdgeCell(genotype, channels) for _ in range(layers // STAGES))
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU()
        self.classifier = nn.Linear(channels, spec.classes)
