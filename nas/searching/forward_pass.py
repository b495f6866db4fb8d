"""What one forward pass of a candidate's network costs on the device of the search: time and memory.

The network is in eval mode, and no gradient is recorded. On a CPU each torch operation uses one thread, as everywhere
in a search. A latency is a measurement: another run, or another machine, gives another one, so a resumed search takes
the stored ones as they are. In this process one candidate is measured at a time; the workers of a cluster measure side
by side, and disturb each other where they share a machine. The memory is counted from the sizes of the tensors, so it
is the same in every run.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas.searching.objectives import MEASURED

LATENCY, MEMORY = MEASURED
SPREAD = f"{LATENCY}_spread"
WARM_UP = 3  # passes before the first that is measured: allocators and kernels are chosen in them
REPEATS = 20
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """What is measured of each candidate, on ``batch`` images.

    :param latency, memory: whether it is measured.
    :param max_latency_ms: candidates above it are infeasible.
    """

    batch: int = 1
    latency: bool = False
    memory: bool = False
    max_latency_ms: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores that :meth:`measure` returns."""
        return (*((LATENCY, SPREAD) if self.latency else ()), *((MEMORY,) if self.memory else ()))

    def measure(self, network: nn.Module, images: Tensor) -> dict[str, float]:
        """The measured scores by name.

        :param network: on the device of the images, in eval mode.
        :param images: ``(N, C, H, W)``, repeated to fill the batch if they are fewer.
        """
        images = images[torch.arange(self.batch, device=images.device) % len(images)]
        images = images.contiguous(memory_format=torch.channels_last)
        scores = dict(zip((LATENCY, SPREAD), latency_ms(network, images), strict=True)) if self.latency else {}
        return {**scores, **({MEMORY: memory_mib(network, images)} if self.memory else {})}

    def violation(self, scores: dict[str, float]) -> dict[str, Any]:
        """The fields of an infeasible trial, if the measured latency is above the limit; otherwise empty."""
        most = self.max_latency_ms
        if most is None or scores[LATENCY] <= most:
            return {}
        error = f"{LATENCY} must be at most {most:g}, got {scores[LATENCY]:.4g}"
        return {"status": "infeasible", "scores": scores, "violation": scores[LATENCY] / most - 1, "error": error}


def latency_ms(network: nn.Module, images: Tensor, *, repeats: int = REPEATS) -> tuple[float, float]:
    """Median and interquartile range of the time of a forward pass in milliseconds, over ``repeats`` passes."""
    times = []
    with torch.no_grad():
        for _ in range(WARM_UP):
            network(images)
        for _ in range(repeats):
            _wait(images.device)
            started = time.perf_counter()
            network(images)
            _wait(images.device)
            times.append(1000 * (time.perf_counter() - started))
    lower, median, upper = np.percentile(times, [25, 50, 75]).tolist()
    return median, upper - lower


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_mib(network: nn.Module, images: Tensor) -> float:
    """The peak of what a forward pass holds, in MiB: parameters, buffers, the images, and the tensors made from them.

    A tensor counts from the operation that returns it until its last user lets go of it; tensors that share their
    storage count once. What an operation uses within itself is not counted.
    """
    counter = _LiveStorages()
    for tensor in (*network.parameters(), *network.buffers(), images):
        counter.add(tensor)
    with torch.no_grad(), counter:
        network(images)
    return counter.peak / MIB


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the bytes of the storages of all tensors that operations return, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.peak = 0
        self._live: dict[int, int] = {}  # by address of the storage

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            self._live[address] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, address, None)
            self.peak = max(self.peak, sum(self._live.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self.add(each)
        return result
