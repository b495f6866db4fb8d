"""Forward and backward passes through a network, each of which can serve several requests.

If batch norms use their running statistics, images do not influence one another. Requests for different numbers of
images then share one sweep over the batch. On a CPU, each pass of the sweep takes only a few images, which bounds
memory. If batch norms use batch statistics, a request takes one pass over exactly its images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.engine.checks import check_batch, check_not_rounding, error_of
from proxies.engine.hooks import AgreementObserver, AgreementOnceObserver, Observer, SaliencyObserver
from proxies.engine.modes import NormMode, frozen, norm_mode, uses_batch_statistics, without_gradients
from proxies.engine.shared_weights import SharedWeights, shared_weights
from proxies.errors import ProxyError

Function = Literal["logits", "loss"]
Quantity = Literal[
    "weight_gradients",
    "input_gradients",
    "gradient_change",
    "activation_agreement",
    "activation_agreement_once",
    "output_saliency",
]

#: The maximum number of images in a pass of a sweep on the CPU. It bounds memory (about 6 MB an image at 16 channels
#: and 8 layers). If some request of a sweep over 50 images ends after 8 images, the other 42 take two passes of 21.
CPU_CHUNK = 25

OBSERVERS: dict[Quantity, type[Observer]] = {
    "activation_agreement": AgreementObserver,
    "activation_agreement_once": AgreementOnceObserver,
    "output_saliency": SaliencyObserver,
}
OF_WEIGHTS: tuple[Quantity, ...] = ("weight_gradients", "output_saliency")
OF_IMAGES: tuple[Quantity, ...] = ("input_gradients", "gradient_change")
OF_CODES: tuple[Quantity, ...] = ("activation_agreement", "activation_agreement_once")


class NetworkStack(Protocol):
    """K networks computed as one, ``(N K, C, H, W)`` -> logits ``(N K, classes)``; see :mod:`proxies.stack`."""

    width: int  # K

    def split(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """For each network, its part of tensors with the names and shapes of the stack's parameters, by own name."""

    def reach(self, counts: Sequence[int]) -> int:
        """How many of the stack's first parameters hold the first ``counts[k]`` parameters of each network k."""


