"""What the conformance suite of proxies compares before and after a score: everything that could be left changed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.testing.expectations import expect
from proxies.base import Probe
from proxies.engine.modes import isolated, norm_mode

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@contextmanager
def unchanged(network: nn.Module, probe: Probe, *tensors: Tensor) -> Iterator[None]:
    """:raises AssertionError: the block has changed the network, that of its probe, or something global."""
    before = [trace(each, *tensors) for each in (network, probe.network)]
    yield
    for each, earlier in zip((network, probe.network), before, strict=True):
        check_same(earlier, trace(each, *tensors))


def trace(network: nn.Module, *tensors: Tensor) -> dict[str, Any]:
    """A record of everything that a proxy could leave changed, each part by its name for messages.

    :param tensors: images, and what belongs to them.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    held = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))
    numpy = np.random.get_state(legacy=False)
    return {
        "the modules": {name: id(module) for name, module in modules.items()},
        "the classes of the modules": {name: type(module) for name, module in modules.items()},
        "the mode of the modules": {name: module.training for name, module in modules.items()},
        "the forward of the modules": {name: module.__dict__.get("forward") for name, module in modules.items()},
        **{
            f"the{kind.replace('_', ' ')}": {name: list(vars(module)[kind]) for name, module in modules.items()}
            for kind in HOOKS
        },
        "the attributes of the modules": {name: _attributes(module) for name, module in modules.items()},
        "the tensors": {name: id(tensor) for name, tensor in held.items()},
        "the values of the tensors": {name: _contents(tensor) for name, tensor in held.items()},
        "the output": _output(network, tensors[0]),
        "the state_dict": {name: _contents(each) for name, each in network.state_dict().items()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in held.items()},
        "grad": {name: _contents(tensor.grad) for name, tensor in held.items()},
        "the hooks of the tensors": {name: list(tensor._backward_hooks or ()) for name, tensor in held.items()},
        "images and labels": [(_contents(each), each.requires_grad, _contents(each.grad)) for each in tensors],
        "the random states": (random.getstate(), repr(numpy), _contents(torch.get_rng_state())),
        "the global flags": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()),
    }


def check_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """:raises AssertionError: two traces differ; the message says what differs, and in which modules or tensors."""
    for what, value in before.items():
        changed = after[what]
        if isinstance(value, dict) and changed != value:
            names = [name for name in {**value, **changed} if value.get(name) != changed.get(name)]
            raise AssertionError(f"the score has changed {what}, of {', '.join(map(repr, names[:5]))}")
        expect(changed == value, f"the score has changed {what}")


def _output(network: nn.Module, images: Tensor) -> Any:
    """The output in eval mode for the first image, or the error in place of it."""
    with isolated(), norm_mode(network, "eval"), torch.no_grad():
        try:
            logits = network(images[:1])
        except Exception as error:
            return repr(error)
    return _contents(logits) if isinstance(logits, Tensor) else type(logits)


def _attributes(module: nn.Module) -> list[str]:
    return sorted(name for name, value in vars(module).items() if value is not None)


def _contents(tensor: Tensor | None) -> tuple[torch.dtype, torch.Size, bytes] | None:
    if tensor is None:
        return None
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, flat.view(torch.uint8).numpy().tobytes()
