"""Functions that a GPU repeats from a recording: CUDA graphs.

A training step of a small network is thousands of short kernels, and a GPU waits for the CPU that launches them. A CUDA
graph launches all of them at once. It repeats the kernels that were recorded, on the addresses that were recorded:
shapes, the numbers passed to kernels, and everything that Python decides are those of the recording. So the inputs are
copied into tensors of the recording's own, and whatever else changes between two calls must be in a tensor that exists
before the recording.

The rules are those of https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: a few plain calls on the stream
of the recording come first, memory is taken from a pool of its own, nothing is read back to the host.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from nas.cli.printing import complain

#: what a recorded function returns
Outputs = tuple[Tensor, ...]

PLAIN_CALLS = 3  # before the recording of a shape: libraries load, choose algorithms and allocate workspaces meanwhile


class Recorder(Protocol):
    """Records functions, so that they can be replayed. :class:`CudaRecorder` is the one for a GPU."""

    def run(self, function: Callable[[], Outputs]) -> Outputs:
        """Run the function plainly, in the place where it will be recorded."""

    def record(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Record what the function does, without any effect on the tensors that exist.

        :return: has the effect of the function; it returns the same tensors, with new values, at each call.
        :raises Exception: the function cannot be recorded; everything is as before.
        """

    def forget(self) -> None:
        """Called when no recording will be replayed any more."""


class CudaRecorder:
    """Records CUDA graphs. They share one pool of memory: they are replayed one after the other."""

    _failed: ClassVar[list[torch.cuda.CUDAGraph]] = []  # never freed: torch's allocators go on referring to them

    def __init__(self, device: torch.device):
        self.device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, function: Callable[[], Outputs]) -> Outputs:
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                outputs = function()
            current.wait_stream(self._stream)
        return outputs

    def record(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        gc.collect()  # graphs of autograd that are left in cycles hold nodes that belong to another stream
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    outputs = function()
            except BaseException:
                self._failed.append(graph)
                self._restore(current)
                raise

        def replay() -> Outputs:
            with torch.cuda.device(self.device):
                graph.replay()
            return outputs

        return replay

    def forget(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()  # a pool whose graphs are gone cannot be used again

    def _restore(self, current: torch.cuda.Stream) -> None:
        """Undo what a recording that failed leaves behind in torch (as of versions 2.6 to 2.15)."""
        torch.cuda.set_stream(current)
        names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # the second one in torch 2.6
        end = next((found for name in names if (found := getattr(torch._C, name, None))), None)
        if end is not None:
            with suppress(Exception):  # there is nothing to end where the recording itself was ended
                end(torch.cuda.current_device(), self._pool)
        self.forget()
        with suppress(Exception):  # torch's generator takes itself for recorded until a recording succeeds
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
                torch.zeros(1, device=self.device)


@dataclass
class _Recording:
    """The recording of one shape: the tensors that it reads its inputs from, and how to replay it, once it is made."""

    inputs: tuple[Tensor, ...]
    plain_calls: int = 0
    replay: Callable[[], Outputs] | None = None


class Replayed:
    """A function of tensors, recorded once for each shape of them and replayed from then on.

    The first ``PLAIN_CALLS`` calls of a shape run plainly. If the function cannot be recorded, one line says why, and
    all calls run plainly from then on, to the same effect.

    :param function: as the module describes it. It may be called again wherever it is replayed.
    :param what: it does, in the plural, for that line.
    """

    def __init__(
        self, function: Callable[..., Outputs], recorder: Recorder, what: str, say: Callable[[str], None] = complain
    ):
        self._function = function
        self._recorder: Recorder | None = recorder
        self._what = what
        self._say = say
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *inputs: Tensor) -> Outputs:
        """The function's outputs; they are the caller's own."""
        if self._recorder is None:
            return self._function(*inputs)
        shapes = tuple(each.shape for each in inputs)
        if shapes not in self._recordings:
            self._recordings[shapes] = _Recording(tuple(torch.empty_like(each) for each in inputs))
        recording = self._recordings[shapes]
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        function = partial(self._function, *recording.inputs)
        if recording.replay is None and recording.plain_calls < PLAIN_CALLS:
            recording.plain_calls += 1
            return self._recorder.run(function)
        if recording.replay is None:
            try:
                recording.replay = self._recorder.record(function)
            except Exception as error:  # of the device, of torch, or of a user's network: it may be anything
                self._recorder = None
                self._recordings.clear()
                self._say(f"warning: {self._what} run without CUDA graphs, recording one failed: {cause(error)}")
                return self._function(*inputs)
        return tuple(each.clone() for each in recording.replay())

    def forget(self) -> None:
        """Record anew: something has changed that the recordings do not read from a tensor."""
        self._recordings.clear()
        if self._recorder is not None:
            self._recorder.forget()


def cause(error: BaseException) -> str:
    """The error that came first, in one line: the end of a failed recording raises another one."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
