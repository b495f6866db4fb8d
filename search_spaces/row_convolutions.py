"""Convolutions on rows (:mod:`search_spaces.rows`), with the norms behind them, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import operations
from search_spaces.native import library_for
from search_spaces.native_library import LANES, Library
from search_spaces.rows import (
    Gradient,
    NotPlain,
    Parameters,
    RowOperation,
    Rows,
    Taker,
    check_convolution,
    check_plain,
    image,
    rows,
    tell,
    through,
)


class BatchNorm(RowOperation):
    """A batch norm that uses the batch's statistics, and updates the running ones as the module would.

    :param takers: who asks for the saliency of each of the convolutions whose outputs it is given, side by side.
    """

    def __init__(self, module: nn.BatchNorm2d, parameters: Parameters, takers: Sequence[Sequence[Taker]]):
        super().__init__(parameters)
        self._module, self._takers = module, takers
        self._weight, self._bias = parameters.add(module.weight), parameters.add(module.bias)

    def forward(self, x: Rows) -> Rows:
        module, tensors = self._module, self._parameters.tensors
        if len(x.values) == 1:
            raise ValueError("Expected more than 1 value per channel when training, got 1")  # in torch's words
        mean = variance = None
        momentum = 0.0
        if module.track_running_stats and not self._parameters.repeated:
            mean, variance, seen = module.running_mean, module.running_var, module.num_batches_tracked
            momentum = 0.0 if module.momentum is None else module.momentum
            if seen is not None:
                seen.add_(1)
                momentum = 1 / seen.item() if module.momentum is None else momentum
        weight, bias = tensors[self._weight], tensors[self._bias]
        statistics = [each for each in (mean, variance) if each is not None]
        for each in (weight, bias, *statistics):
            if each.shape != x.values.shape[1:]:  # neither torch's operation nor C would look
                raise RuntimeError(f"a batch norm of {len(each)} channels is given {x.values.shape[1]}")
        native = self._native(x.values, weight, bias, *statistics)
        if native is None:
            out, self._mean, self._invstd = torch.native_batch_norm(
                x.image, weight, bias, mean, variance, True, momentum, module.eps
            )
            normed = rows(out)
        else:
            values, self._mean, self._invstd = native.batch_norm(
                x.values, weight, bias, (mean, variance), momentum, module.eps
            )
            normed = Rows(values, x.pixels)
        if self._parameters.kept:
            self._input = x
        return normed

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        weight, values = self._parameters.tensors[self._weight], self._input.values
        native = self._native(values, weight, gradient, self._mean, self._invstd)
        if native is None:
            by_input, *others = torch.ops.aten.native_batch_norm_backward(
                image(gradient, self._input.pixels), self._input.image, weight, None, None, self._mean, self._invstd,
                True, self._module.eps, (True, True, True),
            )  # fmt: skip
            before = rows(by_input).values
        else:
            before, *others = native.batch_norm_gradients(gradient, values, weight, self._mean, self._invstd)
        for number, by_parameter in zip((self._weight, self._bias), others, strict=True):
            if self._parameters.wanted[number]:
                self._parameters.gradients[number] = by_parameter
        columns = (each.chunk(len(self._takers), 1) for each in (self._input.values, before))
        for takers, output, by_output in zip(self._takers, *columns, strict=True):
            tell(takers, output, by_output, self._input.pixels[0])
        into.add(before, own=True)

    def _native(self, values: Tensor, weight: Tensor, *others: Tensor) -> Library | None:
        """The C library, if it takes these rows."""
        in_place = (each for each in others if each.ndim == 1)
        fits = len(weight) % LANES == 0 and values.is_contiguous() and all(each.is_contiguous() for each in in_place)
        return library_for(values, weight, *others) if fits else None


class Convolution(RowOperation):
    """A convolution over all channels; the folded norm's bias, or the batch norm behind it."""

    def __init__(self, module: operations.ConvNorm, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.ConvNorm)
        takers = check_convolution(module.conv, nn.Conv2d)
        if module.conv.groups != 1 or module.conv.dilation != (1, 1):
            raise NotPlain
        self._steps: Any = module.conv.stride, module.conv.padding
        self._norm, (self._weight, *biases) = normalised(module, [module.conv.weight], parameters, [takers])
        self._bias = biases[0] if biases else None

    def forward(self, x: Rows) -> Rows:
        tensors = self._parameters.tensors
        bias = None if self._bias is None else tensors[self._bias]
        out = rows(F.conv2d(x.image, tensors[self._weight], bias, *self._steps))
        if self._parameters.kept:
            self._input, self._pixels = x.image, out.pixels
        return out if self._norm is None else self._norm.forward(out)

    def backward(self, gradient: Tensor, into: Gradient | None) -> None:
        """:param into: None where the input's gradient is not wanted."""
        gradient = behind_norm(self._norm, gradient)
        wanted, found = self._parameters.wanted, self._parameters.gradients
        bias = self._bias is not None and wanted[self._bias]
        by_input, found[self._weight], by_bias = torch.ops.aten.convolution_backward(
            image(gradient, self._pixels), self._input, self._parameters.tensors[self._weight],
            None if self._bias is None else [gradient.shape[1]], *self._steps, (1, 1), False, (0, 0), 1,
            (into is not None, wanted[self._weight], bias),
        )  # fmt: skip
        if self._bias is not None:
            found[self._bias] = by_bias
        if into is not None:
            into.add(rows(by_input).values, own=True)


