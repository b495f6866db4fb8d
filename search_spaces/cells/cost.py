"""Parameters and MACs of cell networks, counted without building them.

A network consists of a few kinds of pieces (the stem, the cells' preprocessing, the operations, the classifier), each
at a few widths and resolutions. Each piece is built once on torch's meta device, where tensors have a shape but no
memory; the shapes of its weights give its cost, and a network's cost is the sum over its pieces. No forward pass is
run: torch's FLOP counter would need one, and a forward pass on the meta device imports torch's compiler, which takes
three seconds. The tests compare every count with that counter.

MACs are those of convolutions and linear layers, as torch counts them: products with padding are included; batch norms,
pooling and additions are not. Published tables often include these too (about 3.5 % at 36 channels and 20 layers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import nn

from search_spaces.base import Cost, NetworkSpec
from search_spaces.cells.genotype import Cell, CellStack, reduction_layers
from search_spaces.cells.network import STEM_MULTIPLIER, first_stem, second_stem
from search_spaces.cells.operations import OPERATIONS, ConvNorm, FactorizedReduce

Size = tuple[int, int]


@lru_cache(maxsize=8192)
def piece_cost(make: Callable[..., nn.Module], arguments: tuple[int, ...], shape: tuple[int, ...]) -> Cost:
    """The cost of ``make(*arguments)`` on one input of ``shape``, which has no batch dimension."""
    with torch.device("meta"):
        piece = make(*arguments)
    return Cost(sum(parameter.numel() for parameter in piece.parameters()), _macs(piece, shape))


def _macs(piece: nn.Module, shape: tuple[int, ...]) -> int:
    if isinstance(piece, nn.Linear):
        return piece.weight.numel()
    if isinstance(piece, FactorizedReduce):  # its two convolutions both read the input
        height, width = _halved((shape[1], shape[2]))
        return (piece.conv_even.weight.numel() + piece.conv_odd.weight.numel()) * height * width
    size, macs = shape[1:], 0
    for conv in (module for module in piece.modules() if isinstance(module, nn.Conv2d)):
        size = tuple(_output_length(conv, axis, length) for axis, length in enumerate(size))
        macs += conv.weight.numel() * size[0] * size[1]
    return macs


def _output_length(conv: nn.Conv2d, axis: int, length: int) -> int:
    """Rows (axis 0) or columns (axis 1) of the output of ``conv`` on an input of ``length`` rows or columns."""
    assert not isinstance(conv.padding, str)
    reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
    return (length + 2 * conv.padding[axis] - reach) // conv.stride[axis] + 1


def network_cost(genotype: CellStack, spec: NetworkSpec, imagenet: bool = False) -> Cost:
    """The cost of the :class:`~search_spaces.cells.network.CellNetwork`, without its auxiliary head."""
    pieces = list(_pieces(genotype, spec, imagenet))
    return Cost(sum(piece.params for piece in pieces), sum(piece.macs for piece in pieces))


def _pieces(genotype: CellStack, spec: NetworkSpec, imagenet: bool) -> Iterator[Cost]:
    """The cost of every piece, in the order in which :class:`~search_spaces.cells.network.CellNetwork` runs them."""
    channels, layers = spec.stack
    image, size = (spec.image_channels, *spec.image_size), spec.image_size
    if imagenet:
        yield piece_cost(first_stem, (spec.image_channels, channels), image)
        size = _halved(_halved(size))
        before_last = (channels, *size)  # (C, H, W) of what the first cell reads
        yield piece_cost(second_stem, (channels,), before_last)
        last = (channels, *_halved(size))
    else:
        width = STEM_MULTIPLIER * channels
        yield piece_cost(ConvNorm, (spec.image_channels, width, 3, 1, 1), image)
        before_last = last = (width, *size)
    reduced_before = imagenet
    for layer in range(layers):
        reduction = layer in reduction_layers(layers)
        channels *= 2 if reduction else 1
        cell = genotype.cell(layer, layers)
        size = (last[1], last[2])
        yield (
            piece_cost(FactorizedReduce, (before_last[0], channels), before_last)
            if reduced_before
            else piece_cost(ConvNorm, (before_last[0], channels, 1), before_last)
        )
        yield piece_cost(ConvNorm, (last[0], channels, 1), last)
        yield from _operations(cell, channels, size, reduction)
        before_last, last = last, (len(cell.concat) * channels, *(_halved(size) if reduction else size))
        reduced_before = reduction
    yield piece_cost(nn.Linear, (last[0], spec.classes), last[:1])


def _operations(cell: Cell, channels: int, size: Size, reduction: bool) -> Iterator[Cost]:
    for name, source in cell.edges:
        if reduction and source < 2:
            yield piece_cost(OPERATIONS[name], (channels, 2), (channels, *size))
        else:
            yield piece_cost(OPERATIONS[name], (channels, 1), (channels, *(_halved(size) if reduction else size)))


def _halved(size: Size) -> Size:
    """The resolution after a stride of 2."""
    return -(-size[0] // 2), -(-size[1] // 2)
