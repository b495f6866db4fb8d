"""The functions of ``native.c``, called with tensors; :mod:`search_spaces.native` says when."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FUNCTIONS = (
    "depthwise", "depthwise_by_image", "depthwise_by_weight", "pointwise", "pointwise_gradients", "separable",
    "separable_gradients", "batch_norm", "batch_norm_gradients",
)  # fmt: skip
WIDEST = 7  # kernel
LANES = 16  # what the functions for all but depthwise convolutions take the channels a multiple of


class Shape(ctypes.Structure):
    """An image batch and a kernel, as ``native.c`` has them."""

    _fields_ = [(name, ctypes.c_long) for name in ("n", "h", "w", "c", "k", "dilation", "stride")]


class Library:
    """The functions, on images ``(N, C, H, W)`` of one type in channels_last and weights ``(C, 1, k, k)``."""

    def __init__(self, path: Path, built_by: str, dtype: torch.dtype):
        self.built_by = built_by
        self.dtype = dtype
        self._functions = ctypes.CDLL(str(path))
        self._functions.scratch_numbers.restype = ctypes.c_long
        for name in FUNCTIONS:  # one that is missing shows at once
            getattr(self._functions, name).restype = None
        self._of_thread = threading.local()

    def depthwise(self, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The convolution, padded by ``dilation (k // 2)``."""
        shape, x = _shape(x, weight, dilation, stride), pixels_last(x)
        out = x.new_empty(shape.n, (shape.h - 1) // stride + 1, (shape.w - 1) // stride + 1, shape.c)
        self._call("depthwise", shape, x, weight.contiguous(), out)
        return out.permute(0, 3, 1, 2)

    def depthwise_by_image(self, gradient: Tensor, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The gradient by an image of the size of ``x``."""
        shape = _shape(x, weight, dilation, stride)
        out = x.new_empty(shape.n, shape.h, shape.w, shape.c)
        self._call("depthwise_by_image", shape, pixels_last(gradient), weight.contiguous(), out)
        return out.permute(0, 3, 1, 2)

    def depthwise_by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The gradient ``(C, 1, k, k)`` by the weight."""
        out = weight.new_empty(weight.shape)
        self._call(
            "depthwise_by_weight", _shape(x, weight, dilation, stride), pixels_last(x), pixels_last(gradient), out
        )
        return out

    def pointwise(self, x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
        """``(rows, O)``: rows ``(rows, C)`` by a weight ``(O, C, 1, 1)``, plus as in :meth:`separable`."""
        out, bias, add = _output_and_bias(x, len(x), len(weight), plus)
        self._call("pointwise", _of_rows(x), _long(len(weight)), x, weight.contiguous(), bias, add, out)
        return out

    def pointwise_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, into: Tensor | None, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Its gradients by x, added to ``into`` if that is given, and by the weight, if it is wanted."""
        by_x = torch.empty_like(x) if into is None else into
        by_weight = weight.new_empty(weight.shape) if wanted else None
        gradient, row = _with_rows(gradient)
        self._call(
            "pointwise_gradients", _of_rows(x), _long(len(weight)), x, gradient, row, weight.contiguous(), by_x,
            int(into is not None), by_weight,
        )  # fmt: skip
        return by_x, by_weight

    def separable(
        self, x: Tensor, weight: Tensor, pointwise: Tensor, dilation: int, stride: int, plus: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A depthwise and a pointwise convolution, weight ``(O, C, 1, 1)``: what is between them, and the output.

        The output is ``(N H' W', O)``, plus a row ``(O,)``, or plus a matrix, which is then overwritten.
        """
        shape, x = _shape(x, weight, dilation, stride), pixels_last(x)
        size = shape.n, (shape.h - 1) // stride + 1, (shape.w - 1) // stride + 1
        middle = x.new_empty(*size, shape.c)
        out, bias, add = _output_and_bias(x, size[0] * size[1] * size[2], len(pointwise), plus)
        weights = weight.contiguous(), pointwise.contiguous()
        self._call("separable", shape, _long(len(pointwise)), x, *weights, bias, add, middle, out)
        return middle.permute(0, 3, 1, 2), out

    def separable_gradients(
        self, gradient: Tensor, x: Tensor, middle: Tensor, weight: Tensor, pointwise: Tensor, dilation: int,
        stride: int, into: Tensor | None, wanted: tuple[bool, bool], saliency: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Its gradients: by x ``(N H W, C)``, added to ``into`` if given, and by the weights wanted.

        :param gradient: that by the output, ``(N H' W', O)``, with rows of any distance.
        :param saliency: ``(N, C)``, to hold the sum over pixels of ``middle`` times the gradient by it.
        """
        shape, x = _shape(x, weight, dilation, stride), pixels_last(x)
        by_x = x.new_empty(x.numel() // shape.c, shape.c) if into is None else into
        by_weight, by_pointwise = (
            each.new_empty(each.shape) if asked else None
            for each, asked in zip((weight, pointwise), wanted, strict=True)
        )
        gradient, row = _with_rows(gradient)
        self._call(
            "separable_gradients", shape, _long(len(pointwise)), x, pixels_last(middle), gradient, row,
            weight.contiguous(), pointwise.contiguous(), by_x, int(into is not None), by_weight, by_pointwise, saliency,
        )  # fmt: skip
        return by_x, by_weight, by_pointwise

    def batch_norm(
        self, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor | None, Tensor | None], momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Rows ``(M, C)`` by their own mean and variance: the output, the mean and one over the deviation, ``(C,)``.

        :param running: mean and variance that move by ``momentum`` towards these.
        """
        out, mean, invstd = torch.empty_like(x), weight.new_empty(weight.shape), weight.new_empty(weight.shape)
        given = x, weight.contiguous(), bias.contiguous(), *running, ctypes.c_double(momentum), ctypes.c_double(eps)
        self._functions.batch_norm(*_long_shape(x), *map(_pointer, (*given, mean, invstd, out)))
        return out, mean, invstd

    def batch_norm_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, invstd: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Its gradients by x, weight and bias, from that by the output, of rows of any distance."""
        by_x, by_weight, by_bias = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)
        gradient, row = _with_rows(gradient)
        given = x, gradient, row, weight.contiguous(), mean, invstd, by_x, by_weight, by_bias
        self._functions.batch_norm_gradients(*_long_shape(x), *map(_pointer, given))
        return by_x, by_weight, by_bias

    def _call(self, name: str, shape: Shape, *arguments: Any) -> None:
        """Runs a function of images, with its scratch."""
        given = ctypes.byref(shape)
        size = self._functions.scratch_numbers(given, arguments[0] if isinstance(arguments[0], _long) else _long(0))
        scratch: Tensor | None = getattr(self._of_thread, "scratch", None)
        if scratch is None or len(scratch) < size:
            scratch = self._of_thread.scratch = torch.empty(size, dtype=self.dtype, device="cpu")
        getattr(self._functions, name)(given, *map(_pointer, (*arguments, scratch)))


def _shape(x: Tensor, weight: Tensor, dilation: int, stride: int) -> Shape:
    n, c, h, w = x.shape
    return Shape(n, h, w, c, weight.shape[-1], dilation, stride)


_long = ctypes.c_long


def _pointer(argument: Any) -> Any:
    """To a tensor, which has to live until the function is done; of anything else, itself."""
    return ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else argument


def _long_shape(x: Tensor) -> tuple[ctypes.c_long, ctypes.c_long]:
    return _long(x.shape[0]), _long(x.shape[1])


def _of_rows(x: Tensor) -> Shape:
    return Shape(len(x), 1, 1, x.shape[1], 1, 1, 1)


def _with_rows(gradient: Tensor) -> tuple[Tensor, ctypes.c_long]:
    """Rows whose numbers follow each other, and how far the rows are apart."""
    gradient = gradient if gradient.stride(1) == 1 else gradient.contiguous()
    return gradient, _long(gradient.stride(0))


def _output_and_bias(like: Tensor, rows: int, channels: int, plus: Tensor | None) -> tuple[Tensor, Tensor | None, int]:
    """Where the output goes, the row that is added to it, and whether it is added to what is there."""
    if plus is not None and plus.ndim == 2:
        return plus, None, 1
    return like.new_empty(rows, channels), None if plus is None else plus.contiguous(), 0


def pixels_last(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, H, W, C)``, dense."""
    return x.permute(0, 2, 3, 1).contiguous()
