"""``grasp``: -sum W (H g), how much each weight contributes to what a step along the gradient flow gains.

Wang, Zhang, Grosse: "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020; as a proxy in
Abdelfattah et al., ICLR 2021. g is the gradient of the mean cross-entropy and H its Hessian, both with respect to the
weights of convolutions and linear layers (frozen ones left out). W (H g) is the second derivative of the loss along W
and along g, which :mod:`proxies.engine.mixed_derivative` computes in a forward pass. For networks that cannot be
computed so, H g is the gradient of <stop(g), g>: a backward pass through the backward pass. Both work in the precision
of the network; in float32 the forward pass is more exact, while small values of the other are off by some percent.

The sign is that of the proxy's published program. Departures: the program's temperature of the softmax is 1, so there
is no option for it; its two passes over one batch are a single pass here, which has the same value; and it takes the
whole batch, where the default here is a few images. The paper prunes with 10 images a class and a temperature of 200.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import NormMode, Probe, ProxyError
from proxies.engine.checks import check_batch, check_word, finite
from proxies.engine.first_images import FirstImagesProxy
from proxies.engine.mixed_derivative import is_taken, mixed_derivative
from proxies.engine.modes import norm_mode


class Grasp(FirstImagesProxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 2, or all where it holds fewer.
    """

    name = "grasp"
    direction = "maximize"
    cost = "backward"
    default_images = 2  # an image costs several times as much as its gradient does

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.norm: NormMode = norm

    def score(self, probe: Probe) -> float:
        images, labels = probe.first(self.images, self.default_images)
        weights = [each for each in dict.fromkeys(probe.layer_weights.values()) if each.requires_grad]
        if not weights:
            raise ProxyError("no weight of a convolution or linear layer requires a gradient")
        check_batch(probe.network, self.norm, len(images))
        with norm_mode(probe.network, self.norm), torch.enable_grad():
            found = forward_product(probe.network, weights, images, labels)
            if found is None:
                found = backward_product(probe.network, weights, images, labels)
        return finite(-found.item(), "the gradient signal")


def forward_product(network: nn.Module, weights: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor | None:
    """``W (H g)`` by a backward pass and a forward pass; None for a network that cannot be computed so."""
    if not is_taken(network):
        return None
    loss = F.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    return mixed_derivative(network, dict(zip(weights, gradients, strict=True)), images, labels)


def backward_product(network: nn.Module, weights: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """``W (H g)`` by a backward pass through the backward pass."""
    loss = F.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
    product = torch.stack([(each.detach() * each).sum() for each in gradients]).sum()
    curved = torch.autograd.grad(product, weights, materialize_grads=True)
    terms = [(weight.detach() * each).sum().double() for weight, each in zip(weights, curved, strict=True)]
    return torch.stack(terms).sum()
