"""New random weights for a network, which leave its own weights and the global random states unchanged."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

#: The standard deviation of the random values that replace a weight.
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
    are zero; norms have weight one and bias zero. Parameters of other modules are not among them and stay as they are.
    """
    drawn: dict[str, Tensor] = {}
    made: dict[Tensor, Tensor] = {}  # a tensor that two modules share is drawn once

    def put(name: str, parameter: Tensor | None, make: Callable[[Tensor], Tensor]) -> None:
        if parameter is not None:
            if parameter not in made:
                made[parameter] = make(parameter.detach())
            drawn[name] = made[parameter]

    def normal(weight: Tensor) -> Tensor:
        values = torch.randn(weight.shape, dtype=weight.dtype, device="cpu", generator=generator) * deviation(weight)
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
    """The parameters by name, for :func:`called_with`; a module registered twice has its first name only."""
    return {
        f"{path}.{name}" if path else name: parameter
        for path, module in network.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def buffers_of(network: nn.Module) -> dict[str, Tensor]:
    """The buffers, named as by :func:`parameters_of`."""
    return {
        f"{path}.{name}" if path else name: buffer
        for path, module in network.named_modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    }


def called_with(network: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """``network(x)``, computed with these parameters and buffers in place of its own.

    A module's tensors must be given under its first name only: torch does not restore what it replaces twice.
    """
    logits: Tensor = functional_call(network, tensors, (x,), tie_weights=False)
    return logits


def drawn_images(like: Tensor, images: int, generator: torch.Generator) -> Tensor:
    """``(images, C, H, W)`` of N(0, 1), of the shape and device of the batch ``like``."""
    drawn = torch.randn((images, *like.shape[1:]), dtype=like.dtype, device="cpu", generator=generator)
    return drawn.to(like.device)