class Pointwise(RowOperation):
    """A 1x1 convolution: a matrix product. ``bias``: the folded norm's, ``norm``: the batch norm behind it."""

    def __init__(self, module: operations.ConvNorm, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.ConvNorm)
        takers = check_convolution(module.conv, operations.PointwiseConv)
        self.norm, (self.weight, *biases) = normalised(module, [module.conv.weight], parameters, [takers])
        self.bias = biases[0] if biases else None

    @property
    def _matrix(self) -> Tensor:
        return self._parameters.tensors[self.weight].flatten(1)  # O C

    def forward(self, x: Rows) -> Rows:
        out = self.product(x, None if self.bias is None else self._parameters.tensors[self.bias])
        return out if self.norm is None else self.norm.forward(out)

    def product(self, x: Rows, plus: Tensor | None) -> Rows:
        """The product alone, plus a row, or plus a matrix, which it may overwrite."""
        self.keep(x.values)
        native = self._native(x.values, plus)
        if native is not None:
            return Rows(native.pointwise(x.values, self._parameters.tensors[self.weight], plus), x.pixels)
        if plus is None:
            return Rows(x.values @ self._matrix.t(), x.pixels)
        in_place = plus.ndim == 2 and not torch.is_grad_enabled()
        return Rows(torch.addmm(plus, x.values, self._matrix.t(), out=plus if in_place else None), x.pixels)

    def keep(self, values: Tensor) -> None:
        """The rows that it reads, for the backward pass."""
        if self._parameters.kept:
            self.input = values

    def _native(self, values: Tensor, plus: Tensor | None = None) -> Library | None:
        """The C library, if it takes these rows."""
        weight = self._parameters.tensors[self.weight]
        if len(weight) % LANES or values.shape[1] % LANES or not values.is_contiguous():
            return None
        if weight.shape != (len(weight), values.shape[1], 1, 1):
            return None  # torch tells
        return library_for(values, weight, *([] if plus is None else [plus]))

    def find_bias(self, gradient: Tensor) -> None:
        """The folded bias' gradient, from the output's."""
        if self.bias is not None:
            self._find(self.bias, lambda: gradient.sum(0))

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        gradient, weight = behind_norm(self.norm, gradient), self._parameters.tensors[self.weight]
        self.find_bias(gradient)
        native = self._native(self.input)
        if native is not None:
            wanted, found = self._parameters.wanted[self.weight], self._parameters.gradients
            add_to = into.to_add_to()
            by_input, found[self.weight] = native.pointwise_gradients(gradient, self.input, weight, add_to, wanted)
            if by_input is not add_to:
                into.add(by_input, own=True)
            return
        self._find(self.weight, lambda: (gradient.t() @ self.input).view_as(weight))
        into.add_product(gradient, self._matrix)


