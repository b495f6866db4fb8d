"""The passes of an attacked model, replayed as CUDA graphs (:mod:`nas.training.replay`).

An attack calls the model hundreds of times with images of one shape. After ``PLAIN`` of these calls, the forward pass
and the gradient of the images are recorded, and replayed from then on. The kernels are those of the plain passes for as
many images, so verdicts are the same. Batches are not padded to a number of images that is recorded already: other
kernels could round in another way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nas.cli.printing import complain
from nas.training.adversary import undisturbed
from nas.training.replay import PLAIN_CALLS, CudaRecorder, Outputs, Recorder, cause

PLAIN = 20  # calls with images of a shape before it is recorded; many shapes do not come more often
KEPT = 4  # shapes that are recorded at a time: each holds the activations of a pass


@contextmanager
def replaying(model: nn.Module, wanted: bool) -> Iterator[nn.Module]:
    """What attacks may call in place of ``model``: the same function, replayed where that is wanted, on a GPU.

    Inside, the model is in eval mode, and its weights must not change.
    """
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    if not wanted or device.type != "cuda":
        yield model
        return
    with undisturbed(model, "eval"):  # folds batch norms once: recordings go on reading the folded weights
        yield ReplayedModel(model, CudaRecorder(device))


class ReplayedModel(nn.Module):
    """Images ``(N, C, H, W)`` -> logits ``(N, classes)`` of ``model``; the images can be differentiated once.

    What the model computes must depend on the images only. If its passes cannot be recorded, one line says why, and
    they run plainly from then on.
    """

    def __init__(self, model: nn.Module, recorder: Recorder, say: Callable[[str], None] = complain):
        super().__init__()
        self.model = model
        self.newest = 0  # number of the last forward pass that was replayed; its activations are there for a backward
        self._recorder: Recorder | None = recorder
        self._say = say
        self._plain: Counter[Any] = Counter()  # calls by shape
        self._recorded: dict[Any, _Recorded] = {}  # by shape; the one used last comes last

    def forward(self, images: Tensor) -> Any:
        key = images.shape, images.stride(), images.dtype
        recorded = self._recorded.pop(key, None)
        if recorded is None and self._recorder is not None:
            self._plain[key] += 1
            if self._plain[key] > PLAIN:
                recorded = self._record(images, self._recorder)
        if recorded is None:
            return self.model(images)
        self._recorded[key] = recorded
        return _Replay.apply(images, self, recorded)

    def _record(self, images: Tensor, recorder: Recorder) -> _Recorded | None:
        while len(self._recorded) >= KEPT:
            oldest = next(iter(self._recorded))
            del self._recorded[oldest], self._plain[oldest]
        try:
            return _Recorded(self.model, images.detach(), recorder)
        except Exception as error:  # of the device, of torch, or of a user's network: it may be anything
            self._recorder = None
            self._recorded.clear()
            self._say(f"warning: attacks run without CUDA graphs, recording one failed: {cause(error)}")
            return None


class _Recorded:
    """A forward pass for images of one shape, and the backward pass after it, any number of times."""

    def __init__(self, model: nn.Module, images: Tensor, recorder: Recorder):
        self.images = images.clone().requires_grad_()
        found: list[Tensor] = []  # the logits with their graph of autograd, whose activations must stay

        def forward() -> Outputs:
            found[:] = [model(self.images)]
            return (found[0],)

        def backward() -> Outputs:
            return torch.autograd.grad(found[0], self.images, self.gradient, retain_graph=True)

        def both() -> Outputs:
            (logits,) = forward()
            self.gradient = torch.ones_like(logits)
            return backward()

        with torch.enable_grad():
            for _ in range(PLAIN_CALLS):
                recorder.run(both)
            self.forward = recorder.record(forward)
            self.backward = recorder.record(backward)


class _Replay(torch.autograd.Function):
    """A replayed pass. Outputs are copied, since the next pass writes its own over them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, owner: ReplayedModel, recorded: _Recorded) -> Tensor:
        ctx.owner, ctx.recorded = owner, recorded
        ctx.images = images.clone() if ctx.needs_input_grad[0] else None
        logits = _Replay.replayed(ctx, images)
        return logits.detach().clone()

    @staticmethod
    def replayed(ctx: Any, images: Tensor) -> Tensor:
        """Replay the forward pass; returns the logits of the recording."""
        with torch.no_grad():
            ctx.recorded.images.copy_(images)
        ctx.owner.newest += 1
        ctx.number = ctx.owner.newest
        logits: Tensor = ctx.recorded.forward()[0]
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if ctx.number != ctx.owner.newest:  # another pass has written over the activations
            _Replay.replayed(ctx, ctx.images)
        ctx.recorded.gradient.copy_(gradient)
        return ctx.recorded.backward()[0].clone(), None, None
