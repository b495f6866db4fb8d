"""Networks and cells computed as a whole: fewer calls and fewer trips through memory than module by module.

On a CPU the operations of a cell are so small that the calls around them, and tensors that have left the cache, cost as
much as the arithmetic. Here a network, or a cell where somebody listens to the cells, is one differentiable function.
Inside of it a tensor is a matrix of rows (:mod:`search_spaces.row_operations`): matrix products add into the sum of a
node, and of a gradient, directly; ReLUs work in place where nobody else reads their input; gradients by parameters that
require none are not computed.

It takes modules that are the search space's own, that nobody listens to (who only looks at ReLUs, or takes the saliency
of layers, excepted), and batch norms that are folded, use the batch's statistics, or are bypassed. Anything else runs
module by module, as written in :mod:`search_spaces.cell_network`, with the same values up to rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from search_spaces.native import is_batch
from search_spaces.operations import hooked, wants_kernels
from search_spaces.row_cell import Cell
from search_spaces.row_convolutions import Convolution
from search_spaces.row_operations import Relu, check_relu
from search_spaces.rows import Gradient, NotPlain, Parameters, Rows, check_layer, check_plain, image, rows, tell

if TYPE_CHECKING:
    from search_spaces.cell_network import CellModule, CellNetwork


class Whole(ABC):
    """A forward pass, and backward passes through it."""

    def __init__(self) -> None:
        self.parameters = Parameters()

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """From images ``(N, C, H, W)`` to the output."""

    @abstractmethod
    def backward(self, gradient: Tensor, by_inputs: Sequence[bool], *, last: bool) -> list[Tensor | None]:
        """The gradients of the inputs, where asked for; those of the parameters are left in :attr:`parameters`.

        :param last: whether there is no further backward pass, so that memory may be freed on the way.
        """


def whole_network(network: CellNetwork, images: Tensor) -> Tensor | None:
    """The logits; None where it has to run module by module."""
    return _run(lambda: NetworkPass(network), images)


def whole_cell(cell: CellModule, before_last: Tensor, last: Tensor) -> Tensor | None:
    """The cell's output; None where it has to run module by module."""
    return _run(lambda: CellPass(cell), before_last, last)


def _run(make: Callable[[], Whole], *inputs: Tensor) -> Tensor | None:
    if _is_traced() or not wants_kernels(inputs[0]) or not len(inputs[0]):
        return None
    try:
        whole = make()
    except NotPlain:
        return None
    tensors = whole.parameters.tensors
    if torch.is_grad_enabled() and any(each.requires_grad for each in (*inputs, *tensors)):
        out: Tensor = _WholePass.apply(whole, len(inputs), *inputs, *tensors)
        return out
    whole.parameters.kept = False
    with torch.no_grad():
        return whole.forward(*inputs)


