"""What has no weights, on rows (:mod:`search_spaces.rows`): ReLU, poolings, the identity, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import operations
from search_spaces.kernels import torch_gradients
from search_spaces.rows import Gradient, NotPlain, Parameters, RowOperation, Rows, check_plain, image, rows


class Relu(RowOperation):
    """:param module: called if somebody listens to it. :param alone: whether nobody else reads the input."""

    def __init__(self, module: nn.Module | None, parameters: Parameters, *, alone: bool):
        super().__init__(parameters)
        if module is not None and type(module) is not nn.ReLU:
            raise NotPlain
        self._module = module if module is not None and operations.hooked(module) else None
        self._alone = alone

    def forward(self, x: Rows) -> Rows:
        if self._module is not None and not self._parameters.repeated:
            out = rows(self._module(x.image))
        else:
            out = Rows(x.values.relu_() if self._alone else x.values.relu(), x.pixels)
        if self._parameters.kept:
            self._output = out.values
        return out

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        into.add_all(self.before(Gradient(gradient)))

    def before(self, behind: Gradient) -> Gradient:
        """The gradient by the input, which may take the place of the output's."""
        if behind.value is None:
            return behind
        if behind.own:
            torch.ops.aten.threshold_backward.grad_input(behind.value, self._output, 0, grad_input=behind.value)
            return behind
        return Gradient(torch.ops.aten.threshold_backward(behind.value, self._output, 0), own=True)


class MaxPool(RowOperation):
    def __init__(self, module: nn.MaxPool2d, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, nn.MaxPool2d)
        self._window: Any = [(each, each) for each in (module.kernel_size, module.stride, module.padding)]

    def forward(self, x: Rows) -> Rows:
        out, indices = F.max_pool2d_with_indices(x.image, *self._window)
        pooled = rows(out)
        if self._parameters.kept:
            self._input, self._indices, self._pixels = x.image, indices, pooled.pixels
        return pooled

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        by_input = torch.ops.aten.max_pool2d_with_indices_backward(
            image(gradient, self._pixels), self._input, *self._window, (1, 1), False, self._indices
        )
        into.add(rows(by_input).values, own=True)


class AvgPool(RowOperation):
    def __init__(self, module: operations.AvgPool, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, operations.AvgPool)
        self._module = module

    def forward(self, x: Rows) -> Rows:
        out = rows(self._module(x.image))
        self._input, self._output = x.pixels, out.pixels
        return out

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        (n, h, w), c, stride = self._input, gradient.shape[1], self._module.stride
        shape = Rows(gradient.new_empty(n * h * w, c), self._input).image  # of the input, whose values do not matter
        weighted = image(gradient, self._output) * operations.average_weights(h, w, stride, gradient.dtype)
        kernel = operations.average_kernel(c, gradient.dtype)
        by_input, _ = torch_gradients(weighted, shape, kernel, stride, (True, False))
        assert by_input is not None
        into.add(rows(by_input).values, own=True)


class Skip(RowOperation):
    fresh = False

    def __init__(self, module: nn.Identity, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, nn.Identity)

    def forward(self, x: Rows) -> Rows:
        return x

    def backward(self, gradient: Tensor, into: Gradient) -> None:
        into.add(gradient, own=False)
