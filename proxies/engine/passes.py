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
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.engine.checks import check_batch, check_not_rounding, error_of
from proxies.engine.hooks import AgreementObserver, Observer, SaliencyObserver
from proxies.engine.modes import NormMode, frozen, norm_mode, uses_batch_statistics, without_gradients
from proxies.engine.shared_weights import SharedWeights, shared_weights
from proxies.errors import ProxyError

Function = Literal["logits", "loss"]
Quantity = Literal["weight_gradients", "input_gradients", "gradient_change", "activation_agreement", "output_saliency"]

#: The maximum number of images in a pass of a sweep on the CPU. It bounds memory (about 6 MB an image at 16 channels
#: and 8 layers). If some request of a sweep over 50 images ends after 8 images, the other 42 take two passes of 21.
CPU_CHUNK = 25

OBSERVERS: dict[Quantity, type[Observer]] = {
    "activation_agreement": AgreementObserver,
    "output_saliency": SaliencyObserver,
}
OF_WEIGHTS: tuple[Quantity, ...] = ("weight_gradients", "output_saliency")
OF_IMAGES: tuple[Quantity, ...] = ("input_gradients", "gradient_change")

#: What one backward pass differentiates: the function, a factor for each image (None: all are 1), and the number of the
#: image that the first factor is for.
Differentiated: TypeAlias = tuple[Function, tuple[float, ...] | None, int]


