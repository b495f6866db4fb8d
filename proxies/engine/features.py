"""Where the features of a classifier are: the outputs of its blocks, and the input of its global pooling.

A network can say so itself by two methods: ``feature_modules()`` returns its stem and each of its cells in order, and
``pooled_module()`` the module whose output is pooled. In any other network, blocks are found by this rule:

* The modules considered are the children of the network, or, if it has a single child, the children of that one.
* Each child that contains a convolution or linear layer begins a block. The children after it that contain none (norms,
  activations, poolings) belong to the same block, up to a global pooling or the flattening; the output of the last of
  them is that of the block.
* What follows the global pooling (``nn.AdaptiveAvgPool2d``, ``nn.AdaptiveMaxPool2d``) is the classifier; without one,
  the last layer is.
* If that gives a single block, each child that is an ``nn.Sequential`` is replaced by its own children.

The rule expects the modules in the order in which they are called; another network should have the two methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from proxies.errors import ProxyError

GLOBAL_POOLINGS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@runtime_checkable
class HasFeatures(Protocol):
    """A network that says where its features are."""

    def feature_modules(self) -> Sequence[nn.Module]: ...

    def pooled_module(self) -> nn.Module: ...


class Block(NamedTuple):
    """``layers`` is the module that contains the block's layers; the output of ``end`` is that of the block."""

    layers: nn.Module
    end: nn.Module


def blocks(network: nn.Module) -> list[Block]:
    """The blocks of ``network``, in the order in which they are called.

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
    """The modules of those names as blocks; where ``names`` is None, :func:`blocks`.

    :raises ProxyError: the network has no module of such a name.
    """
    if names is None:
        return blocks(network)
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules:
            raise ProxyError(f"the network has no module '{name}'")
    return [Block(modules[name], modules[name]) for name in names]


def pooled_module(network: nn.Module) -> nn.Module:
    """The module whose output ``(N, C, H, W)`` is pooled; without a global pooling, the end of the last block."""
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
    """Inside, a list to which each call of the network appends the outputs of ``modules``, in the order of their calls.

    What follows computes with a copy of each output, since it may change it in place.

    :raises ProxyError: an output is no tensor.
    """
    heard: list[Tensor] = []

    def hear(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ProxyError(f"the features of a {type(module).__name__} are no tensor")
        heard.append(output)
        return output.clone()

    handles = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def features_of_layers(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, the features of each convolution and linear layer in the latest call, by the name of its weight.

    They are the output of the block that contains the layer. For a layer outside of the blocks, such as the classifier,
    they are its input.
    """
    heard: dict[str, Tensor] = {}

    def hear_output(names: list[str], module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        heard.update(dict.fromkeys(names, output.detach().clone()))  # what follows may change it in place

    def hear_input(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        heard[name] = inputs[0].detach().clone()

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
