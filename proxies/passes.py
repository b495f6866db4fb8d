"""Passes through a network, each shared by all that asks for it.

With running statistics in the batch norms images do not interact: requests for different numbers of images share one
sweep over the batch, and on a CPU the sweep goes a few images at a time, which bounds memory. With the batch's own
statistics a request is one pass over exactly its images.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Function = Literal["logits", "loss"]
NormMode = Literal["eval", "train"]
Quantity = Literal["weight_gradients", "input_gradients", "gradient_change", "activation_agreement", "output_saliency"]

#: Images a backward pass takes at a time on the CPU; it bounds memory (about 7 MB an image at 16 channels, 8 layers).
CPU_CHUNK = 21


class ProxyError(ValueError):
    """A network that this proxy has no finite value for, and why."""


@dataclass(frozen=True)
class Request:
    """One quantity of a pass over the images ``start`` to ``stop``; :class:`~proxies.base.Probe` describes each.

    ``function`` is what is differentiated: the sum over images of all logits, or of the cross-entropies. ``step`` is the
    length (L2) of the step that a gradient changes over.
    """

    quantity: Quantity
    norm: NormMode
    stop: int
    start: int = 0
    function: Function = "loss"
    step: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether it takes a pass over exactly these images, all at once."""
        return self.norm == "train" or self.quantity in ("activation_agreement", "output_saliency")

    def shares_with(self, other: Request) -> bool:
        """Whether one sweep can serve both."""
        if (self.norm, self.exact) != (other.norm, other.exact):
            return False
        return not self.exact or (self.start, self.stop) == (other.start, other.stop)


def run_requests(network: nn.Module, images: Tensor, labels: Tensor, requests: Sequence[Request]) -> dict[Request, Any]:
    """The value of every request, from one sweep; any two of them share.

    :raises ProxyError: gradients of weights are asked for, and no parameter requires one.
    """
    asked = {each.quantity for each in requests}
    wants_weights = bool(asked & {"weight_gradients", "output_saliency"})
    if wants_weights and not any(each.requires_grad for each in network.parameters()):
        raise ProxyError("no parameter of the network requires a gradient")
    with ExitStack() as scopes:
        scopes.enter_context(norm_mode(network, requests[0].norm))
        scopes.enter_context(torch.set_grad_enabled(asked != {"activation_agreement"}))
        if not wants_weights:
            scopes.enter_context(frozen(network))
        observers: dict[Quantity, Observer] = {
            quantity: scopes.enter_context(observer(network))
            for quantity, observer in OBSERVERS.items()
            if quantity in asked
        }
        weights = scopes.enter_context(shared_weights(network))
        gathered: dict[Request, list[Any]] = {request: [] for request in requests}
        for start, stop in segments(requests, images.device.type):
            active = [each for each in requests if each.start <= start and stop <= each.stop]
            _one_pass(network, images[start:stop], labels[start:stop], active, weights.leaves, observers, gathered)
        return {
            request: observers[request.quantity].value()
            if request.quantity in observers
            else weights.gradients(gathered[request])
            if request.quantity == "weight_gradients"
            else torch.cat(gathered[request])
            for request in requests
        }


