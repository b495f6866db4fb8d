"""A network and its perturbed copy: weights, gradients and features of both, which two proxies compare.

The weights of the copy have moved one step that raises the loss, and so have its images. This is CRoZe's robust network
(:mod:`proxies.croze`), which TRNAS uses as well (:mod:`proxies.r_score`):

    W_r = W + beta ||W|| g / ||g||, layer by layer, g the gradient of the loss with respect to W
    x_r = clip(x + epsilon sign(gradient with respect to x of the copy's loss at x), 0, 1)

The programs of both papers perturb in another way, as ``variant="program"`` does here: in float64, with batch norms
bypassed and all parameters replaced by their absolute values; x moves against the sign, which lowers the loss; and the
copy's gradient is the sum of those at x and at x_r, since the program does not reset it in between.

With beta = 2 the weights of each layer can triple, so activations grow fast from layer to layer: where float32
overflows, both networks are computed again in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import Probe, Proxy, ProxyError
from proxies.engine.checks import check_at_least, check_positive, check_word
from proxies.engine.drawn_weights import called_with, parameters_of
from proxies.engine.features import features_of_layers
from proxies.engine.layers import layer_weights
from proxies.engine.modes import frozen, norm_mode
from proxies.synflow import depthwise_products, double_buffers, norms_bypassed, positive_parameters, present

Variant = Literal["paper", "program"]

IMAGES = 2  # the whole published batch would cost more than all other proxies together
BETA = 2.0  # from both programs
EPSILON = 0.01  # likewise, in pixel units


@dataclass(frozen=True)
class Side:
    """What is known of one of the two networks, by the name of each convolution's or linear layer's weight.

    ``gradients`` are those of the mean cross-entropy, ``features`` those of
    :func:`proxies.engine.features.features_of_layers`. A layer that the network does not call has no features.
    """

    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    features: dict[str, Tensor]

    def is_finite(self) -> bool:
        """Whether all gradients and features are finite."""
        held = [*self.gradients.values(), *dict.fromkeys(self.features.values())]
        return bool(torch.stack([each.sum() for each in held]).isfinite().all())


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How far weights and images of the copy move.

    :param images: images from the start of the probe's batch; by default 2, or 1 where it holds 1.
    :param beta: length of a weight's step, relative to the length of the weight.
    :param epsilon: step of each pixel, in pixel units.
    :param variant: as the papers describe, or as their programs do.
    """

    images: int | None = None
    beta: float = BETA
    epsilon: float = EPSILON
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_at_least(1, images=self.images)
        check_positive(beta=self.beta, epsilon=self.epsilon)
        check_word("variant", self.variant, Variant)

    def sides(self, probe: Probe) -> tuple[Side, Side]:
        """The network on its images, and the copy on the moved images; computed once for each probe."""
        return probe.once(self, lambda: self._compared(probe))

    def _compared(self, probe: Probe) -> tuple[Side, Side]:
        x, labels = probe.first(self.images, IMAGES)
        with norm_mode(probe.network, "eval"):
            return self._both(probe.network, x, labels)

    def _both(self, network: nn.Module, x: Tensor, labels: Tensor) -> tuple[Side, Side]:
        if self.variant == "program":
            with norms_bypassed(network), depthwise_products(network):
                tensors = present(network, {**positive_parameters(network), **double_buffers(network)})
                return self._passes(network, tensors, x.double(), labels)
        found = self._passes(network, {}, x, labels)
        if x.dtype == torch.float64 or all(side.is_finite() for side in found):
            return found
        tensors = {name: each.detach().double() for name, each in parameters_of(network).items()}
        return self._passes(network, {**tensors, **double_buffers(network)}, x.double(), labels)

    def _passes(self, network: nn.Module, tensors: dict[str, Tensor], x: Tensor, labels: Tensor) -> tuple[Side, Side]:
        """:param tensors: parameters and buffers by name that take the place of the network's own."""
        weights = {name: tensors.get(name, weight).detach() for name, weight in layer_weights(network).items()}
        if not weights:
            raise ProxyError("the network has no convolution or linear layer")
        run = partial(passed, network, tensors)
        program = self.variant == "program"
        towards = -self.epsilon if program else self.epsilon
        with frozen(network), torch.enable_grad():
            clean, _ = run(weights, x, labels)
            moved = {name: step(weight, clean.gradients[name], self.beta) for name, weight in weights.items()}
            before, in_x = run(moved, x, labels, by_images=True, by_weights=program)
            copy, _ = run(moved, (x + towards * in_x.sign()).clamp(0, 1), labels)
        if program:
            summed = {name: gradient + before.gradients[name] for name, gradient in copy.gradients.items()}
            copy = Side(copy.weights, summed, copy.features)
        return clean, copy


class PerturbationProxy(Proxy):
    """A proxy that compares the two networks. The options are those of :class:`Perturbation`."""

    direction = "maximize"
    cost = "backward"

    def __init__(
        self, *, images: int | None = None, beta: float = BETA, epsilon: float = EPSILON, variant: Variant = "paper"
    ):
        self.perturbation = Perturbation(images=images, beta=beta, epsilon=epsilon, variant=variant)

    def images_needed(self) -> int:
        return self.perturbation.images or 1


def step(weight: Tensor, gradient: Tensor, beta: float) -> Tensor:
    """The weight after a step of relative length ``beta`` along its gradient; unchanged where that is zero."""
    length = gradient.norm()
    direction = torch.where(length == 0, torch.zeros_like(gradient), gradient / length)
    moved: Tensor = weight + beta * weight.norm() * direction
    return moved


def passed(
    network: nn.Module,
    tensors: dict[str, Tensor],
    weights: dict[str, Tensor],
    x: Tensor,
    labels: Tensor,
    *,
    by_images: bool = False,
    by_weights: bool = True,
) -> tuple[Side, Tensor]:
    """The network's side with these weights, and the gradient with respect to the images, which is empty by default.

    :param tensors: parameters and buffers by name, besides the weights, that take the place of the network's own.
    """
    leaves = {name: weight.detach().requires_grad_(by_weights) for name, weight in weights.items()}
    x = x.detach().requires_grad_(by_images)
    with features_of_layers(network) as features:
        loss = F.cross_entropy(called_with(network, {**tensors, **leaves}, x), labels)
    inputs = [*(leaves.values() if by_weights else ()), *([x] if by_images else ())]
    found = torch.autograd.grad(loss, inputs, materialize_grads=True)
    in_x = found[-1] if by_images else x.new_empty(0)
    return Side(weights, dict(zip(leaves, found, strict=False)) if by_weights else {}, dict(features)), in_x
