"""Weights drawn anew for a network, without touching it or the global random state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

#: From a weight to the standard deviation of what takes its place.
Deviation = Callable[[Tensor], float]


def standard(weight: Tensor) -> float:
    """N(0, 1)."""
    return 1.0


def kaiming(weight: Tensor) -> float:
    """N(0, 2 / fan-in): He et al., "Delving Deep into Rectifiers", ICCV 2015."""
    return math.sqrt(2 / weight[0].numel())


def drawn_parameters(network: nn.Module, deviation: Deviation, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters by name, for :func:`called_with`.

    Weights of convolutions and linear layers are normal, drawn on the CPU in the order of the modules; their biases
    are zero; norms have weight one and bias zero. Parameters of other modules are left out: they stay as they are.
    """
    drawn: dict[str, Tensor] = {}
    made: dict[Tensor, Tensor] = {}  # a tensor that two modules share is drawn once

    def put(name: str, parameter: Tensor | None, make: Callable[[Tensor], Tensor]) -> None:
        if parameter is not None:
            if parameter not in made:
                made[parameter] = make(parameter.detach())
            drawn[name] = made[parameter]

    def normal(weight: Tensor) -> Tensor:
        values = torch.randn(weight.shape, dtype=weight.dtype, generator=generator) * deviation(weight)
        return values.to(weight.device)

    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, nn.Conv2d | nn.Linear):
            put(f"{prefix}weight", module.weight, normal)
            put(f"{prefix}bias", module.bias, torch.zeros_like)
        elif isinstance(module, _BatchNorm | nn.GroupNorm):
            put(f"{prefix}weight", module.weight, torch.ones_like)
            put(f"{prefix}bias", module.bias, torch.zeros_like)
    return drawn


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    """By name, for :func:`called_with`: those of a module that stands at several places under its first name only."""
    return {
        f"{path}.{name}" if path else name: parameter
        for path, module in network.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def buffers_of(network: nn.Module) -> dict[str, Tensor]:
    """As :func:`parameters_of`."""
    return {
        f"{path}.{name}" if path else name: buffer
        for path, module in network.named_modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    }


def called_with(network: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """``network(x)`` with these parameters and buffers in place of its own, for this call.

    A module's tensors have to be named once, under its first name: torch does not put back what it replaces twice.
    """
    logits: Tensor = functional_call(network, tensors, (x,), tie_weights=False)
    return logits


def drawn_images(like: Tensor, images: int, generator: torch.Generator) -> Tensor:
    """``(images, C, H, W)`` of N(0, 1), of the shape and device of the batch ``like``."""
    drawn = torch.randn((images, *like.shape[1:]), dtype=like.dtype, generator=generator)
    return drawn.to(like.device)


def check_counts(**counts: int | None) -> None:
    """Whether numbers of images or repetitions are at least 1 (None: left to the default); a ValueError if not."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_seed(seed: int) -> None:
    """Whether ``seed`` can seed a generator; a ValueError if not."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be from 0 to 2^63 - 1, got {seed}")
