"""The operations of the DARTS family as torch modules, written to be scored fast on a CPU.

Every operation maps ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``. The functions are those of
DARTS (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055) with affine batch norms; ``sep_conv_7x7`` and
``conv_7x1_1x7`` are NASNet's. What differs is how they are computed, never what (tests/test_operations.py compares
values and gradients with the literal modules in float64):

* In eval mode a batch norm is an affine map of its convolution's output, so it is folded into the convolution's weight
  and bias. The fold is part of the autograd graph: every parameter still gets its own gradient.
* A convolution with dilation 2 is four independent undilated convolutions on the four phases of the image. torch has no
  fast kernel for the weight gradient of a dilated depthwise convolution and has one for the undilated.
* On the CPU a pointwise convolution in channels_last is a matrix product, and an average pooling is a depthwise
  convolution with a constant kernel; both have faster gradients than the kernels of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight ``(O, I, kh, kw)`` and bias ``(O,)`` of a bias-free convolution followed by ``norm`` in eval mode."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)


def foldable(norm: nn.Module) -> bool:
    """Whether ``norm`` is at this moment a fixed affine map (an affine batch norm in eval mode)."""
    return isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.affine and norm.track_running_stats


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution, stride 1; a matrix product on the CPU."""
    if x.device.type != "cpu":
        return F.conv2d(x, weight, bias)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def to_phases(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(4 N, C, H / 2, W / 2)``: rows and columns of equal parity become images of their own."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)  # N H/2 2 W/2 2 C
    return x.permute(2, 4, 0, 1, 3, 5).reshape(4 * n, h // 2, w // 2, c).permute(0, 3, 1, 2)


def from_phases(x: Tensor) -> Tensor:
    """The inverse of :func:`to_phases`."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(2, 2, n // 4, h, w, c).permute(2, 3, 0, 4, 1, 5)  # N H 2 W 2 C
    return x.reshape(n // 4, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def pad_to_even(x: Tensor) -> Tensor:
    """Appends a row, a column of zeros where the height, the width is odd."""
    h, w = x.shape[-2:]
    return F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x


class ConvNorm(nn.Module):
    """A bias-free convolution and its batch norm; in eval mode one convolution (see the module's docstring)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        if not foldable(self.norm):
            normalised: Tensor = self.norm(self.conv(x))
            return normalised
        assert isinstance(self.norm, nn.BatchNorm2d)
        weight, bias = fold_norm(self.conv.weight, self.norm)
        if self.conv.kernel_size == (1, 1) and self.conv.stride == (1, 1):
            return pointwise(x, weight, bias)
        return F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding)


class _DiagonalPhases(torch.autograd.Function):
    """``(N, C, H, W)``, even sizes -> ``(2, N, C, H / 2, W / 2)``: the pixels of even, of odd row and column.

    As a function of its own because the gradients of two slicings fill and add images of zeros.
    """

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        n, c, h, w = x.shape
        out = x.new_empty(2, n, h // 2, w // 2, c)
        pixels = x.permute(0, 2, 3, 1)
        out[0], out[1] = pixels[:, ::2, ::2], pixels[:, 1::2, 1::2]
        return out.permute(0, 1, 4, 2, 3)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return _FromDiagonalPhases.apply(grad)


class _FromDiagonalPhases(torch.autograd.Function):
    """The adjoint of :class:`_DiagonalPhases`."""

    @staticmethod
    def forward(ctx, phases):  # type: ignore[no-untyped-def]
        _, n, c, h, w = phases.shape
        out = phases.new_zeros(n, 2 * h, 2 * w, c)
        out[:, ::2, ::2], out[:, 1::2, 1::2] = phases.permute(0, 1, 3, 4, 2).unbind()
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return _DiagonalPhases.apply(grad)


class FactorizedReduce(nn.Module):
    """Halves the resolution: two 1x1 convolutions of stride 2, the second one pixel down and right, concatenated.

    Images of odd height or width are padded with a row or column of zeros, so that both halves have one size
    (the published module fails there).
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        if c_out % 2:
            raise ValueError(f"a factorized reduction needs an even number of output channels, got {c_out}")
        self.conv_even = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_odd = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_even(x)
        if not foldable(self.norm):
            normalised: Tensor = self.norm(torch.cat([self.conv_even(x), self.conv_odd(x[:, :, 1:, 1:])], dim=1))
            return normalised
        assert isinstance(self.norm, nn.BatchNorm2d)
        weight, bias = fold_norm(torch.cat([self.conv_even.weight, self.conv_odd.weight]), self.norm)
        half = self.conv_even.out_channels
        even, odd = _DiagonalPhases.apply(x).unbind()
        return torch.cat([pointwise(even, weight[:half], bias[:half]), pointwise(odd, weight[half:], bias[half:])], 1)


def _undilated(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, weight.shape[0])


class _SeparableConv(torch.autograd.Function):
    """Undilated depthwise convolution, pointwise convolution and batch norm in eval mode, as one differentiable step.

    ``x`` (N, C, H, W) channels_last, ``depthwise`` (C, 1, k, k), ``weight`` (O, C, 1, 1), ``gamma``, ``beta`` (O,),
    ``mean``, ``inverse_deviation`` (O,) constants. One step instead of a dozen, because at these sizes the calls cost
    as much as the arithmetic. Every gradient is made of differentiable calls, so it can be differentiated again.
    """

    @staticmethod
    def forward(ctx, x, depthwise, weight, gamma, beta, mean, inverse_deviation, stride):  # type: ignore[no-untyped-def]
        inner = _undilated(x, depthwise, stride)
        n, c, h, w = inner.shape
        scale = gamma * inverse_deviation
        matrix = weight.view(-1, c) * scale[:, None]  # O C
        rows = inner.permute(0, 2, 3, 1).reshape(-1, c)  # NHW C
        ctx.save_for_backward(x, depthwise, weight, gamma, mean, inverse_deviation, rows)
        ctx.stride, ctx.inner_shape = stride, (n, h, w, c)
        out = torch.addmm(torch.addcmul(beta, mean, scale, value=-1), rows, matrix.t())
        return out.view(n, h, w, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, depthwise, weight, gamma, mean, inverse_deviation, rows = ctx.saved_tensors
        n, h, w, c = ctx.inner_shape
        if torch.is_grad_enabled():  # differentiated again: the saved rows carry no history
            rows = _undilated(x, depthwise, ctx.stride).permute(0, 2, 3, 1).reshape(-1, c)
        scale = gamma * inverse_deviation
        matrix = weight.view(-1, c) * scale[:, None]
        grad_rows = grad.permute(0, 2, 3, 1).reshape(n * h * w, -1)  # NHW O
        grad_inner = (grad_rows @ matrix).view(n, h, w, c).permute(0, 3, 1, 2)
        padding = depthwise.shape[-1] // 2
        grad_x, grad_depthwise, _ = torch.ops.aten.convolution_backward(
            grad_inner, x, depthwise, None, (ctx.stride,) * 2, (padding,) * 2, (1, 1), False, (0, 0), c,
            (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False),
        )  # fmt: skip
        grad_weight = grad_gamma = grad_beta = None
        if any(ctx.needs_input_grad[2:5]):
            grad_matrix, grad_beta = grad_rows.t() @ rows, grad_rows.sum(0)
            grad_weight = (grad_matrix * scale[:, None]).view_as(weight)
            grad_gamma = ((grad_matrix * weight.view(-1, c)).sum(1) - grad_beta * mean) * inverse_deviation
        return grad_x, grad_depthwise, grad_weight, grad_gamma, grad_beta, None, None, None


class SeparableConv(nn.Module):
    """Depthwise convolution, pointwise convolution, batch norm; at stride 1 it keeps the resolution."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.depthwise = nn.Conv2d(
            channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False
        )
        self.pointwise = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        conv, (h, w) = self.depthwise, x.shape[-2:]
        if x.device.type != "cpu":
            plain: Tensor = self.pointwise(conv(x))
            return plain
        if conv.dilation == (1, 1):
            return self._undilated(x, conv.stride[0])
        if conv.stride == (2, 2):  # every output reads pixels of even row and column only
            return self._undilated(x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), 1)
        if h % 2 == 0 and w % 2 == 0:
            return from_phases(self._undilated(to_phases(x), 1))
        odd: Tensor = self.pointwise(from_phases(_undilated(to_phases(pad_to_even(x)), conv.weight, 1))[:, :, :h, :w])
        return odd

    def _undilated(self, x: Tensor, stride: int) -> Tensor:
        conv, norm = self.pointwise.conv, self.pointwise.norm
        if not foldable(norm):
            normalised: Tensor = self.pointwise(_undilated(x, self.depthwise.weight, stride))
            return normalised
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        inverse_deviation = torch.rsqrt(norm.running_var + norm.eps)
        out: Tensor = _SeparableConv.apply(
            x, self.depthwise.weight, conv.weight, norm.weight, norm.bias, norm.running_mean, inverse_deviation, stride
        )
        return out


class SepConv(nn.Sequential):
    """Two separable convolutions, the first with the stride, a ReLU between them."""

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__(SeparableConv(channels, kernel_size, stride), nn.ReLU(), SeparableConv(channels, kernel_size))


class DilConv(SeparableConv):
    """One separable convolution of dilation 2."""

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__(channels, kernel_size, stride, dilation=2)


class Conv7x1And1x7(nn.Module):
    """NASNet's factorised 7x7 convolution: 1x7 then 7x1 convolution, batch norm."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.row = nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False)
        self.column = ConvNorm(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0))

    def forward(self, x: Tensor) -> Tensor:
        columns: Tensor = self.column(self.row(x))
        return columns


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the caches outlive the caller's mode
def _average_kernel(channels: int, dtype: torch.dtype) -> Tensor:
    return torch.ones(channels, 1, 3, 3, dtype=dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _average_weights(h: int, w: int, stride: int, dtype: torch.dtype) -> Tensor:
    """``(1, 1, h', w')``: one over the number of pixels inside the image under each window."""
    inside = F.conv2d(torch.ones(1, 1, h, w, dtype=dtype), torch.ones(1, 1, 3, 3, dtype=dtype), None, stride, 1)
    return 1 / inside


class AvgPool(nn.Module):
    """3x3 average pooling that does not count the padding."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
        _, c, h, w = x.shape
        summed = F.conv2d(x, _average_kernel(c, x.dtype), None, self.stride, 1, groups=c)
        return summed * _average_weights(h, w, self.stride, x.dtype)


class Zero(nn.Module):
    """The operation ``none``."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _skip_connect(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


#: Modules that read their input through a ReLU. The cell computes that ReLU, once per state for all that read it.
ACTIVATED = (SeparableConv, SepConv, Conv7x1And1x7, FactorizedReduce)

#: name -> (channels, stride) -> module
OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda channels, stride: Zero(stride),
    "max_pool_3x3": lambda channels, stride: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda channels, stride: AvgPool(stride),
    "skip_connect": _skip_connect,
    "sep_conv_3x3": lambda channels, stride: SepConv(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: SepConv(channels, 5, stride),
    "sep_conv_7x7": lambda channels, stride: SepConv(channels, 7, stride),
    "dil_conv_3x3": lambda channels, stride: DilConv(channels, 3, stride),
    "dil_conv_5x5": lambda channels, stride: DilConv(channels, 5, stride),
    "conv_7x1_1x7": Conv7x1And1x7,
}
