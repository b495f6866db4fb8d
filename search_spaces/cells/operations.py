"""The operations of the DARTS family as torch modules.

Every operation maps ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``. The functions are those of
DARTS (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055) with affine batch norms; ``sep_conv_7x7`` and
``conv_7x1_1x7`` are NASNet's. Values and gradients equal those of the published modules, as
``tests/search_spaces/cells/test_operations.py`` checks. On a CPU two kinds of convolution are computed in another way:

* a pointwise convolution as a matrix product (:class:`PointwiseConv`);
* a depthwise convolution with its own gradients (:class:`DepthwiseConv`, :mod:`search_spaces.cells.kernels`).

A batch norm in eval mode can be folded into the weight and bias of the convolution before it:
see :mod:`search_spaces.cells.folding`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells.folding import Foldable
from search_spaces.cells.kernels import depthwise


def folded_norm(norm: nn.Module, weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Weight ``(O, C, h, w)`` and bias ``(O,)`` of one convolution equal to a bias-free one followed by ``norm``.

    None if ``norm`` is not a fixed affine map, which an affine batch norm with running statistics is in eval mode.
    """
    if type(norm) is not nn.BatchNorm2d or norm.training or not norm.affine or norm.running_var is None:
        return None
    assert norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)


def pad_to_even(x: Tensor) -> Tensor:
    """Appends a row of zeros if the height is odd, and a column of zeros if the width is odd."""
    h, w = x.shape[-2:]
    return F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x


def channels_last(x: Tensor) -> Tensor:
    """``x`` in channels_last layout; unlike torch's ``memory_format`` argument this also works under ``vmap``."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def in_layout(x: Tensor, contiguous: bool) -> Tensor:
    """``x`` in contiguous layout, or else in channels_last."""
    return x.contiguous() if contiguous else channels_last(x)


class PointwiseConv(nn.Conv2d):
    """A bias-free 1x1 convolution.

    On a CPU it is computed as one matrix product, whose gradients take half to four fifths of ``F.conv2d``'s time.
    """

    computes_conv2d = True  # the same function, computed in another way

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 1, bias=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type != "cpu":
            return F.conv2d(x, weight, bias)
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class ConvNorm(Foldable):
    """A bias-free convolution and its batch norm."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
    ):
        super().__init__()
        self.conv: nn.Conv2d = (
            PointwiseConv(c_in, c_out)
            if kernel_size == stride == 1
            else nn.Conv2d(c_in, c_out, kernel_size, stride, padding, bias=False)
        )
        self.norm: nn.Module = nn.BatchNorm2d(c_out)

    def fold(self) -> tuple[Tensor, ...] | None:
        plain = type(self.conv) in (nn.Conv2d, PointwiseConv) and self.conv.bias is None
        return folded_norm(self.norm, self.conv.weight) if plain else None

    def fold_parameters(self) -> tuple[Tensor, ...]:
        assert isinstance(self.norm, nn.BatchNorm2d)  # otherwise ``fold`` gave None
        return self.conv.weight, self.norm.weight, self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.folded_tensors is None:
            normalised: Tensor = self.norm(self.conv(x))
            return normalised
        folded: Tensor = self.conv._conv_forward(x, *self.folded_tensors)
        return folded


