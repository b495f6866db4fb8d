"""Context managers that change the mode of a network, or what requires a gradient, and restore it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

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
