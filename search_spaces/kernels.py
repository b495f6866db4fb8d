"""Exact replacements for gradients that torch computes slowly on a CPU.

Each is a differentiable function of its own, and so are its gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.native import depthwise_library, is_batch, is_depthwise, watched

LARGEST_FOR_COLUMNS = 2**17  # numbers of an image batch up to which its columns, k^2 times as many, are faster


def exporting() -> bool:
    """Whether a graph is traced for other programs, which know torch's own operations only."""
    traced: bool = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()  # the former since torch 2.7
    return traced


def depthwise(x: Tensor, weight: Tensor, dilation: int = 1, stride: int = 1) -> Tensor:
    """A depthwise convolution padded by ``dilation (k // 2)``, ``(N, C, H, W)``, weight ``(C, 1, k, k)``, k odd.

    Either the stride or the dilation is 1. torch is fast forward; of its gradients on a CPU these are not. The C
    library has all of them; without it they are, at stride 1, computed otherwise:

    * the input's: the same convolution with the kernel turned round;
    * the weight's, of kernels wider than 3: as that of kernels of 3 columns (:func:`weight_gradient`);
    * the weight's, of dilation 2: that of undilated convolutions on the phases of the image (the pixels whose row and
      column leave equal remainders modulo the dilation), or, for phases smaller than the kernel, a few matrix products.

    In float64 torch goes channel by channel, also forward; of a few images a product with their columns is faster.
    """
    if stride > 1 and dilation > 1:
        raise ValueError(f"expected a stride or a dilation of 1, got {stride} and {dilation}")
    out: Tensor = _Depthwise.apply(x, weight, dilation, stride)
    return out


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = dilation, stride
        return convolved(x, weight, dilation, stride)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # to be differentiated again
            return *_DepthwiseGradients.apply(grad, x, weight, ctx.steps, wanted), None, None
        return *depthwise_gradients(grad, x, weight, ctx.steps, wanted), None, None


class _DepthwiseGradients(torch.autograd.Function):
    """The gradients of :class:`_Depthwise` by the image and the weight, which are linear in each of their arguments.

    torch's second derivatives of a grouped convolution go group by group.
    """

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, steps: tuple[int, int], wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(grad, x, weight)
        ctx.set_materialize_grads(False)
        ctx.steps = steps
        return depthwise_gradients(grad, x, weight, steps, wanted)

    @staticmethod
    def backward(ctx: Any, by_grad_x: Tensor | None, by_grad_weight: Tensor | None) -> Any:
        (grad, x, weight), steps = ctx.saved_tensors, ctx.steps
        wants_grad, wants_x, wants_weight = ctx.needs_input_grad[:3]
        by_grad = by_x = by_weight = None
        if by_grad_x is not None:
            by_grad = depthwise(by_grad_x, weight, *steps) if wants_grad else None
            by_weight = _DepthwiseGradients.apply(grad, by_grad_x, weight, steps, (False, wants_weight))[1]
        if by_grad_weight is not None:
            if wants_grad:
                convolved = depthwise(x, by_grad_weight, *steps)
                by_grad = convolved if by_grad is None else by_grad + convolved
            by_x = _DepthwiseGradients.apply(grad, x, by_grad_weight, steps, (wants_x, False))[0]
        return by_grad, by_x, by_weight, None, None


def depthwise_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, steps: tuple[int, int], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    dilation, stride = steps
    native = depthwise_library(x, weight, grad)
    by_columns = native is None and wants_columns(x, weight, grad)
    if stride > 1 and native is None and not by_columns:
        return torch_gradients(grad, x, weight, stride, wanted)
    grad_x = grad_weight = None
    if wanted[0] and native is not None:
        grad_x = native.depthwise_by_image(grad, x, weight, dilation, stride)
    elif wanted[0] and stride > 1:
        grad_x = torch_gradients(grad, x, weight, stride, (True, False))[0]
    elif wanted[0]:
        grad_x = convolved(grad, weight.flip(2, 3), dilation)
    if wanted[1] and native is not None:
        grad_weight = native.depthwise_by_weight(grad, x, weight, dilation, stride)
    elif wanted[1] and by_columns:
        products = columns(x, weight, dilation, stride) @ grad.flatten(2).unsqueeze(3)  # N C kk 1
        grad_weight = products.sum(0).view_as(weight)
    elif wanted[1] and dilation > 1:
        grad_weight = dilated_weight_gradient(grad, x, weight, dilation)
    elif wanted[1]:
        grad_weight = weight_gradient(grad, x, weight)
    return grad_x, grad_weight


def convolved(x: Tensor, weight: Tensor, dilation: int, stride: int = 1) -> Tensor:
    native = depthwise_library(x, weight)
    if native is not None:
        return native.depthwise(x, weight, dilation, stride)
    if wants_columns(x, weight):
        size = ((length - 1) // stride + 1 for length in x.shape[2:])
        return (weight.flatten(2) @ columns(x, weight, dilation, stride)).view(*x.shape[:2], *size)
    return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, weight.shape[0])