def segments(requests: Sequence[Request], device: str) -> Iterator[tuple[int, int]]:
    """Start and stop of each pass of a sweep; no request begins or ends inside one."""
    cuts = sorted({cut for each in requests for cut in (each.start, each.stop)})
    for start, stop in itertools.pairwise(cuts):
        if not any(each.start <= start and stop <= each.stop for each in requests):
            continue
        passes = 1 if requests[0].exact or device != "cpu" else -(-(stop - start) // CPU_CHUNK)
        bounds = [start + (stop - start) * i // passes for i in range(passes + 1)]
        yield from itertools.pairwise(bounds)


def _one_pass(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    requests: Sequence[Request],
    leaves: Sequence[Tensor],
    observers: Mapping[Quantity, Observer],
    gathered: dict[Request, list[Any]],
) -> None:
    """One forward pass, and one backward pass for each function that is differentiated; the same for each step."""
    images = images.detach()
    by_images = ("input_gradients", "gradient_change")
    if any(each.quantity in by_images for each in requests):
        images.requires_grad_()
    logits = network(images)
    functions: dict[Function, list[Request]] = {}
    for request in requests:
        if request.quantity != "activation_agreement":
            functions.setdefault(request.function, []).append(request)
    for i, (function, wanted) in enumerate(functions.items()):
        scalar = logits.sum() if function == "logits" else F.cross_entropy(logits, labels, reduction="sum")
        by_weights = any(each.quantity not in by_images for each in wanted)
        inputs = [*(leaves if by_weights else ()), *([images] if images.requires_grad else [])]
        if saliency := observers.get("output_saliency"):
            saliency.listening = any(each.quantity == "output_saliency" for each in wanted)
        found = torch.autograd.grad(scalar, inputs, retain_graph=i + 1 < len(functions), allow_unused=True)
        for request in wanted:
            if request.quantity == "weight_gradients":
                gathered[request] = _summed(gathered[request], found[: len(leaves)])
            elif request.quantity in by_images:
                gathered[request].append(torch.zeros_like(images) if found[-1] is None else found[-1])
    for request in requests:
        if request.quantity == "gradient_change":
            before = gathered[request].pop()
            gathered[request].append(_gradient_after(network, images, labels, before, request, leaves) - before)


def _gradient_after(
    network: nn.Module, images: Tensor, labels: Tensor, before: Tensor, request: Request, leaves: Sequence[Tensor]
) -> Tensor:
    """The gradient by the images of the summed function, a step along the sign of ``before`` away."""
    sign = before.sign()
    lengths = sign.flatten(1).norm(dim=1).clamp_min(1.0)  # at least one pixel moves, or none
    moved = (images.detach() + request.step * sign / lengths.view(-1, 1, 1, 1)).requires_grad_()
    with without_gradients(leaves):
        logits = network(moved)
        scalar = logits.sum() if request.function == "logits" else F.cross_entropy(logits, labels, reduction="sum")
        return torch.autograd.grad(scalar, moved, materialize_grads=True)[0]


def _summed(so_far: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    if not so_far:
        return list(more)
    return [a if b is None else b if a is None else a + b for a, b in zip(so_far, more, strict=True)]


class Observer(ABC):
    """Inside, listens to the modules of a network."""

    def __init__(self, network: nn.Module):
        self.listening = True
        self._handles = [
            module.register_forward_hook(partial(self._heard, name))
            for name, module in network.named_modules()
            if isinstance(module, self.kinds)
        ]

    kinds: ClassVar[tuple[type[nn.Module], ...]]

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None: ...

    @abstractmethod
    def value(self) -> Any:
        """What was asked for."""


class AgreementObserver(Observer):
    """Of how many ReLU inputs two images have the same sign, ``(N, N)``."""

    kinds = (nn.ReLU, nn.ReLU6)

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._agreement: Tensor | None = None

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        codes = (output.detach() > 0).flatten(1).to(torch.float32)  # exact: there are fewer than 2^24 of a layer
        on = codes.sum(1)
        agreement = (codes.shape[1] - on - on.unsqueeze(1) + 2 * codes @ codes.t()).double()
        self._agreement = agreement if self._agreement is None else self._agreement + agreement

    def value(self) -> Tensor:
        if self._agreement is None:
            raise ProxyError("the network calls no nn.ReLU module")
        return self._agreement


class SaliencyObserver(Observer):
    """The sum over pixels of a layer's output times its gradient, ``(N, channels)`` by layer."""

    kinds = (nn.Conv2d, nn.Linear)

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self._saliency: dict[str, Tensor] = {}

    def _heard(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(partial(self._gradient, name, output.detach()))

    def _gradient(self, name: str, output: Tensor, gradient: Tensor) -> None:
        if self.listening:
            saliency = (output * gradient).flatten(2).sum(2) if output.ndim > 2 else output * gradient
            self._saliency[name] = self._saliency[name] + saliency if name in self._saliency else saliency

    def value(self) -> dict[str, Tensor]:
        return self._saliency


OBSERVERS: dict[Quantity, type[Observer]] = {
    "activation_agreement": AgreementObserver,
    "output_saliency": SaliencyObserver,
}


class SharedWeights(Protocol):
    """What a network computes with while several passes share its parameters."""

    @property
    def leaves(self) -> list[Tensor]:
        """What to differentiate by."""

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """From one gradient a leaf (None: not reached) to the gradients of the parameters, by name."""


class _Parameters:
    """The parameters themselves."""

    def __init__(self, network: nn.Module):
        self._named = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.leaves = list(self._named.values())

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        return {name: each for name, each in zip(self._named, leaf_gradients, strict=True) if each is not None}


@contextmanager
def shared_weights(network: nn.Module) -> Iterator[SharedWeights]:
    """The network's own ``folded()`` where it has one, else its parameters."""
    if hasattr(network, "folded"):
        with network.folded() as folded:
            yield folded
    else:
        yield _Parameters(network)


@contextmanager
def norm_mode(network: nn.Module, mode: NormMode) -> Iterator[None]:
    """Inside, ``network`` is in eval mode, its batch norms in ``mode``; afterwards modes and buffers are as before."""
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


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, no parameter of ``network`` requires a gradient."""
    with without_gradients([each for each in network.parameters() if each.requires_grad]):
        yield


@contextmanager
def without_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, these tensors, which require gradients, require none."""
    for each in tensors:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in tensors:
            each.requires_grad_(True)
