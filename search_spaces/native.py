"""What torch computes slowly on a CPU, in C (``native.c``): built once by the machine's C compiler, or done without.

Without a compiler, or with ``NAS_NATIVE=0`` in the environment, :func:`library` is None and torch serves:
the same values up to rounding, in more time. :func:`description` says which of both it is, and why.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from search_spaces import native_build

FUNCTIONS = (
    "depthwise", "depthwise_by_image", "depthwise_by_weight", "pointwise", "pointwise_gradients", "separable",
    "separable_gradients", "batch_norm", "batch_norm_gradients",
)  # fmt: skip
WIDEST = 7  # kernel
LANES = 16  # what the functions for all but depthwise convolutions take the channels a multiple of
REAL = {torch.float32: "float", torch.float64: "double"}
_loading = threading.Lock()


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
        shape, x = _shape(x, weight, dilation, stride), _rows(x)
        out = x.new_empty(shape.n, (shape.h - 1) // stride + 1, (shape.w - 1) // stride + 1, shape.c)
        self._call("depthwise", shape, x, weight.contiguous(), out)
        return out.permute(0, 3, 1, 2)

    def depthwise_by_image(self, gradient: Tensor, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The gradient by an image of the size of ``x``."""
        shape = _shape(x, weight, dilation, stride)
        out = x.new_empty(shape.n, shape.h, shape.w, shape.c)
        self._call("depthwise_by_image", shape, _rows(gradient), weight.contiguous(), out)
        return out.permute(0, 3, 1, 2)

    def depthwise_by_weight(self, gradient: Tensor, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The gradient ``(C, 1, k, k)`` by the weight."""
        out = weight.new_empty(weight.shape)
        self._call("depthwise_by_weight", _shape(x, weight, dilation, stride), _rows(x), _rows(gradient), out)
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
        shape, x = _shape(x, weight, dilation, stride), _rows(x)
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
        shape, x = _shape(x, weight, dilation, stride), _rows(x)
        by_x = x.new_empty(x.numel() // shape.c, shape.c) if into is None else into
        by_weight, by_pointwise = (
            each.new_empty(each.shape) if asked else None
            for each, asked in zip((weight, pointwise), wanted, strict=True)
        )
        gradient, row = _with_rows(gradient)
        self._call(
            "separable_gradients", shape, _long(len(pointwise)), x, _rows(middle), gradient, row, weight.contiguous(),
            pointwise.contiguous(), by_x, int(into is not None), by_weight, by_pointwise, saliency,
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


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def library_for(*tensors: Tensor) -> Library | None:
    """The library, where it can compute with these tensors, and nobody has to see the operation; else None.

    With several threads inside an operation torch's own are faster.
    """
    dtype = tensors[0].dtype
    if torch.get_num_threads() != 1 or watched() or not all(_is_plain(each, dtype) for each in tensors):
        return None
    return library(dtype)


def depthwise_library(x: Tensor, weight: Tensor, *others: Tensor) -> Library | None:
    """:func:`library_for` a depthwise convolution of x; None, too, where torch will tell what is wrong with them."""
    fits = not watched() and is_depthwise(x, weight) and weight.shape[-1] <= WIDEST
    return library_for(x, weight, *others) if fits else None


def is_depthwise(x: Tensor, weight: Tensor) -> bool:
    """Whether ``(C, 1, k, k)``, k odd, is a weight for images ``(N, C, H, W)``, of which there are some."""
    k = weight.shape[-1]
    return x.ndim == 4 and weight.shape == (x.shape[1], 1, k, k) and k % 2 == 1 and x.numel() > 0


def is_batch(x: Tensor) -> bool:
    """Whether it stands for many tensors at a time, as torch.func and ``is_grads_batched`` have them."""
    return bool(torch._C._functorch.is_batchedtensor(x) or torch._C._functorch.is_legacy_batchedtensor(x))


def _is_plain(x: Tensor, dtype: torch.dtype) -> bool:
    if is_batch(x):
        return False
    return (
        x.dtype == dtype
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and not (x.requires_grad and torch.is_grad_enabled())
    )


def watched() -> bool:
    """Whether operations are traced, transformed or counted."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
    )


