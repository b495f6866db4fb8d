"""Networks as they were published: each operation has a ReLU of its own, and torch's own modules compute everything.

They are the same functions as the networks of this project, with the same parameters in the same order, in contiguous
layout and without folding: the other side of tests and benchmarks. Images must have even heights and widths wherever
the resolution is halved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.base import NetworkSpec
from search_spaces.cells import operations
from search_spaces.cells.network import CellModule, CellNetwork
from search_spaces.nasbench201.genotype import STAGES, EdgeGenotype


def torchs_own(conv: nn.Conv2d, stride: int | None = None) -> nn.Conv2d:
    """torch's convolution with the same weight, at another stride if given."""
    with torch.device("meta"):
        made = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            stride or conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            bias=False,
        )
    made.weight = conv.weight
    return made


class LiteralReduce(nn.Module):
    def __init__(self, fast: operations.FactorizedReduce):
        super().__init__()
        self.conv_even, self.conv_odd = torchs_own(fast.conv_even, 2), torchs_own(fast.conv_odd, 2)
        self.norm = fast.norm

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(torch.cat([self.conv_even(x), self.conv_odd(x[:, :, 1:, 1:])], dim=1))
        return normalised


class LiteralCell(nn.Module):
    def __init__(self, fast: nn.Module):
        super().__init__()
        assert isinstance(fast, CellModule)
        self.preprocess0, self.preprocess1 = (
            nn.Sequential(nn.ReLU(), literal_module(each)) for each in (fast.preprocess0, fast.preprocess1)
        )
        self.operations = nn.ModuleList(
            nn.Sequential(nn.ReLU(), literal_module(each))
            if isinstance(each, operations.ACTIVATED)
            else literal_module(each)
            for each in fast.operations
        )
        self.sources, self.concat = fast.sources, fast.concat

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        modules = iter(self.operations)
        for sources in self.sources:
            states.append(sum(next(modules)(states[source]) for source in sources))
        return torch.cat([states[entry] for entry in self.concat], dim=1)


class LiteralNetwork(nn.Module):
    """A network of cells, without an auxiliary head."""

    def __init__(self, fast: CellNetwork):
        super().__init__()
        first = fast.first_stem  # its last module is the ReLU that the second stem and the first cell share
        self.first_stem = None if first is None else literal_module(first[:-1])
        stem = literal_module(fast.stem)
        self.stem = stem if first is None else nn.Sequential(nn.ReLU(), stem)
        self.cells = nn.ModuleList(LiteralCell(cell) for cell in fast.cells)
        self.classifier = fast.classifier

    def forward(self, images: Tensor) -> Tensor:
        before_last = None if self.first_stem is None else self.first_stem(images)
        last = self.stem(images if before_last is None else before_last)
        before_last = last if before_last is None else before_last
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(last, 1).flatten(1))
        return logits

    def feature_modules(self) -> list[nn.Module]:
        return [self.stem, *self.cells]

    def pooled_module(self) -> nn.Module:
        return self.cells[-1]


def literal_module(module: nn.Module) -> nn.Module:
    """``module`` as DARTS published it, with the same parameters; in other modules only the children are replaced."""
    if isinstance(module, operations.ConvNorm):
        return nn.Sequential(torchs_own(module.conv), module.norm)
    if isinstance(module, operations.FactorizedReduce):
        return LiteralReduce(module)
    if isinstance(module, operations.SeparableConv):
        return nn.Sequential(torchs_own(module.depthwise), *literal_module(module.pointwise).children())
    for name, child in list(module.named_children()):
        setattr(module, name, literal_module(child))
    return module


def literal_network(network: CellNetwork) -> LiteralNetwork:
    """A copy of ``network`` made of torch's own modules."""
    return LiteralNetwork(copy.deepcopy(network))


class LiteralConv(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1):
        conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


class LiteralZero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class LiteralEdgeCell(nn.Module):
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


class LiteralEdgeNetwork(nn.Sequential):
    """A network of NAS-Bench-201 as the paper describes it."""

    def __init__(self, genotype: EdgeGenotype, spec: NetworkSpec):
        c, layers = spec.stack
        stem = nn.Sequential(nn.Conv2d(spec.image_channels, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        first, second, third = (
            [LiteralEdgeCell(genotype, width) for _ in range(layers // STAGES)] for width in (c, 2 * c, 4 * c)
        )
        super().__init__(
            stem, *first, LiteralResidual(c), *second, LiteralResidual(2 * c), *third,
            nn.BatchNorm2d(4 * c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * c, spec.classes),
        )  # fmt: skip

    def feature_modules(self) -> list[nn.Module]:
        return list(self)[:-5]

    def pooled_module(self) -> nn.Module:
        return list(self)[-4]


def literal_edge_network(network: nn.Module, genotype: EdgeGenotype, spec: NetworkSpec) -> LiteralEdgeNetwork:
    """The network of this genotype with copies of the parameters and buffers of ``network``, which we built of it."""
    literal = LiteralEdgeNetwork(genotype, spec)
    ours, theirs = network.state_dict().values(), literal.state_dict()
    literal.to(next(network.parameters()).dtype)
    literal.load_state_dict(dict(zip(theirs, ours, strict=True)))
    return literal.train(network.training)
