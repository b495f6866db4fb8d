"""Depthwise and separable convolutions on rows (:mod:`search_spaces.rows`), and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces import operations
from search_spaces.kernels import convolved, depthwise, depthwise_gradients
from search_spaces.native import library_for
from search_spaces.native_library import LANES, WIDEST, Library
from search_spaces.row_convolutions import Pointwise, behind_norm
from search_spaces.row_operations import Relu
from search_spaces.rows import (
    Gradient,
    NotPlain,
    Parameters,
    Pixels,
    RowOperation,
    Rows,
    check_convolution,
    check_plain,
    image,
    rows,
    tell,
    through,
)


class Depthwise(RowOperation):
    def __init__(self, module: operations.DepthwiseConv, parameters: Parameters):
        super().__init__(parameters)
        self.takers = check_convolution(module, operations.DepthwiseConv)
        self.weight = parameters.add(module.weight)
        dilation, stride = module.dilation[0], module.stride[0]
        self.apart = dilation > 1 and stride > 1  # then all that is read are even rows and columns
        self.steps = (1, 1) if self.apart else (dilation, stride)

    def forward(self, x: Rows) -> Rows:
        read = x.image
        if self.apart:
            read = read[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        convolve = depthwise if torch.is_grad_enabled() else convolved
        out = rows(convolve(read, self._parameters.tensors[self.weight], *self.steps))
        self.keep(read, x.pixels, out)
        return out

    def keep(self, read: Tensor, whole: Pixels, out: Rows) -> None:
        """What it reads, of which whole image, and the output, for the backward pass."""
        if self._parameters.kept:
            self.input, self._whole, self.pixels = read, whole, out.pixels
            self._output = out.values if self.takers else None

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        if self._output is not None:
            tell(self.takers, self._output, gradient, self.pixels[0])
        by_input, self._parameters.gradients[self.weight] = depthwise_gradients(
            image(gradient, self.pixels), self.input, self._parameters.tensors[self.weight], self.steps,
            (True, self._parameters.wanted[self.weight]),
        )  # fmt: skip
        assert by_input is not None
        if self.apart:
            into.add_at(by_input.permute(0, 2, 3, 1), self._whole, 0)
        else:
            into.add(rows(by_input).values, own=True)


class Separable(RowOperation):
    """A depthwise and a pointwise convolution, in one go where there is the C library for it."""

    def __init__(self, module: operations.SeparableConv, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.SeparableConv, operations.DilConv)
        self._depthwise = Depthwise(module.depthwise, parameters)
        self.pointwise = Pointwise(module.pointwise, parameters)

    def last(self, x: Rows) -> tuple[Separable, Rows]:
        """The last separable convolution, and what it reads."""
        return self, x

    def forward(self, x: Rows) -> Rows:
        pointwise = self.pointwise
        bias = None if pointwise.bias is None else self._parameters.tensors[pointwise.bias]
        out = self.product(x, bias)
        return out if pointwise.norm is None else pointwise.norm.forward(out)

    def product(self, x: Rows, plus: Tensor | None) -> Rows:
        """The two convolutions alone, plus a row, or plus a matrix, which they may overwrite."""
        native = self._native(x.values, *([] if plus is None else [plus]))
        if native is None:
            return self.pointwise.product(self._depthwise.forward(x), plus)
        weight, matrix = self._weights
        dilation, stride = self._depthwise.steps
        middle, out = native.separable(x.image, weight, matrix, dilation, stride, plus)
        between = rows(middle)
        self._depthwise.keep(x.image, x.pixels, between)
        self.pointwise.keep(between.values)
        return Rows(out, between.pixels)

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        native, pointwise, depthwise = self._native(), self.pointwise, self._depthwise
        if native is None:
            between = through(pointwise, gradient).value
            assert between is not None
            depthwise.backward(between, into)
            return
        gradient = behind_norm(pointwise.norm, gradient)
        pointwise.find_bias(gradient)
        wanted, found = self._parameters.wanted, self._parameters.gradients
        saliency = gradient.new_empty(depthwise.pixels[0], pointwise.input.shape[1]) if depthwise.takers else None
        by_input, found[depthwise.weight], found[pointwise.weight] = native.separable_gradients(
            gradient, depthwise.input, image(pointwise.input, depthwise.pixels), *self._weights, *depthwise.steps,
            into.to_add_to(), (wanted[depthwise.weight], wanted[pointwise.weight]), saliency,
        )  # fmt: skip
        if saliency is not None:
            for taker in depthwise.takers:
                taker(saliency)
        if by_input is not into.value:
            into.add(by_input, own=True)

    @property
    def _weights(self) -> tuple[Tensor, Tensor]:
        tensors = self._parameters.tensors
        return tensors[self._depthwise.weight], tensors[self.pointwise.weight]

    def _native(self, *tensors: Tensor) -> Library | None:
        """The C library, if it takes these tensors and the weights."""
        weight, matrix = self._weights
        c, o, k = len(weight), len(matrix), weight.shape[-1]
        if self._depthwise.apart or c % LANES or o % LANES or k > WIDEST:
            return None
        if weight.shape != (c, 1, k, k) or matrix.shape != (o, c, 1, 1) or (tensors and tensors[0].shape[1] != c):
            return None  # torch tells
        return library_for(weight, matrix, *tensors)


class Twice(RowOperation):
    """Two separable convolutions, a ReLU between them."""

    def __init__(self, module: operations.SepConv, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.SepConv)
        if len(module) != 3:
            raise NotPlain
        first, relu, second = module
        self._first = Separable(first, parameters)  # type: ignore[arg-type]
        self._relu = Relu(relu, parameters, alone=True)
        self._second = Separable(second, parameters)  # type: ignore[arg-type]
        self.pointwise = self._second.pointwise

    def last(self, x: Rows) -> tuple[Separable, Rows]:
        """The last separable convolution, and what it reads."""
        return self._second, self._relu.forward(self._first.forward(x))

    def forward(self, x: Rows) -> Rows:
        separable, between = self.last(x)
        return separable.forward(between)

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        between = self._relu.before(through(self._second, gradient))
        assert between.value is not None
        self._first.backward(between.value, into)
