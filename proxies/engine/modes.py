"""Context managers that change the mode of a network, or what is differentiated, and restore it afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NormMode = Literal["eval", "train"]


@contextmanager
def norm_mode(network: nn.Module, mode: NormMode) -> Iterator[None]:
    """Inside, ``network`` is in eval mode and its batch norms in ``mode``; modes and buffers are restored after."""
    wanted = [(module, mode == "train" and isinstance(module, _BatchNorm)) for module in network.modules()]
    changed = [(module, module.training) for module, training in wanted if module.training != training]
    norms = [module for module, training in wanted if training]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        for module, training in changed:
            module.training = not training
        yield
    finally:
        for module, training in changed:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def uses_batch_statistics(network: nn.Module, mode: NormMode) -> bool:
    """Whether images of a batch influence one another in :func:`norm_mode` ``mode``.

    A batch norm that keeps no running statistics uses those of the batch in either mode.
    """
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return any(mode == "train" or norm.running_mean is None for norm in norms)


@contextmanager
def isolated() -> Iterator[None]:
    """Inside, gradients can be computed in full precision whatever mode the caller is in, such as ``inference_mode``.

    The states of all random generators (torch, numpy, Python), which a model may use, are restored afterwards.
    """
    states = random.getstate(), np.random.get_state()
    with ExitStack() as scopes:
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call,unused-ignore]
        devices = range(torch.cuda.device_count() if used else 0)
        scopes.enter_context(torch.random.fork_rng(devices))
        scopes.enter_context(torch.inference_mode(False))
        scopes.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                scopes.enter_context(torch.autocast(device, enabled=False))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, no parameter of ``network`` requires a gradient."""
    with without_gradients([each for each in network.parameters() if each.requires_grad]):
        yield


@contextmanager
def without_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, these tensors require no gradient; all of them require one before and afterwards."""
    for each in tensors:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in tensors:
            each.requires_grad_(True)
