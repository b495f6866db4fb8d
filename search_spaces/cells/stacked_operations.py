"""The modules of a stack: operations on ``(N, B C, H, W)``, B blocks of C channels each.

:mod:`search_spaces.cells.stacked` puts them together. Every module with weights has ``members``: for each block that it
computes, the number of a network and the path of that network's module whose weights the block has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.cells.folding import Foldable
from search_spaces.cells.operations import ConvNorm, DepthwiseConv, SharedReLU, folded_norm, pad_to_even

Member = tuple[int, str]


class OwnedReLU(SharedReLU):
    """A ReLU of blocks in a stack of ``width`` networks; ``owners[b]`` is the number of block b's network.

    Proxies that compare ReLU units read the owners (:class:`proxies.engine.hooks.AgreementObserver`).
    """

    def __init__(self, owners: Sequence[int], width: int, readers: int = 1):
        super().__init__(readers)
        self.owners, self.width = tuple(owners), width


class GroupedConv(nn.Conv2d):
    """A bias-free convolution of each block with weights of its own. Its weights are not initialised."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, members: Sequence[Member]):
        groups, padding = len(members), kernel_size // 2
        super().__init__(groups * c_in, groups * c_out, kernel_size, padding=padding, groups=groups, bias=False)
        self.members = members

    def reset_parameters(self) -> None:
        return

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A kernel of one pixel is a batched matrix product, of ``(C', C)`` with ``(C, H W)`` for image and block."""
        if self.kernel_size != (1, 1):
            convolved: Tensor = super()._conv_forward(x, weight, bias)
            return convolved
        n, _, h, w = x.shape
        c_in = self.in_channels // self.groups
        out = weight.reshape(self.groups, -1, c_in) @ x.reshape(n, self.groups, c_in, h * w)
        if bias is not None:
            out.add_(bias.reshape(self.groups, -1, 1))
        return out.reshape(n, -1, h, w)


class GroupedConvNorm(ConvNorm):
    """A :class:`GroupedConv` and its batch norm."""

    def __init__(self, c_in: int, c_out: int, members: Sequence[Member], kernel_size: int = 1):
        Foldable.__init__(self)
        self.conv = GroupedConv(c_in, c_out, kernel_size, [(k, f"{path}.conv") for k, path in members])
        self.norm = grouped_norm(c_out, [(k, f"{path}.norm") for k, path in members])

    def fold(self) -> tuple[Tensor, ...] | None:
        return folded_norm(self.norm, self.conv.weight)


def grouped_norm(channels: int, members: Sequence[Member]) -> nn.BatchNorm2d:
    """A batch norm of blocks with ``channels`` each, which does not count its batches."""
    norm = nn.BatchNorm2d(len(members) * channels)
    norm.num_batches_tracked = None
    norm.members = members  # type: ignore[assignment]
    return norm


class GroupedReduce(Foldable):
    """:class:`~search_spaces.cells.operations.FactorizedReduce` of each block, with weights of its own."""

    def __init__(self, c_in: int, c_out: int, members: Sequence[Member]):
        super().__init__()
        self.blocks, self.c_in = len(members), c_in
        self.conv_even, self.conv_odd = (
            GroupedConv(c_in, c_out // 2, 1, [(k, f"{path}.{name}") for k, path in members])
            for name in ("conv_even", "conv_odd")
        )
        self.norm = grouped_norm(c_out, [(k, f"{path}.norm") for k, path in members])

    def fold(self) -> tuple[Tensor, ...] | None:
        weights = [conv.weight.view(self.blocks, -1, self.c_in) for conv in (self.conv_even, self.conv_odd)]
        return folded_norm(self.norm, torch.cat(weights, 1).view(-1, self.c_in, 1, 1))

    def fold_parameters(self) -> tuple[Tensor, ...]:
        return self.conv_even.weight, self.conv_odd.weight, self.norm.weight, self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_even(x)
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        if self.folded_tensors is None:
            normalised: Tensor = self.norm(self._joined(self.conv_even(even), self.conv_odd(odd)))
            return normalised
        weights, biases = (each.reshape(self.blocks, 2, -1).unbind(1) for each in self.folded_tensors)
        even = self.conv_even._conv_forward(even, weights[0], biases[0])
        return self._joined(even, self.conv_odd._conv_forward(odd, weights[1], biases[1]))

    def _joined(self, even: Tensor, odd: Tensor) -> Tensor:
        """In each block, the channels of ``even``, then those of ``odd``."""
        n, _, h, w = even.shape
        halves = [each.reshape(n * self.blocks, -1, h, w) for each in (even, odd)]
        return torch.cat(halves, 1).reshape(n, -1, h, w)


class GroupedDepthwiseConv(DepthwiseConv):
    """A depthwise convolution of blocks. Its weights are not initialised."""

    def __init__(self, channels: int, kernel_size: int, stride: int, dilation: int, members: Sequence[Member]):
        super().__init__(len(members) * channels, kernel_size, stride, dilation)
        self.members = members

    def reset_parameters(self) -> None:
        return


class GroupedSeparableConv(nn.Module):
    """Depthwise convolutions, one for each operation and its tensor; a pointwise one and a batch norm for all blocks.

    :param members: by operation, whose name ends with the size of the kernel.
    """

    def __init__(self, members: Mapping[str, Sequence[Member]], channels: int, stride: int, dilation: int = 1):
        super().__init__()
        self.depthwise = nn.ModuleList()
        for name, own in members.items():
            each = [(k, f"{path}.depthwise") for k, path in own]
            self.depthwise.append(GroupedDepthwiseConv(channels, int(name[-1]), stride, dilation, each))
        everyone = [(k, f"{path}.pointwise") for own in members.values() for k, path in own]
        self.pointwise = GroupedConvNorm(channels, channels, everyone)

    def forward(self, *parts: Tensor) -> Tensor:
        convolved = [depthwise(x) for depthwise, x in zip(self.depthwise, parts, strict=True)]
        normalised: Tensor = self.pointwise(torch.cat(convolved, 1))
        return normalised


class GroupedSepConv(nn.Module):
    """Two :class:`GroupedSeparableConv`, the first with the stride, a ReLU between them."""

    def __init__(self, members: Mapping[str, Sequence[Member]], width: int, channels: int, stride: int):
        super().__init__()
        first, second = (
            {name: [(k, f"{path}.{number}") for k, path in own] for name, own in members.items()} for number in (0, 2)
        )
        self.first = GroupedSeparableConv(first, channels, stride)
        self.relu = OwnedReLU([k for own in members.values() for k, _ in own], width)
        self.second = GroupedSeparableConv(second, channels, 1)

    def forward(self, *parts: Tensor) -> Tensor:
        activated = self.relu(self.first(*parts)).split([x.shape[1] for x in parts], 1)
        convolved: Tensor = self.second(*activated)
        return convolved


class GroupedLinear(nn.Linear):
    """A linear layer for each network: ``(N, K, C)`` -> ``(N, K, classes)``. Its weights are not initialised."""

    def __init__(self, c_in: int, classes: int, members: Sequence[Member]):
        super().__init__(c_in, len(members) * classes)
        self.members = members

    def reset_parameters(self) -> None:
        return

    def forward(self, x: Tensor) -> Tensor:
        k = len(self.members)
        weight, bias = self.weight.view(k, -1, self.in_features), self.bias.view(k, 1, -1)
        return torch.baddbmm(bias, x.transpose(0, 1), weight.mT).transpose(0, 1)


class Select(nn.Module):
    """Block i of the output is the sum of the input's blocks ``wanted[i]``, which are equally many for all i."""

    def __init__(self, wanted: Sequence[Sequence[int]], blocks: int):
        super().__init__()
        self.blocks = blocks
        self.trivial = list(wanted) == [[b] for b in range(blocks)]
        #: the gradient of a block is the sum of what its readers receive: in rank r stand the r-th readers of blocks
        ranks: list[dict[int, int]] = []
        for reader, sources in enumerate(wanted):
            for source in sources:
                rank = next((each for each in ranks if source not in each), None)
                if rank is None:
                    ranks.append(rank := {})
                rank[source] = reader
        self._terms = len(wanted[0])
        pairs = [sorted(rank.items()) for rank in ranks]
        self.numbers = [[each[term] for each in wanted] for term in range(self._terms)]
        self.numbers += [[pair[side] for pair in rank] for rank in pairs for side in (0, 1)]
        self.place([torch.tensor(each) for each in self.numbers])

    def place(self, tensors: Sequence[Tensor]) -> None:
        """Take the tensors of :attr:`numbers`, which are on the device of the input."""
        self.terms, rest = tensors[: self._terms], tensors[self._terms :]
        self.ranks = list(zip(rest[::2], rest[1::2], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        if self.trivial:
            return x
        selected: Tensor = _Select.apply(x, self.terms, self.ranks, self.blocks)
        return selected


class _Select(torch.autograd.Function):
    """The gradient is summed in a fixed order, on an accelerator as well: no rank holds a block twice."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, terms: Sequence[Tensor], ranks: Sequence[tuple[Tensor, Tensor]], blocks: int
    ) -> Tensor:
        ctx.ranks, ctx.blocks, ctx.readers = ranks, blocks, len(terms[0])
        n, channels, h, w = x.shape
        states = x.reshape(n, blocks, channels // blocks, h, w)
        out = states.index_select(1, terms[0])
        for term in terms[1:]:
            out += states.index_select(1, term)
        return out.reshape(n, -1, h, w)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (blocks, readers), *others = ctx.ranks
        n, channels, h, w = gradient.shape
        gradient = gradient.reshape(n, ctx.readers, channels // ctx.readers, h, w)
        found = gradient.index_select(1, readers)
        if len(blocks) < ctx.blocks:  # some blocks are not read
            found = found.new_zeros(n, ctx.blocks, *found.shape[2:]).index_add_(1, blocks, found)
        for blocks, readers in others:
            found.index_add_(1, blocks, gradient.index_select(1, readers))
        return found.reshape(n, -1, h, w), None, None, None