class Reduce(RowOperation):
    """A factorized reduction: a 1x1 convolution of the pixels of even row and column beside one of the odd."""

    def __init__(self, module: operations.FactorizedReduce, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.FactorizedReduce)
        halves = module.conv_even, module.conv_odd
        takers = [check_convolution(half, operations.PointwiseConv) for half in halves]
        self._norm, numbers = normalised(module, [half.weight for half in halves], parameters, takers)
        self._weights, self._biases = numbers[:2], numbers[2:]

    def forward(self, x: Rows) -> Rows:
        tensors, (n, h, w) = self._parameters.tensors, x.pixels
        pixels = x.values.view(n, h, w, x.values.shape[1])
        even, odd = pixels[:, ::2, ::2], pixels[:, 1::2, 1::2]
        halves = [each.reshape(-1, each.shape[-1]) for each in (even, F.pad(odd, (0, 0, 0, w % 2, 0, h % 2)))]
        out = torch.cat([
            F.linear(half, tensors[self._weights[i]].flatten(1), tensors[self._biases[i]] if self._biases else None)
            for i, half in enumerate(halves)
        ], 1)  # fmt: skip
        if self._parameters.kept:
            self._inputs, self._pixels = halves, x.pixels
        reduced = Rows(out, (n, even.shape[1], even.shape[2]))
        return reduced if self._norm is None else self._norm.forward(reduced)

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        n, h, w = self._pixels
        for i, (half, read) in enumerate(zip(behind_norm(self._norm, gradient).chunk(2, 1), self._inputs, strict=True)):
            weight = self._parameters.tensors[self._weights[i]]
            if self._biases:
                self._find(self._biases[i], partial(half.sum, 0))
            self._find(self._weights[i], lambda half=half, read=read, w=weight: (half.t() @ read).view_as(w))  # type: ignore[misc]
            by_pixel = (half @ weight.flatten(1)).view(n, (h + 1) // 2, (w + 1) // 2, weight.shape[1])
            into.add_at(by_pixel[:, : (h + 1 - i) // 2, : (w + 1 - i) // 2], self._pixels, i)


def behind_norm(norm: BatchNorm | None, gradient: Tensor) -> Tensor:
    """The gradient by what a batch norm is given."""
    if norm is None:
        return gradient
    before = through(norm, gradient).value
    assert before is not None
    return before


def normalised(
    module: operations.ConvNorm | operations.FactorizedReduce, weights: Sequence[Tensor], parameters: Parameters,
    takers: Sequence[Sequence[Taker]],
) -> tuple[BatchNorm | None, list[int]]:  # fmt: skip
    """The batch norm that has to run, and the numbers of the weights and, of a folded one, the biases.

    :param takers: who asks for the saliency of each of the convolutions before it.
    """
    tensors = module.folded_tensors or module.fold()
    if tensors is not None and any(takers):
        raise NotPlain  # folded before somebody listened
    if tensors is not None:
        return None, [parameters.add(each) for each in tensors]
    norm = module.norm
    check_plain(norm, nn.Identity, nn.BatchNorm2d)
    numbers = [parameters.add(each) for each in weights]
    if isinstance(norm, nn.BatchNorm2d):
        if not (norm.affine and norm.training):
            raise NotPlain
        return BatchNorm(norm, parameters, takers), numbers
    if any(takers):
        raise NotPlain
    return None, numbers
