"""Supernets: networks in which each edge is a weighted sum of all operations of the space.

The continuous relaxation is that of DARTS (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055): an edge outputs
``sum_o w_o o(x)``, and its architecture weights ``w`` are the softmax of learnable numbers. As published, batch norms
on the edges have no scale and shift. A channel sample with K > 1 is that of PC-DARTS (Xu et al.,
ICLR 2020, https://arxiv.org/abs/1907.05737): one Kth of the channels goes through the operations, the others pass by,
the channels are then shuffled, and the edges that enter a node have weights of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells.operations import ACTIVATED, ConvNorm, Zero

INITIAL_DEVIATION = 1e-3  # of the architecture weights before the softmax, as published
THROUGH_RELU = (*ACTIVATED, ConvNorm)  # operations of an edge that read the ReLU of its input


class State:
    """A tensor ``(N, C, H, W)`` that several edges of a cell read: what they share is computed once.

    :param part: number of channels that go through the operations.
    """

    def __init__(self, x: Tensor, part: int):
        self.x = x
        self.part = part
        self._shared: dict[nn.Module, Tensor] = {}

    @cached_property
    def through(self) -> Tensor:
        """The channels that go through the operations."""
        return self.x if self.part == self.x.shape[1] else self.x[:, : self.part]

    @cached_property
    def activated(self) -> Tensor:
        """Their ReLU."""
        return self.through.relu()

    def shared(self, operation: nn.Module) -> Tensor:
        """The output of an operation that several edges have in common."""
        if operation not in self._shared:
            self._shared[operation] = operation(self.through)
        return self._shared[operation]


class MixedOperation(nn.Module):
    """All operations of one edge: a state and weights ``(operations,)`` -> their weighted sum ``(N, C, H', W')``.

    An operation whose weight is exactly 0 is not computed.

    :param make: operation name, channels and stride -> module.
    :param shared: by name, the operations without weights that all edges from one state have in common; those not there
        yet are added.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Callable[[str, int, int], nn.Module],
        channels: int,
        stride: int,
        partial_channels: int,
        shared: dict[str, nn.Module],
    ):
        super().__init__()
        if channels % partial_channels or (partial_channels > 1 and channels // partial_channels % 2):
            raise ValueError(
                f"partial_channels must divide the {channels} channels of a cell into even numbers, got"
                f" {partial_channels}"
            )
        self.partial_channels = partial_channels
        self.stride = stride
        self.operations = nn.ModuleList()
        for name in names:
            made = shared.get(name) or without_affine(make(name, channels // partial_channels, stride))
            self.operations.append(made)
            if not list(made.parameters()):
                shared[name] = made

    def forward(self, state: State, weights: Tensor, active: Sequence[bool]) -> Tensor:
        """:param active: for each operation, whether its weight is not 0."""
        out: Tensor | None = None
        for operation, weight, used in zip(self.operations, weights, active, strict=True):
            if used and not isinstance(operation, Zero):
                through_relu = isinstance(operation, THROUGH_RELU)
                output = operation(state.activated) if through_relu else state.shared(operation)
                out = weight * output if out is None else torch.addcmul(out, weight, output)
        if out is None:
            out = state.through[:, :, :: self.stride, :: self.stride] * 0.0
        if self.partial_channels == 1:
            return out
        part, rest = state.part, state.x[:, state.part :]
        out = torch.cat([out, F.max_pool2d(rest, 2, 2, ceil_mode=True) if self.stride == 2 else rest], dim=1)
        n, channels, h, w = out.shape
        return out.view(n, self.partial_channels, part, h, w).transpose(1, 2).reshape(n, channels, h, w)


def without_affine(operation: nn.Module) -> nn.Module:
    """``operation``, its batch norms replaced by ones that have no scale and shift."""
    for module in list(operation.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(child.num_features, affine=False))
    return operation


class Supernet(nn.Module):
    """A network with architecture weights: ``(N, image_channels, H, W)`` -> logits ``(N, classes)``.

    ``operations`` names the columns of the architecture weights. ``architecture`` holds them before the softmax, by the
    name of the cell ``(edges, operations)``; with partial channels also the edges' own, ``NAME_edges`` ``(edges,)``.
    ``groups`` holds, by the name of the cell and for each of its nodes, the indices of the edges that enter it.
    """

    operations: tuple[str, ...]
    groups: Mapping[str, Sequence[Sequence[int]]]

    def __init__(self, edges: Mapping[str, int], partial_channels: int):
        super().__init__()
        self.architecture = nn.ParameterDict()
        for name, count in edges.items():
            self.architecture[name] = nn.Parameter(INITIAL_DEVIATION * torch.randn(count, len(self.operations)))
        if partial_channels > 1:
            for name, count in edges.items():
                self.architecture[f"{name}_edges"] = nn.Parameter(INITIAL_DEVIATION * torch.randn(count))

    def mixing(self) -> dict[str, Tensor]:
        """By the name of the cell ``(edges, operations)``: the softmax of the architecture weights."""
        return {name: self.architecture[name].softmax(-1) for name in self.groups}

    def edge_shares(self) -> dict[str, Tensor]:
        """By the name of the cell ``(edges,)``: the softmax over the edges that enter a node, or 1."""
        shares = {}
        for name, nodes in self.groups.items():
            own = self.architecture.get(f"{name}_edges", None)
            like = self.architecture[name]
            shares[name] = (
                like.new_ones(len(like)) if own is None else torch.cat([own[list(node)].softmax(0) for node in nodes])
            )
        return shares

    def strengths(self, mixing: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """What a genotype is derived from: ``mixing``, times the weights of the edges; detached."""
        mixing, shares = mixing or self.mixing(), self.edge_shares()
        return {name: (mixing[name] * shares[name][:, None]).detach() for name in self.groups}

    def network_parameters(self) -> list[nn.Parameter]:
        """All parameters except the architecture weights."""
        own = set(map(id, self.architecture.values()))
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    @abstractmethod
    def mixed_edges(self) -> list[tuple[str, list[nn.Module]]]:
        """For each cell of the network, its name and its edges in the order of the architecture weights' rows."""

    def expected_parameters(self, mixing: Mapping[str, Tensor]) -> Tensor:
        """``()``: the number of the network's parameters, where those of an operation count as often as its weight."""
        total = mixing[next(iter(self.groups))].new_tensor(sum(each.numel() for each in self.network_parameters()))
        for name, edges in self.mixed_edges():
            operations = [edge.get_submodule("operations").children() for edge in edges]
            counts = [[sum(each.numel() for each in made.parameters()) for made in row] for row in operations]
            total = total + (total.new_tensor(counts) * (mixing[name] - 1)).sum()
        return total

    def weighted(self, mixing: Mapping[str, Tensor] | None) -> dict[str, tuple[Tensor, list[list[bool]]]]:
        """For each cell, the weights ``(edges, operations)`` and which of them are not 0."""
        mixing, shares = mixing or self.mixing(), self.edge_shares()
        return {
            name: (mixing[name] * shares[name][:, None], (mixing[name].detach() != 0).tolist()) for name in self.groups
        }

    @abstractmethod
    def forward(self, images: Tensor, mixing: Mapping[str, Tensor] | None = None) -> Tensor:
        """:param mixing: weights to use instead of :meth:`mixing`, in its shapes."""