def _is_traced() -> bool:
    """Whether something has to see every operation, or every module."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


#: Whether the graph is kept for another backward pass; where torch does not say, it may be.
_graph_is_kept: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


class _WholePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Whole, inputs: int, *tensors: Tensor) -> Tensor:
        ctx.whole, ctx.inputs = whole, inputs
        ctx.save_for_backward(*tensors)
        return whole.forward(*tensors[:inputs])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """A parameter that requires no gradient any more gets none."""
        tensors, whole = ctx.saved_tensors, ctx.whole  # in this order: of what was freed, torch tells
        wanted = [asked and each.requires_grad for asked, each in zip(ctx.needs_input_grad[2:], tensors, strict=True)]
        if torch.is_grad_enabled() or is_batch(gradient):
            return None, None, *_differentiable(whole, tensors, ctx.inputs, wanted, gradient)
        whole.parameters.want(wanted[ctx.inputs :])
        last = not _graph_is_kept()
        by_inputs = whole.backward(gradient, wanted[: ctx.inputs], last=last)
        if last:
            ctx.whole = None
        return None, None, *by_inputs, *whole.parameters.taken()


def _differentiable(
    whole: Whole, tensors: Sequence[Tensor], inputs: int, wanted: Sequence[bool], gradient: Tensor
) -> list[Tensor | None]:
    """The gradients by torch's own means, in a repeated pass: to be differentiated again, or many at a time."""
    if not any(wanted):
        return [None] * len(wanted)
    differentiated = torch.is_grad_enabled()
    parameters = whole.parameters
    with torch.enable_grad():
        apart = [each.view_as(each) for each in tensors]  # one tensor may be two of the inputs
        kept, parameters.tensors, parameters.repeated = parameters.tensors, apart[inputs:], True
        try:
            out = whole.forward(*apart[:inputs])
        finally:
            parameters.tensors, parameters.repeated = kept, False
    asked = [each for each, is_wanted in zip(apart, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(out, asked, gradient, create_graph=differentiated, allow_unused=True))
    return [next(found) if is_wanted else None for is_wanted in wanted]


class CellPass(Whole):
    """A cell by itself."""

    def __init__(self, cell: CellModule):
        super().__init__()
        self._cell = Cell(cell, self.parameters, activate=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        before_last, last = inputs
        self._pixels = [(len(x), *x.shape[2:]) for x in inputs]
        return self._cell.forward(rows(before_last), rows(last)).image

    def backward(self, gradient: Tensor, by_inputs: Sequence[bool], *, last: bool) -> list[Tensor | None]:
        found = Gradient(), Gradient()
        self._cell.backward(rows(gradient).values, found)
        return [
            None if each.value is None or not asked else image(each.value, pixels)
            for each, asked, pixels in zip(found, by_inputs, self._pixels, strict=True)
        ]


class NetworkPass(Whole):
    """A network from images to logits."""

    def __init__(self, network: CellNetwork):
        super().__init__()
        from search_spaces.cell_network import CellModule

        for container in (network.cells, network.activations):
            if hooked(container):
                raise NotPlain
        for cell in network.cells:
            check_plain(cell, CellModule)
        for activation in network.activations:
            check_relu(activation)
        self._takers = check_layer(network.classifier, nn.Linear)
        parameters = self.parameters
        self._stem = Convolution(network.stem, parameters)
        activations = list(network.activations)
        inside = [not hooked(each) for each in activations[1:]]  # ReLUs that the cell before takes over
        self._relus = [
            None if within else Relu(each, parameters, alone=True)
            for within, each in zip([False, *inside], activations, strict=True)
        ]
        cells: Any = network.cells
        self._cells = [
            Cell(cell, parameters, activate=within) for cell, within in zip(cells, [*inside, False], strict=True)
        ]
        self._weight = parameters.add(network.classifier.weight)
        self._bias = None if network.classifier.bias is None else parameters.add(network.classifier.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        tensors = self.parameters.tensors
        read = rows(inputs[0])
        self._images, x = read.pixels, self._stem.forward(read)
        before_last: Rows | None = None
        for relu, cell in zip(self._relus, self._cells, strict=True):
            last = x if relu is None else relu.forward(x)
            x = cell.forward(before_last or last, last)
            before_last = last
        n, h, w = self._pixels = x.pixels
        self._pooled = x.values.view(n, h * w, x.values.shape[1]).mean(1)
        bias = None if self._bias is None else tensors[self._bias]
        logits = F.linear(self._pooled, tensors[self._weight], bias)
        self._logits = logits.detach() if self._takers else None
        return logits

    def backward(self, gradient: Tensor, by_inputs: Sequence[bool], *, last: bool) -> list[Tensor | None]:
        parameters, (n, h, w) = self.parameters, self._pixels
        if self._logits is not None:
            tell(self._takers, self._logits, gradient, n)
        if parameters.wanted[self._weight]:
            parameters.gradients[self._weight] = gradient.t() @ self._pooled
        if self._bias is not None and parameters.wanted[self._bias]:
            parameters.gradients[self._bias] = gradient.sum(0)
        by_pooled = gradient @ parameters.tensors[self._weight] / (h * w)
        out = Gradient(by_pooled.unsqueeze(1).expand(n, h * w, -1).reshape(n * h * w, -1))
        found = [Gradient() for _ in self._relus]  # by what each cell reads as the last
        cells = self._cells if last else list(self._cells)
        while cells:
            cell = cells.pop()
            i = len(cells)
            if out.value is not None:
                cell.backward(out.value, (found[max(i - 1, 0)], found[i]))
            relu, out, found[i] = self._relus[i], found[i], Gradient()
            out = out if relu is None else relu.before(out)
        by_images = Gradient()
        if out.value is not None:
            self._stem.backward(out.value, by_images if by_inputs[0] else None)
        return [None if by_images.value is None else image(by_images.value, self._images)]
