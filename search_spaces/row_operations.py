"""What has no weights, on rows (:mod:`search_spaces.rows`): ReLU, poolings, the identity, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import operations
from search_spaces.kernels import depthwise_gradients
from search_spaces.operations import hooked
from search_spaces.rows import Gradient, NotPlain, Parameters, RowOperation, Rows, check_plain, image, promised, rows


class Relu:
    """A ReLU; its module is called only if somebody listens to it.

    Who listens while gradients are wanted has to promise that it only looks, by ``only_looks = True`` on the hook: what
    it is shown is the inside of a function, which knows of no gradient.

    :param module: None where the network has no module for it. :param alone: whether nobody else reads the input.
    """

    def __init__(self, module: nn.Module | None, parameters: Parameters, *, alone: bool):
        self._module = None
        if module is not None:
            check_relu(module)
            self._module = module if hooked(module) else None
        self._parameters = parameters
        self._alone = alone

    def forward(self, x: Rows) -> Rows:
        """The output."""
        if self._module is not None and not self._parameters.repeated:
            out = rows(self._module(x.image))
        else:
            out = Rows(x.values.relu_() if self._alone else x.values.relu(), x.pixels)
        if self._parameters.kept:
            self._output = out.values
        return out

    def before(self, behind: Gradient) -> Gradient:
        """The gradient by the input, which may take the place of the output's."""
        if behind.value is None:
            return behind
        if behind.own:
            torch.ops.aten.threshold_backward.grad_input(behind.value, self._output, 0, grad_input=behind.value)
            return behind
        return Gradient(torch.ops.aten.threshold_backward(behind.value, self._output, 0), own=True)


def check_relu(module: nn.Module) -> None:
    """:raises NotPlain: it is no ReLU, or who listens to it does more than look."""
    if type(module) is not nn.ReLU or "forward" in module.__dict__:
        raise NotPlain
    if module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise NotPlain
    hooks = module._forward_hooks.values()
    if torch.is_grad_enabled() and not all(promised(hook, "only_looks") for hook in hooks):
        raise NotPlain


class MaxPool(RowOperation):
    def __init__(self, module: nn.MaxPool2d, parameters: Parameters):
        super().__init__(parameters)
        check_plain(module, nn.MaxPool2d)
        if module.ceil_mode or module.return_indices or module.dilation != 1:
            raise NotPlain
        if not all(isinstance(each, int) for each in (module.kernel_size, module.stride, module.padding)):
            raise NotPlain
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
        by_input, _ = depthwise_gradients(weighted, shape, kernel, (1, stride), (True, False))
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
