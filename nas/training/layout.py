"""The memory layout of a network on a GPU: channels_last or contiguous, whichever takes less time there.

cuDNN's convolutions are faster in channels_last layout, depthwise ones are often not: it depends on the network, the
batch, the precision and the device. So a training measures a forward and a backward pass in both layouts before its
first step. Results differ by rounding only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from nas.training.adversary import buffers_kept
from nas.training.replay import PLAIN_CALLS, Outputs, Recorder

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_PASSES = 5  # that are timed


def has_layouts(model: nn.Module) -> bool:
    """Whether the model contains a network that can compute in both layouts: it has ``contiguous_layout``."""
    return any(hasattr(module, "contiguous_layout") for module in model.modules())


def lay_out(model: nn.Module, layout: str) -> None:
    """From now on the model computes in this layout, one of ``LAYOUTS``; its weights are laid out so, too."""
    for module in model.modules():
        if hasattr(module, "contiguous_layout"):
            module.contiguous_layout = layout == "contiguous"  # type: ignore[assignment]
    model.to(memory_format=LAYOUTS[layout])


def lay_out_faster(
    model: nn.Module, passes: Callable[[], Outputs], seconds: Callable[[Callable[[], Outputs]], float]
) -> tuple[str, float]:
    """Lay the model out in the layout in which ``passes`` takes less time.

    :param passes: passes of the model. :param seconds: how long they take.
    :return: the layout, and how many times as fast as the other one it is.
    """
    taken: dict[str, float] = {}
    for layout in LAYOUTS:
        lay_out(model, layout)
        taken[layout] = seconds(passes)
    best = min(taken, key=taken.__getitem__)
    lay_out(model, best)
    return best, max(taken.values()) / taken[best]


def one_step(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> Outputs:
    """The gradients of images and weights in train mode, of some loss; the model stays as it is.

    :param dtype: computed in it by autocast; None: without autocast.
    """
    images = images.detach().requires_grad_()
    with buffers_kept(model), torch.autocast(images.device.type, dtype, enabled=dtype is not None):
        outputs = model(images)
        loss = sum(each.float().square().sum() for each in (outputs if isinstance(outputs, tuple) else (outputs,)))
    learned = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, [images, *learned], allow_unused=True)
    return tuple(each for each in found if each is not None)


def gpu_seconds(passes: Callable[[], Outputs], device: torch.device, recorder: Recorder | None) -> float:
    """Seconds that ``passes`` takes on a GPU; with a recorder it is replayed, as the steps of the training will be."""
    run = passes
    for _ in range(PLAIN_CALLS):
        passes() if recorder is None else recorder.run(passes)
    if recorder is not None:
        with suppress(Exception):  # what cannot be recorded is timed plainly; the training says why it cannot
            run = recorder.record(passes)
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(_PASSES):
        run()
    torch.cuda.synchronize(device)
    taken = (time.perf_counter() - started) / _PASSES
    if recorder is not None:
        recorder.forget()
    return taken