def wants_columns(x: Tensor, weight: Tensor, *others: Tensor) -> bool:
    """Whether torch would go channel by channel, the columns are few, and nothing is wrong with the sizes."""
    if x.dtype != torch.float64 or x.device.type != "cpu" or watched() or any(map(is_batch, (x, weight, *others))):
        return False
    return is_depthwise(x, weight) and x.numel() <= LARGEST_FOR_COLUMNS


def columns(x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
    """``(N, C, k^2, H' W')``: the pixels that each output is a sum of."""
    k = weight.shape[-1]
    found = F.unfold(x, k, dilation, dilation * (k // 2), stride)
    return found.view(len(x), x.shape[1], k * k, -1)


def torch_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """torch's own, without a dilation."""
    strides, padding = (stride,) * 2, (weight.shape[-1] // 2,) * 2
    gradients: tuple[Tensor | None, Tensor | None, None] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, strides, padding, (1, 1), False, (0, 0), weight.shape[0], (*wanted, False)
    )
    return gradients[:2]


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient ``(C, 1, k, k)`` of an undilated :func:`depthwise`'s weight.

    Three columns of a kernel cost torch a tenth of what five do, so the columns are found three at a time: they are
    those of a narrow kernel for an image moved sideways.
    """
    c, _, k, _ = weight.shape
    if k <= 3:
        found = torch_gradients(grad, x, weight, 1, (False, True))[1]
        assert found is not None
        return found
    narrow = weight.new_empty(c, 1, k, 3)
    columns: list[Tensor] = []
    for first in range(0, k - 2, 2):
        left = k // 2 - first  # how far left of the output's own column the first column reads
        moved = F.pad(x, (left, 2 - left))
        found = torch.ops.aten.convolution_backward(
            grad, moved, narrow, None, (1, 1), (k // 2, 0), (1, 1), False, (0, 0), c, (False, True, False)
        )[1]
        columns.append(found if not columns else found[..., 1:])  # its first column is its neighbour's last
    return torch.cat(columns, dim=3)


def dilated_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The gradient ``(C, 1, k, k)`` of a dilated :func:`depthwise`'s weight."""
    size, (h, w) = weight.shape[-1], x.shape[-2:]
    if h % dilation or w % dilation or min(h, w) < size * dilation:
        return row_product_gradient(grad, x, size, dilation)
    return weight_gradient(to_phases(grad, dilation), to_phases(x, dilation), weight)


def to_phases(x: Tensor, dilation: int) -> Tensor:
    """``(N, C, H, W)`` -> ``(d^2 N, C, H / d, W / d)``: pixels ``d`` rows or columns apart become neighbours."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h // dilation, dilation, w // dilation, dilation, c)  # N H' d W' d C
    x = x.permute(2, 4, 0, 1, 3, 5).reshape(dilation**2 * n, h // dilation, w // dilation, c)
    return x.permute(0, 3, 1, 2)


def row_product_gradient(grad: Tensor, x: Tensor, size: int, dilation: int) -> Tensor:
    """The gradient ``(C, 1, k, k)`` of a depthwise weight by ``k`` batched matrix products, for images of any size.

    For a kernel row i, ``M[w, v] = sum over n, h of grad[n, h, w] x[n, h + i, v]`` holds every kernel column j as the
    sum of one of its diagonals, ``v = w + j``.
    """
    n, c, h, w = x.shape
    pad = dilation * (size // 2)
    wide = w + 2 * pad
    padded = x.new_zeros(c, h + 2 * pad, n, wide)
    padded[:, pad : pad + h, :, pad : pad + w] = x.permute(1, 2, 0, 3)
    rows = padded.view(c, (h + 2 * pad) * n, wide)  # C HN W
    columns = grad.permute(1, 2, 0, 3).reshape(c, h * n, w).contiguous().transpose(1, 2)  # C W HN
    sums = []
    for i in range(size):
        start = i * dilation * n
        products = torch.bmm(columns, rows[:, start : start + h * n])  # C w wide
        sums.append(products.as_strided((c, w, size), (w * wide, wide + 1, dilation)).sum(1))  # C k
    return torch.stack(sums, 1).unsqueeze(1)


def diagonal_phases(x: Tensor) -> Tensor:
    """``(N, C, H, W)``, even sizes -> ``(2, N, C, H / 2, W / 2)``: the pixels of even, of odd row and column.

    The gradients of two slicings would each fill an image of zeros, and add.
    """
    out: Tensor = _DiagonalPhases.apply(x)
    return out


class _DiagonalPhases(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        out = x.new_empty(2, n, h // 2, w // 2, c)
        pixels = x.permute(0, 2, 3, 1)
        out[0], out[1] = pixels[:, ::2, ::2], pixels[:, 1::2, 1::2]
        return out.permute(0, 1, 4, 2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _FromDiagonalPhases.apply(grad)


class _FromDiagonalPhases(torch.autograd.Function):
    """The adjoint of :class:`_DiagonalPhases`."""

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        _, n, c, h, w = phases.shape
        out = phases.new_zeros(n, 2 * h, 2 * w, c)
        out[:, ::2, ::2], out[:, 1::2, 1::2] = phases.permute(0, 1, 3, 4, 2).unbind()
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _DiagonalPhases.apply(grad)