class FactorizedReduce(Foldable):
    """Halves the resolution by two 1x1 convolutions of stride 2, whose outputs are concatenated.

    The second one starts one pixel further down and right. Images of odd height or width are padded with a row or
    column of zeros, so that both outputs have the same size (the published module fails there). Here every second pixel
    is selected first and the convolutions have stride 1, which is the same function and avoids a fault of torch 2.15:
    its weight gradient of strided 1x1 convolutions with 2 to 6 channels in channels_last corrupts memory on a CPU.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        if c_out % 2:
            raise ValueError(f"a factorized reduction needs an even number of output channels, got {c_out}")
        self.conv_even = PointwiseConv(c_in, c_out // 2)
        self.conv_odd = PointwiseConv(c_in, c_out // 2)
        self.norm: nn.Module = nn.BatchNorm2d(c_out)

    def fold(self) -> tuple[Tensor, ...] | None:
        if not all(type(conv) is PointwiseConv for conv in (self.conv_even, self.conv_odd)):
            return None
        tensors = folded_norm(self.norm, torch.cat([self.conv_even.weight, self.conv_odd.weight]))
        return None if tensors is None else tuple(half for each in tensors for half in each.chunk(2))

    def fold_parameters(self) -> tuple[Tensor, ...]:
        assert isinstance(self.norm, nn.BatchNorm2d)  # otherwise ``fold`` gave None
        return self.conv_even.weight, self.conv_odd.weight, self.norm.weight, self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_even(x)
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        if self.folded_tensors is None:
            normalised: Tensor = self.norm(torch.cat([self.conv_even(even), self.conv_odd(odd)], dim=1))
            return normalised
        (weight_even, weight_odd, bias_even, bias_odd), conv = self.folded_tensors, self.conv_even._conv_forward
        return torch.cat([conv(even, weight_even, bias_even), conv(odd, weight_odd, bias_odd)], dim=1)


class DepthwiseConv(nn.Conv2d):
    """A bias-free depthwise convolution; at stride 1 it keeps the resolution."""

    computes_conv2d = True  # the same function, computed in another way

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, dilation: int = 1):
        padding = dilation * (kernel_size // 2)
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type != "cpu" or bias is not None or (self.stride != (1, 1) and self.dilation == (1, 1)):
            out: Tensor = super()._conv_forward(x, weight, bias)
            return out
        if self.stride == (1, 1):
            return depthwise(x, weight, self.dilation[0])
        # dilation 2, stride 2: the outputs read only pixels in even rows and columns
        return depthwise(channels_last(x[:, :, ::2, ::2]), weight)


class SeparableConv(nn.Module):
    """Depthwise convolution, pointwise convolution, batch norm; at stride 1 it keeps the resolution."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel_size, stride, dilation)
        self.pointwise = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.pointwise(self.depthwise(x))
        return normalised


class SepConv(nn.Sequential):
    """Two separable convolutions, the first with the stride, a ReLU between them."""

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__(SeparableConv(channels, kernel_size, stride), nn.ReLU(), SeparableConv(channels, kernel_size))


class Conv7x1And1x7(nn.Module):
    """NASNet's factorised 7x7 convolution: 1x7 then 7x1 convolution, batch norm."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.row = nn.Conv2d(channels, channels, (1, 7), stride=(1, stride), padding=(0, 3), bias=False)
        self.column = ConvNorm(channels, channels, (7, 1), stride=(stride, 1), padding=(3, 0))

    def forward(self, x: Tensor) -> Tensor:
        columns: Tensor = self.column(self.row(x))
        return columns


class AveragePool(nn.AvgPool2d):
    """The average of 3x3 pixels, of those inside the image.

    On CUDA it reads its input in contiguous layout: in versions of torch before July 2026, the gradient of a padded
    average pooling is wrong there in channels_last layout (https://github.com/pytorch/pytorch/issues/188344).
    """

    def __init__(self, stride: int):
        super().__init__(3, stride, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if x.is_cuda else x)


class Zero(nn.Module):
    """The operation ``none``: zeros in the shape of its output."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class SharedReLU(nn.ReLU):
    """A ReLU that is computed once for ``readers`` operations, where the published program has one for each of them.

    Proxies that count ReLU units read the number (:func:`proxies.engine.hooks.readers_of`).
    """

    def __init__(self, readers: int):
        super().__init__()
        self.readers = readers

    def extra_repr(self) -> str:
        return f"readers={self.readers}"


def shared_relus(read: Iterable[int], states: int) -> nn.ModuleList:
    """For each state the ReLU of the operations that read it through one, or an ``nn.Identity`` if none does.

    :param read: the state that each of these operations reads.
    """
    readers = Counter(read)
    return nn.ModuleList(SharedReLU(readers[state]) if readers[state] else nn.Identity() for state in range(states))


def _skip_connect(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


#: Modules that need a ReLU before them. The cell computes it, once for all modules that read the same tensor.
ACTIVATED = (SeparableConv, SepConv, Conv7x1And1x7, FactorizedReduce)

#: name -> (channels, stride) -> module
OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda channels, stride: Zero(stride),
    "max_pool_3x3": lambda channels, stride: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda channels, stride: AveragePool(stride),
    "skip_connect": _skip_connect,
    "sep_conv_3x3": lambda channels, stride: SepConv(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: SepConv(channels, 5, stride),
    "sep_conv_7x7": lambda channels, stride: SepConv(channels, 7, stride),
    "dil_conv_3x3": lambda channels, stride: SeparableConv(channels, 3, stride, dilation=2),
    "dil_conv_5x5": lambda channels, stride: SeparableConv(channels, 5, stride, dilation=2),
    "conv_7x1_1x7": Conv7x1And1x7,
}
