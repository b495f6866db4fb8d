"""A network and a copy of it whose weights have moved one step against it, each on its images: what they differ in.

The copy is CRoZe's robust network (:mod:`proxies.croze`), which TRNAS looks at as well (:mod:`proxies.r_score`):

    W_r = W + beta ||W|| g / ||g||, layer by layer, g the gradient of the loss in W
    x_r = clip(x + epsilon sign(gradient in x of the copy's loss at x), 0, 1)

Both authors' programs compute something else, ``variant="program"`` here: in float64, batch norms are bypassed and all
parameters replaced by their absolute values; x moves against the sign, which lowers the loss; and the copy's gradient
is that at x_r plus that at x, as nothing resets it in between.

Weights that triple layer by layer grow fast: where float32 overflows, both networks are computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import Probe, ProxyError, layer_weights
from proxies.engine.drawn_weights import called_with, parameters_of
from proxies.engine.features import features_of_layers
from proxies.engine.modes import frozen, norm_mode
from proxies.synflow import depthwise_products, double_buffers, norms_bypassed, positive_parameters, present

Variant = Literal["paper", "program"]

IMAGES = 2  # of the published batch, which would cost more than all other proxies together
BETA = 2.0  # both programs'
EPSILON = 0.01  # likewise, in pixel units


@dataclass(frozen=True)
class Side:
    """One of the two networks, by weight name of convolution or linear layer.

    ``gradients`` are of the mean cross-entropy, ``features`` as in
    :func:`proxies.engine.features.features_of_layers`; layers that the network does not call have none.
    """

    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    features: dict[str, Tensor]

    def is_finite(self) -> bool:
        """Whether gradients and features are numbers throughout."""
        held = [*self.gradients.values(), *dict.fromkeys(self.features.values())]
        return bool(torch.stack([each.sum() for each in held]).isfinite().all())


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How far the copy moves.

    :param images: images from the start of the probe's batch; by default 2, or 1 where it holds 1.
    :param beta: length of the weights' step, relative to their own. :param epsilon: of the images', in pixel units.
    """

    images: int | None = None
    beta: float = BETA
    epsilon: float = EPSILON
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")
        for name in ("beta", "epsilon"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a number above 0, got {value}")
        if self.variant not in get_args(Variant):
            raise ValueError(f"variant must be {' or '.join(get_args(Variant))}, got '{self.variant}'")

    def sides(self, probe: Probe) -> tuple[Side, Side]:
        """The network on its images and the copy on the moved ones, once for all who ask one probe."""
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
        """:param tensors: what the network computes with, where that is not its own."""
        weights = {name: tensors.get(name, weight).detach() for name, weight in layer_weights(network).items()}
        if not weights:
            raise ProxyError("the network has no convolution or linear layer")
        own = parameters_of(network)
        made = next((name for name in weights if name not in own), None)
        if made is not None:
            raise ProxyError(f"'{made}' is made of other tensors, so it takes no step by itself")
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


def step(weight: Tensor, gradient: Tensor, beta: float) -> Tensor:
    """The weight after a step of relative length ``beta`` along its gradient; none where that is zero."""
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
    """What the network is with these weights, and the gradient in the images (empty unless asked for).

    :param tensors: parameters and buffers besides the weights, where they are not its own.
    """
    leaves = {name: weight.detach().requires_grad_(by_weights) for name, weight in weights.items()}
    x = x.detach().requires_grad_(by_images)
    with features_of_layers(network) as features:
        loss = F.cross_entropy(called_with(network, {**tensors, **leaves}, x), labels)
    inputs = [*(leaves.values() if by_weights else ()), *([x] if by_images else ())]
    found = torch.autograd.grad(loss, inputs, materialize_grads=True)
    in_x = found[-1] if by_images else x.new_empty(0)
    return Side(weights, dict(zip(leaves, found, strict=False)) if by_weights else {}, dict(features)), in_x