@dataclass(frozen=True)
class Request:
    """A request for one quantity of the images ``start`` to ``stop - 1``.

    The methods of :class:`~proxies.base.Probe` describe the quantities. ``function`` is what is differentiated: the sum
    over images of all logits, or of the cross-entropies. ``image_weights`` is a factor for each image in this sum.
    ``step`` is the L2 length of the step of ``gradient_change``, in pixel units. ``tensors`` limits the weight
    gradients to the first ``tensors`` parameters that require a gradient.
    """

    quantity: Quantity
    norm: NormMode
    stop: int
    start: int = 0
    function: Function = "loss"
    step: float = 0.0
    image_weights: tuple[float, ...] | None = None
    tensors: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the request needs a single pass over exactly its images."""
        return self.norm == "train" or self.quantity == "output_saliency"

    @property
    def differentiated(self) -> Differentiated:
        return self.function, self.image_weights, 0 if self.image_weights is None else self.start

    def shares_with(self, other: Request) -> bool:
        """Whether one sweep can serve both requests."""
        if (self.norm, self.exact) != (other.norm, other.exact):
            return False
        return not self.exact or (self.start, self.stop) == (other.start, other.stop)


def run_requests(network: nn.Module, images: Tensor, labels: Tensor, requests: Sequence[Request]) -> dict[Request, Any]:
    """The value of each request, or the ProxyError that says why there is none.

    :param requests: any two of them must satisfy :meth:`Request.shares_with`.
    """
    learned = [name for name, each in network.named_parameters() if each.requires_grad]
    refused = {each: error for each in requests if (error := _refusal(network, each, learned)) is not None}
    if refused:
        others = [each for each in requests if each not in refused]
        return {**refused, **(run_requests(network, images, labels, others) if others else {})}
    asked = {each.quantity for each in requests}
    with ExitStack() as scopes:
        scopes.enter_context(norm_mode(network, requests[0].norm))
        scopes.enter_context(torch.set_grad_enabled(asked != {"activation_agreement"}))
        if asked.isdisjoint(OF_WEIGHTS):
            scopes.enter_context(frozen(network))
        observers: dict[Quantity, Observer] = {
            quantity: scopes.enter_context(observer(network))
            for quantity, observer in OBSERVERS.items()
            if quantity in asked
        }
        sweep = _Sweep(network, requests, scopes.enter_context(shared_weights(network)), observers, learned)
        for start, stop in segments(requests, images.device.type):
            sweep.run(start, images[start:stop].detach(), labels[start:stop])
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
    ):
        self.network = network
        self.weights = weights
        self.observers = observers
        self.learned = learned
        #: whether the gradient for an image does not depend on the other images of the pass
        self.independent = not uses_batch_statistics(network, requests[0].norm)
        self.gathered: dict[Request, list[Any]] = {request: [] for request in requests}
        self.errors: dict[Request, ProxyError] = {}

    def run(self, start: int, images: Tensor, labels: Tensor) -> None:
        """Run the passes over some images: a forward pass, and a backward pass for each function to be differentiated.

        Each request for a ``gradient_change`` takes a further forward and backward pass of the moved images.

        :param start: the number of the first image.
        """
        requests = [each for each in self.gathered if each.start <= start and start + len(images) <= each.stop]
        if any(each.quantity in OF_IMAGES for each in requests):
            images.requires_grad_()
        for quantity, observer in self.observers.items():
            if any(each.quantity == quantity for each in requests):
                stop = max(each.stop for each in self.gathered if each.quantity == quantity)
                observer.begin(start, len(images), more=start + len(images) < stop)
        self._listen(*(each.quantity for each in requests))
        logits = self.network(images)
        backward: dict[Differentiated, list[Request]] = {}
        for request in requests:
            if request.quantity == "activation_agreement":
                wrong = logits[~logits.isfinite()]
                if len(wrong):
                    self.errors[request] = ProxyError(f"a logit is {wrong[0].item()}, expected a finite number")
            else:
                backward.setdefault(request.differentiated, []).append(request)
        together = _merged(backward, start, images) if self.independent else backward
        of_logits = [] if self.independent else backward.get(("logits", None, 0), [])
        may_cancel = [each for each in of_logits if each.quantity in OF_IMAGES]
        for i, (what, wanted) in enumerate(together.items()):
            scalar, more = _scalar(what, logits, labels, start), bool(may_cancel) or i + 1 < len(together)
            self._differentiate(scalar, images, wanted, _factors(what, start, images), keep_graph=more)
        self._listen()
        if may_cancel:
            self._check_rounding(logits, images, may_cancel)
        for request in requests:
            if request.quantity == "gradient_change":
                before = self.gathered[request].pop()
                self.gathered[request].append(self._gradient_after(start, images, labels, before, request) - before)

    def value(self, request: Request) -> Any:
        """The value of the request, or a ProxyError, after all passes."""
        if request in self.errors:
            return self.errors[request]
        if request.quantity in self.observers:
            return self.observers[request.quantity].value(request.start, request.stop)
        if request.quantity != "weight_gradients":
            return torch.cat(self.gathered[request])
        found = self.weights.gradients(self.gathered[request])
        names = self.learned[: request.tensors]
        return found if request.tensors is None else {name: found[name] for name in names if name in found}

    def _differentiate(
        self, scalar: Tensor, images: Tensor, wanted: Sequence[Request], factors: Tensor | None, *, keep_graph: bool
    ) -> None:
        """Run one backward pass from ``scalar``, and store its gradients for the requests ``wanted``.

        :param factors: the factors of the images in ``scalar``, or None. The gradients for a request for gradients of
            images that has no factors itself are divided by them.
        """
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
                by_images = torch.zeros_like(images) if found[-1] is None else found[-1]
                if factors is not None and request.image_weights is None:
                    by_images = by_images / factors.view(-1, 1, 1, 1)
                self.gathered[request].append(by_images)

    def _check_rounding(self, logits: Tensor, images: Tensor, requests: Sequence[Request]) -> None:
        """Note the error of those requests whose gradient of the summed logits is rounding alone."""
        signs = torch.ones_like(logits)
        signs[1::2] = -1
        with without_gradients(self.weights.leaves):
            (parts,) = torch.autograd.grad((logits * signs).sum(), images, materialize_grads=True)
        sizes = self.gathered[requests[0]][-1].norm().item(), parts.norm().item()
        error = error_of(lambda: check_not_rounding(*sizes, images.dtype, "the logits, summed over the batch,"))
        self.errors.update({each: error for each in requests if error is not None})

    def _positions(self, wanted: Sequence[Request]) -> Sequence[int]:
        """The positions of the leaves that these requests need gradients of."""
        of_weights = [each for each in wanted if each.quantity not in OF_IMAGES]
        if any(each.tensors is None for each in of_weights):
            return range(len(self.weights.leaves))
        first = max((each.tensors or 0 for each in of_weights), default=0)
        return self.weights.leaves_of(self.learned[:first])

    def _gradient_after(self, start: int, images: Tensor, labels: Tensor, before: Tensor, request: Request) -> Tensor:
        """The gradient with respect to the images after each image has moved one step along the sign of ``before``."""
        sign = before.sign()
        lengths = sign.flatten(1).norm(dim=1).clamp_min(1.0)  # below 1 only if no pixel moves
        moved = (images.detach() + request.step * sign / lengths.view(-1, 1, 1, 1)).requires_grad_()
        with without_gradients(self.weights.leaves):
            scalar = _scalar(request.differentiated, self.network(moved), labels, start)
            after: Tensor = torch.autograd.grad(scalar, moved, materialize_grads=True)[0]
            return after

    def _listen(self, *quantities: Quantity) -> None:
        """Let only the observers of these quantities record from now on."""
        for quantity, observer in self.observers.items():
            observer.listening = quantity in quantities


def _merged(
    backward: Mapping[Differentiated, list[Request]], start: int, images: Tensor
) -> Mapping[Differentiated, list[Request]]:
    """Save a backward pass if the same function is differentiated both with factors of the images and without.

    If images do not influence one another, the gradient for an image without its factor is the gradient with the
    factor, divided by the factor. The passes are merged only if all factors are from 1e-3 to 1e3 in size, so that the
    division is exact up to rounding.
    """
    together = {what: list(requests) for what, requests in backward.items()}
    for what, requests in backward.items():
        if what[1] is not None or not all(each.quantity in OF_IMAGES for each in requests):
            continue
        for other in backward:
            function, weights, first = other
            if function != what[0] or weights is None or images.dtype not in (torch.float32, torch.float64):
                continue
            if all(1e-3 <= abs(each) <= 1e3 for each in weights[start - first : start - first + len(images)]):
                together[other] += together.pop(what)
                break
    return together


def _factors(what: Differentiated, start: int, images: Tensor) -> Tensor | None:
    """``(N,)``: the factors of these images in the function; None if all are 1."""
    _, factors, first = what
    return None if factors is None else images.new_tensor(factors[start - first : start - first + len(images)])


def _scalar(what: Differentiated, logits: Tensor, labels: Tensor, start: int) -> Tensor:
    """The function summed over the images of the pass, the first of which has the number ``start``."""
    function, factors = what[0], _factors(what, start, logits)
    if factors is None:
        return logits.sum() if function == "logits" else F.cross_entropy(logits, labels, reduction="sum")
    each = logits.sum(1) if function == "logits" else F.cross_entropy(logits, labels, reduction="none")
    return (each * factors).sum()


def _summed(so_far: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    if not so_far:
        return list(more)
    return [a if b is None else b if a is None else a + b for a, b in zip(so_far, more, strict=True)]
