"""What a CUDA device does in a piece of work, from torch's profiler: time, kernels, and which kinds of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.timing import wait

#: parts of the names of kernels that convolve: cuDNN's, torch's depthwise ones, those of cutlass and xmma
CONVOLUTION = re.compile(r"conv|fprop|dgrad|wgrad|winograd|scudnn|implicit_gemm|im2col|col2im|first_layer", re.I)
#: of matrix products: 1x1 convolutions, and the classifier
MATRIX_PRODUCT = re.compile(r"gemm|gemv|nvjet|cublas|splitk", re.I)
LARGEST = 8  # kernels that are named
NAME_LENGTH = 110

@dataclass(frozen=True)
class Kernel:
    """One run of a kernel, or of a copy, in microseconds."""

    name: str
    start: float
    end: float


class Watched:
    """A context in which the profiler looks at what the device does; :meth:`use` tells it afterwards."""

    def __init__(self, device: torch.device):
        self._device = device
        self._profiler = profile(activities=[ProfilerActivity.CUDA]) if device.type == "cuda" else None

    def __enter__(self) -> Watched:
        wait(self._device)
        if self._profiler is not None:
            self._profiler.start()
        return self

    def __exit__(self, *exception: object) -> None:
        wait(self._device)
        if self._profiler is not None:
            self._profiler.stop()

    def use(self, units: int) -> dict[str, Any]:
        """The device's use for each of ``units`` units of work; all None on a CPU.

        :return: ``busy_seconds``, in which at least one kernel runs; ``kernels``, copies included; the shares of their
            time that are convolution and matrix product, by their names; ``largest``, those that take longest.
        """
        events: Any = self._profiler.events() if self._profiler is not None else None  # type: ignore[no-untyped-call]
        return use_of(kernels_in(events or []), units)


def kernels_in(events: Iterable[Any]) -> list[Kernel]:
    """The kernels and copies among the profiler's events."""
    return [
        Kernel(event.name, event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]


def use_of(kernels: list[Kernel], units: int) -> dict[str, Any]:
    """As of :meth:`Watched.use`."""
    if not kernels:
        nothing = ("busy_seconds", "kernels", "convolution_share", "matrix_product_share")
        return {**dict.fromkeys(nothing), "largest": []}
    times: dict[str, float] = {}
    for kernel in kernels:
        times[kernel.name] = times.get(kernel.name, 0.0) + kernel.end - kernel.start
    longest = sorted(times.items(), key=lambda item: -item[1])[:LARGEST]
    total = sum(times.values())
    convolution = sum(time for name, time in times.items() if CONVOLUTION.search(name))
    product = sum(time for name, time in times.items() if is_matrix_product(name))
    return {
        "busy_seconds": covered(kernels) / 1e6 / units,
        "kernels": len(kernels) / units,
        "convolution_share": convolution / total,
        "matrix_product_share": product / total,
        "largest": [{"name": name[:NAME_LENGTH], "share": time / total} for name, time in longest],
    }


def is_matrix_product(name: str) -> bool:
    """Whether the kernel multiplies matrices and is not named as a convolution."""
    return bool(MATRIX_PRODUCT.search(name)) and not CONVOLUTION.search(name)


def covered(kernels: Iterable[Kernel]) -> float:
    """The length of the union of their times: two that run at once count once."""
    total, until = 0.0, float("-inf")
    for kernel in sorted(kernels, key=lambda each: each.start):
        total += max(0.0, kernel.end - max(kernel.start, until))
        until = max(until, kernel.end)
    return total
