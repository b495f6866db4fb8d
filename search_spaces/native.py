"""What torch computes slowly on a CPU, in C (``native.c``): built once by the machine's C compiler, or done without.

Without a compiler, or with ``NAS_NATIVE=0`` in the environment, :func:`library` is None and torch serves:
the same values up to rounding, in more time. :func:`description` says which of both it is, and why.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from search_spaces import native_build
from search_spaces.native_library import WIDEST, Library, pixels_last

REAL = {torch.float32: "float", torch.float64: "double"}
_loading = threading.Lock()


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
        expected = [between, pixels_last(F.conv2d(between, pointwise)), pixels_last(by_x), by_weight, by_pointwise]
        middle, out = found.separable(x, weight, pointwise, 1, 1, None)
        arriving = pixels_last(gradient).view(-1, 16)
        found_gradients = found.separable_gradients(arriving, x, middle, weight, pointwise, 1, 1, None, (True, True))
        scale, shift, rows = pointwise[0].flatten(), pointwise[1].flatten(), pixels_last(x).view(-1, 16)
        normed, *statistics = found.batch_norm(rows, scale, shift, (None, None), 0.0, 1e-5)
        torch_normed, *torch_statistics = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, 1e-5)
        norm_gradients = found.batch_norm_gradients(arriving, rows, scale, statistics[0], statistics[1])
        by_norm: Any = torch.ops.aten.native_batch_norm_backward
        torch_gradients = by_norm(gradient, x, scale, None, None, *torch_statistics, True, 1e-5, (True, True, True))
        found_values = [middle, out, *found_gradients, normed, *statistics, *norm_gradients]
        expected += [
            pixels_last(torch_normed),
            *torch_statistics,
            pixels_last(torch_gradients[0]),
            *torch_gradients[1:],
        ]
        return all(
            a is not None and torch.allclose(a.reshape(b.shape), b, rtol=rtol, atol=atol)
            for a, b in zip(found_values, expected, strict=True)
        )