@dataclass(frozen=True)
class Request:
    """A request for one quantity of the images ``start`` to ``stop - 1``.

    The methods of :class:`~proxies.base.Probe` describe the quantities. ``function`` is what is differentiated: the sum
    over images of all logits, or of the cross-entropies. ``step`` is the L2 length of the step of ``gradient_change``,
    in pixel units. ``tensors`` limits the weight gradients to the first ``tensors`` parameters that require a gradient.
    """

    quantity: Quantity
    norm: NormMode
    stop: int
    start: int = 0
    function: Function = "loss"
    step: float = 0.0
    tensors: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the request needs a single pass over exactly its images."""
        return self.norm == "train" or self.quantity == "output_saliency"

    def shares_with(self, other: Request) -> bool:
        """Whether one sweep can serve both requests."""
        if (self.norm, self.exact) != (other.norm, other.exact):
            return False
        return not self.exact or (self.start, self.stop) == (other.start, other.stop)


def run_requests(
    network: nn.Module, images: Tensor, labels: Tensor, requests: Sequence[Request], width: int = 1
) -> dict[Request, Any]:
    """The value of each request, or the ProxyError that says why there is none.

    :param requests: any two of them must satisfy :meth:`Request.shares_with`.
    :param width: K, where the network is a stack of K networks (:mod:`proxies.stack`): row ``n K + k`` of ``images``,
        of ``labels`` and of what is computed belongs to its k-th network. Requests count images, not rows.
    """
    learned = [name for name, each in network.named_parameters() if each.requires_grad]
    refused = {each: error for each in requests if (error := _refusal(network, each, learned)) is not None}
    if refused:
        others = [each for each in requests if each not in refused]
        return {**refused, **(run_requests(network, images, labels, others, width) if others else {})}
    asked = {each.quantity for each in requests}
    with ExitStack() as scopes:
        scopes.enter_context(norm_mode(network, requests[0].norm))
        scopes.enter_context(torch.set_grad_enabled(not asked.issubset(OF_CODES)))
        if asked.isdisjoint(OF_WEIGHTS):
            scopes.enter_context(frozen(network))
        observers: dict[Quantity, Observer] = {
            quantity: scopes.enter_context(observer(network))
            for quantity, observer in OBSERVERS.items()
            if quantity in asked
        }
        sweep = _Sweep(network, requests, scopes.enter_context(shared_weights(network)), observers, learned, width)
        for start, stop in segments(requests, images.device.type):
            rows = slice(start * width, stop * width)
            sweep.run(start, images[rows].detach(), labels[rows])
        return {request: sweep.value(request) for request in requests}


def _refusal(network: nn.Module, request: Request, learned: Sequence[str]) -> ProxyError | None:
    """Why the quantity of the request does not exist, if that is known before any pass."""
    if not learned and request.quantity in OF_WEIGHTS:
        return ProxyError("no parameter of the network requires a gradient")
    if not request.exact or request.quantity in OBSERVERS:
        return None
    return error_of(lambda: check_batch(network, request.norm, request.stop - request.start))


def segments(requests: Sequence[Request], device: str) -> Iterator[tuple[int, int]]:
    """Start and stop of each pass of a sweep. No request begins or ends within a pass."""
    cuts = sorted({cut for each in requests for cut in (each.start, each.stop)})
    for start, stop in itertools.pairwise(cuts):
        if not any(each.start <= start and stop <= each.stop for each in requests):
            continue
        passes = 1 if requests[0].exact or device != "cpu" else -(-(stop - start) // CPU_CHUNK)
        bounds = [start + (stop - start) * i // passes for i in range(passes + 1)]
        yield from itertools.pairwise(bounds)


class _Sweep:
    """A sweep: passes over parts of the batch, and the results of each request from the passes so far."""

    def __init__(
        self,
        network: nn.Module,
        requests: Sequence[Request],
        weights: SharedWeights,
        observers: Mapping[Quantity, Observer],
        learned: Sequence[str],
        width: int,
    ):
        self.network = network
        self.width = width
        self.weights = weights
        self.observers = observers
        self.learned = learned
        #: whether the gradient for an image does not depend on the other images of the pass
        self.independent = not uses_batch_statistics(network, requests[0].norm)
        self.gathered: dict[Request, list[Any]] = {request: [] for request in requests}
        self.errors: dict[Request, dict[int, ProxyError]] = {}  # by the number of the network in the stack

    def run(self, start: int, images: Tensor, labels: Tensor) -> None:
        """Run the passes over some images: a forward pass, and a backward pass for each function to be differentiated.

        Each request for a ``gradient_change`` takes a further forward and backward pass of the moved images.

        :param start: the number of the first image.
        """
        count = len(images) // self.width
        requests = [each for each in self.gathered if each.start <= start and start + count <= each.stop]
        if any(each.quantity in OF_IMAGES for each in requests):
            images.requires_grad_()
        for quantity, observer in self.observers.items():
            if any(each.quantity == quantity for each in requests):
                stop = max(each.stop for each in self.gathered if each.quantity == quantity)
                observer.begin(start, count, more=start + count < stop)
        self._listen(*(each.quantity for each in requests))
        logits = self.network(images)
        backward: dict[Function, list[Request]] = {}
        for request in requests:
            if request.quantity in OF_CODES:
                self._check_finite(logits, request)
            else:
                backward.setdefault(request.function, []).append(request)
        of_logits = [] if self.independent else backward.get("logits", [])
        may_cancel = [each for each in of_logits if each.quantity in OF_IMAGES]
        for i, (function, wanted) in enumerate(backward.items()):
            more = bool(may_cancel) or i + 1 < len(backward)
            self._differentiate(_scalar(function, logits, labels), images, wanted, keep_graph=more)
        self._listen()
        if may_cancel:
            self._check_rounding(logits, images, may_cancel)
        for request in requests:
            if request.quantity == "gradient_change":
                before = self.gathered[request].pop()
                self.gathered[request].append(self._gradient_after(images, labels, before, request) - before)

    def value(self, request: Request) -> Any:
        """The value of the request, or a ProxyError, after all passes; of a stack, a list with one for each network."""
        errors, value = self.errors.get(request, {}), self._value(request)
        if self.width == 1:
            return errors.get(0, value)
        if isinstance(value, ProxyError):
            return [errors.get(k, value) for k in range(self.width)]
        if request.quantity == "weight_gradients":
            parts = cast(NetworkStack, self.network).split(value)
        elif request.quantity in self.observers:
            parts = value.unbind()
        else:
            parts = [value[k :: self.width] for k in range(self.width)]
        return [errors.get(k, part) for k, part in enumerate(parts)]

    def _value(self, request: Request) -> Any:
        if request.quantity in self.observers:
            return self.observers[request.quantity].value(request.start, request.stop)
        if request.quantity != "weight_gradients":
            return torch.cat(self.gathered[request])
        found = self.weights.gradients(self.gathered[request])
        names = self.learned[: request.tensors]
        return found if request.tensors is None else {name: found[name] for name in names if name in found}

    def _differentiate(self, scalar: Tensor, images: Tensor, wanted: Sequence[Request], *, keep_graph: bool) -> None:
        """Run one backward pass from ``scalar``, and store its gradients for the requests ``wanted``."""
        leaves = self.weights.leaves
        positions = self._positions(wanted)
        of_images = any(each.quantity in OF_IMAGES for each in wanted)
        inputs = [*(leaves[i] for i in positions), *([images] if of_images else [])]
        self._listen(*(each.quantity for each in wanted))
        asked = set(positions)
        with without_gradients([leaf for i, leaf in enumerate(leaves) if i not in asked]):
            found = torch.autograd.grad(scalar, inputs, retain_graph=keep_graph, allow_unused=True)
        by_leaf: list[Tensor | None] = [None] * len(leaves)
        for position, gradient in zip(positions, found, strict=False):
            by_leaf[position] = gradient
        for request in wanted:
            if request.quantity == "weight_gradients":
                self.gathered[request] = _summed(self.gathered[request], by_leaf)
            elif request.quantity in OF_IMAGES:
                self.gathered[request].append(torch.zeros_like(images) if found[-1] is None else found[-1])

    def _check_finite(self, logits: Tensor, request: Request) -> None:
        """Note that a logit is not finite."""
        wrong = ~logits.isfinite()
        for row in wrong.any(1).nonzero().flatten().tolist() if wrong.any() else ():
            value = logits[row][wrong[row]][0].item()
            error = ProxyError(f"a logit is {value}, expected a finite number")
            self.errors.setdefault(request, {}).setdefault(row % self.width, error)

    def _check_rounding(self, logits: Tensor, images: Tensor, requests: Sequence[Request]) -> None:
        """Note the error of those requests whose gradient of the summed logits is rounding alone."""
        signs = torch.ones_like(logits)
        signs.view(-1, self.width, logits.shape[1])[1::2] = -1
        with without_gradients(self.weights.leaves):
            (parts,) = torch.autograd.grad((logits * signs).sum(), images, materialize_grads=True)
        totals = self.gathered[requests[0]][-1]
        for k in range(self.width):
            total, part = (each[k :: self.width].norm().item() for each in (totals, parts))
            what = "the logits, summed over the batch,"
            error = error_of(partial(check_not_rounding, total, part, images.dtype, what))
            if error is not None:
                for each in requests:
                    self.errors.setdefault(each, {})[k] = error

    def _positions(self, wanted: Sequence[Request]) -> Sequence[int]:
        """The positions of the leaves that these requests need gradients of."""
        of_weights = [each for each in wanted if each.quantity not in OF_IMAGES]
        if any(each.tensors is None for each in of_weights):
            return range(len(self.weights.leaves))
        first = max((each.tensors or 0 for each in of_weights), default=0)
        return self.weights.leaves_of(self.learned[:first])

    def _gradient_after(self, images: Tensor, labels: Tensor, before: Tensor, request: Request) -> Tensor:
        """The gradient with respect to the images after each image has moved one step along the sign of ``before``."""
        sign = before.sign()
        lengths = sign.flatten(1).norm(dim=1).clamp_min(1.0)  # below 1 only if no pixel moves
        moved = (images.detach() + request.step * sign / lengths.view(-1, 1, 1, 1)).requires_grad_()
        with without_gradients(self.weights.leaves):
            scalar = _scalar(request.function, self.network(moved), labels)
            after: Tensor = torch.autograd.grad(scalar, moved, materialize_grads=True)[0]
            return after

    def _listen(self, *quantities: Quantity) -> None:
        """Let only the observers of these quantities record from now on."""
        for quantity, observer in self.observers.items():
            observer.listening = quantity in quantities


def _scalar(function: Function, logits: Tensor, labels: Tensor) -> Tensor:
    """The function summed over the images of the pass."""
    return logits.sum() if function == "logits" else F.cross_entropy(logits, labels, reduction="sum")


def _summed(so_far: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    if not so_far:
        return list(more)
    return [a if b is None else b if a is None else a + b for a, b in zip(so_far, more, strict=True)]
