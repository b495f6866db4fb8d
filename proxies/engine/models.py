"""Models as users bring them, and the plain network that is scored in their place.

A :class:`~proxies.base.Probe` scores a copy, so that nothing can remain in the model itself. In the copy

* wrappers are taken off: ``nn.DataParallel``, ``DistributedDataParallel``, ``torch.compile``;
* a weight that is computed from other tensors (parametrizations, and the hooks of ``weight_norm``, ``spectral_norm``
  and ``prune`` in ``torch.nn.utils``) is replaced by a parameter with the value that it has in eval mode;
* weights of less than 32 bits become float32.

So every proxy sees layers with weights of their own, which it can differentiate, count and replace.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from proxies.errors import ProxyError

LEAST_BYTES = 4  # of a weight: fewer do not hold the sums and products of a score


def check_model(model: nn.Module) -> None:
    """:raises ProxyError: the model has parts that no proxy can score; the message says what to pass instead."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"the module '{path}'" if path else "the model"
            raise ProxyError(
                f"{what} is TorchScript, whose layers cannot be observed; expected the nn.Module that it was made from"
            )
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            full_name = f"'{path}.{name}'" if path else f"'{name}'"
            if is_lazy(tensor):
                raise ProxyError(f"{full_name} has no shape yet; expected a model that has been called once on images")
            if tensor.is_meta:
                raise ProxyError(f"{full_name} is on the device meta, without values; expected weights on cpu or cuda")
            if tensor.is_complex():
                raise ProxyError(f"{full_name} is of {tensor.dtype}; expected real floating-point weights")


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. What cannot be copied, such as a hook that holds a lock, is shared with the model.

    :raises ProxyError: the model cannot be copied even so.
    """
    computed = {  # such as a weight made by weight_norm, which torch does not copy
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, dict(computed))
    except Exception:
        shared = {id(each): each for each in _not_copyable(model)}
    try:
        return copy.deepcopy(model, {**computed, **shared})
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ProxyError(f"the model cannot be copied ({reason}); expected one that copy.deepcopy takes") from error


def _not_copyable(model: nn.Module) -> Iterator[Any]:
    """Hooks and other attributes of the modules that ``copy.deepcopy`` does not take."""
    modules = {id(module): module for module in model.modules()}
    for module in modules.values():
        for attribute in vars(module).values():
            for value in attribute.values() if isinstance(attribute, dict) else [attribute]:
                try:
                    copy.deepcopy(value, dict(modules))
                except Exception:
                    yield value


def plain(network: nn.Module) -> nn.Module:
    """The network without wrappers, with plain weights of at least 32 bits; it is changed in place.

    :raises ProxyError: a layer or norm has a weight that is no parameter, made by a hook that is not known here.
    """
    network = unwrapped(network)
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = unwrapped(child)
        if "parametrizations" in module._modules:
            _settle_parametrizations(module)
        if module._forward_pre_hooks:
            _settle_hooks(module)
    low = False
    for path, module in network.named_modules():
        if "weight" not in module._parameters and isinstance(module, nn.Conv2d | nn.Linear | _BatchNorm):
            raise ProxyError(f"the weight of '{path}' is set by a hook that is not known; expected a parameter")
        tensors = [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
        low |= any(each.is_floating_point() and each.element_size() < LEAST_BYTES for each in tensors)
    return network.float() if low else network


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside of wrappers that do not change what it computes.

    :raises ProxyError: a wrapper has hooks, which may change it.
    """
    while (inner := _inside(network)) is not None:
        if has_hooks(network):
            kind = type(network).__name__
            raise ProxyError(f"the {kind} around the model has hooks of its own; expected them on the model inside")
        network = inner
    return network


def _inside(network: nn.Module) -> nn.Module | None:
    wrappers = nn.DataParallel, nn.parallel.DistributedDataParallel
    return network.module if isinstance(network, wrappers) else network._modules.get("_orig_mod")  # of torch.compile


def has_hooks(module: nn.Module) -> bool:
    """Whether the module itself has a hook."""
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def _settle_parametrizations(module: nn.Module) -> None:
    """Replace each parametrized tensor by its value."""
    made = {name: each for name, each in module.get_submodule("parametrizations").eval().named_children()}
    with torch.no_grad():
        values = {name: each() for name, each in made.items()}
    # The class with the computed attributes also belongs to the model that was copied: it must not be changed, as
    # parametrize.remove_parametrizations would do.
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in values.items():
        if made[name]._parameters:
            module.register_parameter(name, nn.Parameter(value))
            _place_first(module, name, learned=any(each.requires_grad for each in made[name].parameters()))
        else:
            module.register_buffer(name, value)


def _settle_hooks(module: nn.Module) -> None:
    """Replace each tensor that a hook of ``torch.nn.utils`` computes by its value, and remove the hook."""
    for hook in list(module._forward_pre_hooks.values()):
        name = hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else getattr(hook, "name", "")
        parts = [module._parameters.get(name + part) for part in ("_g", "_v", "_orig")]
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, name)  # type: ignore[no-untyped-call]
        else:
            continue
        _place_first(module, name, learned=any(each is not None and each.requires_grad for each in parts))


def _place_first(module: nn.Module, name: str, *, learned: bool) -> None:
    """Move the parameter to the place that a weight has in torch's layers: before the bias."""
    others = {each: module._parameters.pop(each) for each in list(module._parameters) if each != name}
    module._parameters.update(others)
    module.get_parameter(name).requires_grad_(learned)


def matched(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the device of the model, and in a precision that its weights have when they are scored."""
    tensors = [each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
    if not tensors:
        return images
    learned = [each for each in tensors if isinstance(each, nn.Parameter)] or tensors
    precisions = [each.dtype if each.element_size() >= LEAST_BYTES else torch.float32 for each in learned]
    keep = images.dtype in precisions or not images.is_floating_point()
    return images.to(tensors[0].device, images.dtype if keep else precisions[0])
