"""Where the features of a classifier are: its blocks, and what its global pooling is given.

A network says so itself by two methods: ``feature_modules()``, its stem and each of its cells in order, and
``pooled_module()``, the module whose output is pooled. Of any other network the modules are taken that it consists of:

* The children of the network; of a network with a single child, that one's children.
* Each child that holds a convolution or linear layer begins a block. Those after it that hold none (norms, activations,
  poolings) belong to it, up to a global pooling or the flattening; the last one's output is the block's.
* What follows the global pooling (``nn.AdaptiveAvgPool2d``, ``nn.AdaptiveMaxPool2d``) is the classifier; without one,
  the last layer is.
* If that gives a single block, the children that are ``nn.Sequential`` are taken apart.

The modules are expected in the order in which they run; a network that is written otherwise should have the methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from proxies.engine.passes import ProxyError

GLOBAL_POOLINGS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@runtime_checkable
class HasFeatures(Protocol):
    """A network that says where its features are."""

    def feature_modules(self) -> Sequence[nn.Module]: ...

    def pooled_module(self) -> nn.Module: ...


class Block(NamedTuple):
    """``layers`` is the module that holds the block's layers, ``end`` the one whose output is the block's."""

    layers: nn.Module
    end: nn.Module


def blocks(network: nn.Module) -> list[Block]:
    """The blocks of ``network``, in the order in which they run.

    :raises ProxyError: it has no convolution or linear layer.
    """
    if isinstance(network, HasFeatures):
        return [Block(module, module) for module in network.feature_modules()]
    modules = [network]
    while len(modules) == 1 and list(modules[0].children()):
        modules = list(modules[0].children())
    found = _grouped(modules)
    while len(found) < 2 and any(_can_be_taken_apart(module) for module in modules):
        modules = [
            part for module in modules for part in (module.children() if _can_be_taken_apart(module) else [module])
        ]
        found = _grouped(modules)
    if not found:
        raise ProxyError("the network has no convolution or linear layer")
    return found


def named_blocks(network: nn.Module, names: Sequence[str] | None) -> list[Block]:
    """The modules of those names as blocks; without names, :func:`blocks`."""
    if names is None:
        return blocks(network)
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules:
            raise ProxyError(f"the network has no module '{name}'")
    return [Block(modules[name], modules[name]) for name in names]


def pooled_module(network: nn.Module) -> nn.Module:
    """The module whose output ``(N, C, H, W)`` the global pooling is given; the last block's without such a pooling."""
    if isinstance(network, HasFeatures):
        return network.pooled_module()
    return blocks(network)[-1].end


def _grouped(modules: Sequence[nn.Module]) -> list[Block]:
    found: list[Block] = []
    closed = False
    for module in modules:
        if found and isinstance(module, GLOBAL_POOLINGS):
            return found
        if _holds_layer(module):
            found.append(Block(module, module))
            closed = False
        elif isinstance(module, nn.Flatten):
            closed = True
        elif found and not closed:
            found[-1] = found[-1]._replace(end=module)
    return found[:-1] or found


def _holds_layer(module: nn.Module) -> bool:
    return any(isinstance(each, nn.Conv2d | nn.Linear) for each in module.modules())


def _can_be_taken_apart(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and _holds_layer(module)


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, a list to which each run of the network adds the outputs of ``modules``, in the order of the calls."""
    heard: list[Tensor] = []

    def hear(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ProxyError(f"the features of a {type(module).__name__} are no tensor")
        heard.append(output)

    handles = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def features_of_layers(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, the features that belong to each convolution and linear layer, by its weight's name, as last computed.

    They are the output of the block that holds the layer; of a layer outside of the blocks, such as the classifier,
    what it is given.
    """
    heard: dict[str, Tensor] = {}

    def hear_output(names: list[str], module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        heard.update(dict.fromkeys(names, output.detach()))

    def hear_input(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        heard[name] = inputs[0].detach()

    layers = {
        module: f"{name}.weight" if name else "weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    handles = []
    try:
        for block in blocks(network):
            names = [layers.pop(module) for module in block.layers.modules() if module in layers]
            handles.append(block.end.register_forward_hook(partial(hear_output, names)))
        for module, name in layers.items():
            handles.append(module.register_forward_pre_hook(partial(hear_input, name)))
        yield heard
    finally:
        for handle in handles:
            handle.remove()