def library(dtype: torch.dtype = torch.float32) -> Library | None:
    """The library for numbers of this type; None where there is none to be had."""
    found = _loaded_or_why_not(dtype)
    return found if isinstance(found, Library) else None


def description() -> str:
    """What computes the convolutions: ``C, gcc ... 12.2.0``, or ``torch (no C compiler)``, with the reason."""
    found = _loaded_or_why_not(torch.float32)
    return f"C, {found.built_by}" if isinstance(found, Library) else f"torch ({found})"


def _loaded_or_why_not(dtype: torch.dtype) -> Library | str:
    with _loading:
        return _loaded(dtype)


@cache
def _loaded(dtype: torch.dtype) -> Library | str:
    """Whatever goes wrong, torch serves; what it was is told."""
    if dtype not in REAL:
        return f"no C library for {dtype}"
    if os.environ.get("NAS_NATIVE", "").lower() in ("0", "false", "no", "off"):
        return f"NAS_NATIVE is {os.environ['NAS_NATIVE']}"
    try:
        recipe = native_build.recipe(REAL[dtype])
        if recipe.path.exists() and (found := _usable(recipe, dtype)) is not None:
            return found
        recipe.build()  # there is none yet, or a damaged one
        return _usable(recipe, dtype) or "the C library has other values than torch, or cannot be loaded"
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _usable(recipe: native_build.Recipe, dtype: torch.dtype) -> Library | None:
    try:
        found = Library(recipe.path, recipe.built_by, dtype)
    except (OSError, AttributeError):
        return None
    return found if _agrees(found) else None


def _agrees(found: Library) -> bool:
    """Whether the library has torch's values on an example: a compiler may be broken, a file damaged.

    In a context of its own: the caller's modes and defaults have nothing to do with it.
    """
    rtol, atol = (1e-4, 1e-3) if found.dtype == torch.float32 else (1e-10, 1e-9)
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        generator = torch.Generator().manual_seed(0)
        sizes = (2, 16, 9, 7), (16, 1, 5, 5), (16, 16, 1, 1), (2, 16, 9, 7)
        x, weight, pointwise, gradient = (
            torch.randn(size, generator=generator, dtype=found.dtype, device="cpu") for size in sizes
        )
        between = F.conv2d(x, weight, None, 1, 2, groups=16)
        backward: Any = torch.ops.aten.convolution_backward
        step, whole = ((1, 1), False, (0, 0)), (True, True, False)
        by_between, by_pointwise, _ = backward(gradient, between, pointwise, None, (1, 1), (0, 0), *step, 1, whole)
        by_x, by_weight, _ = backward(by_between, x, weight, None, (1, 1), (2, 2), *step, 16, whole)
        expected = [between, _rows(F.conv2d(between, pointwise)), _rows(by_x), by_weight, by_pointwise]
        middle, out = found.separable(x, weight, pointwise, 1, 1, None)
        arriving = _rows(gradient).view(-1, 16)
        found_gradients = found.separable_gradients(arriving, x, middle, weight, pointwise, 1, 1, None, (True, True))
        scale, shift, rows = pointwise[0].flatten(), pointwise[1].flatten(), _rows(x).view(-1, 16)
        normed, *statistics = found.batch_norm(rows, scale, shift, (None, None), 0.0, 1e-5)
        torch_normed, *torch_statistics = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, 1e-5)
        norm_gradients = found.batch_norm_gradients(arriving, rows, scale, statistics[0], statistics[1])
        by_norm: Any = torch.ops.aten.native_batch_norm_backward
        torch_gradients = by_norm(gradient, x, scale, None, None, *torch_statistics, True, 1e-5, (True, True, True))
        found_values = [middle, out, *found_gradients, normed, *statistics, *norm_gradients]
        expected += [_rows(torch_normed), *torch_statistics, _rows(torch_gradients[0]), *torch_gradients[1:]]
        return all(
            a is not None and torch.allclose(a.reshape(b.shape), b, rtol=rtol, atol=atol)
            for a, b in zip(found_values, expected, strict=True)
        )
