"""A plain implementation of the published way of computing the robustness proxy: one backward pass for each image.

``benchmarks.scoring`` compares the project with it, on the networks of :mod:`nas.testing.literal`, and tests use it as
a reference.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def input_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """``(N, C, H, W)``: for each image the gradient of its own cross-entropy."""
    images = images.detach().requires_grad_()
    loss = F.cross_entropy(network(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def robust_score(
    network: nn.Module, ntk_images: Tensor, images: Tensor, labels: Tensor, *, t: float, h: float
) -> float:
    """``-log(-R)`` of the robustness proxy, the NTK term from one backward pass an image."""
    parameters = list(network.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for image in ntk_images:
        gradients = torch.autograd.grad(network(image[None]).sum(), parameters, allow_unused=True)
        for sum_so_far, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                sum_so_far += gradient
    count = sum(parameter.numel() for parameter in parameters)
    ntk = sum(gradient.double().square().sum().item() for gradient in total) / (count * len(ntk_images) ** 2)
    before = input_gradients(network, images, labels)
    sign = before.sign()
    direction = sign / sign.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    change = (input_gradients(network, images + h * direction, labels) - before) / h
    curvature = change.double().square().sum().item() / len(images)
    return -(t * ntk + math.log(curvature))
