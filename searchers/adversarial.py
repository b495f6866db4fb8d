"""Adversarial images and the curvature of the loss at images, for searchers that train a supernet.

The settings are those of published robust searches: a ball of 8/255 around each image in the maximum norm; ``pgd``
takes 7 steps of 2/255 (Madry et al., ICLR 2018, https://arxiv.org/abs/1706.06083), ``fgsm`` one step of 10/255 from a
random point of the ball (Wong et al., ICLR 2020, https://arxiv.org/abs/2001.03994).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: images ``(N, C, H, W)`` in [0, 1] -> logits ``(N, classes)``
Logits = Callable[[Tensor], Tensor]

EPSILON = 8 / 255
#: Name -> number of steps, length of a step.
ATTACKS = {"fgsm": (1, 10 / 255), "pgd": (7, 2 / 255)}
CURVATURE_STEP = 1.5  # h of AdvRush and CURE: the length (L2) of the step, here of pixels in [0, 1]


def input_gradients(logits: Logits, images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
    """The gradient ``(N, C, H, W)`` of the sum of the images' cross-entropies by the images."""
    images = images.detach().requires_grad_()
    loss = F.cross_entropy(logits(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images, create_graph=create_graph)[0]


def adversarial_images(logits: Logits, images: Tensor, labels: Tensor, attack: str, random: torch.Generator) -> Tensor:
    """Images ``(N, C, H, W)`` in [0, 1] that the attack has moved away from ``images``, by at most ``EPSILON`` each.

    :param random: a generator of the CPU, which draws the points to start from.
    """
    steps, length = ATTACKS[attack]
    noise = torch.rand(images.shape, generator=random).to(images) * (2 * EPSILON) - EPSILON
    moved = (images + noise).clamp(0, 1)
    for _ in range(steps):
        moved = moved + length * input_gradients(logits, moved, labels).sign()
        moved = moved.clamp(images - EPSILON, images + EPSILON).clamp(0, 1)
    return moved


def curvature(logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
    """The regulariser of AdvRush (Mok et al., ICCV 2021, https://arxiv.org/abs/2108.01289), a differentiable scalar.

    It is the mean over the images of ``||l(x + h z) - l(x)||_2``, where l is the gradient of an image's cross-entropy
    by the image, z the sign of l(x), scaled to length 1, and h ``CURVATURE_STEP``: the finite difference of CURE
    (Moosavi-Dezfooli et al., CVPR 2019, https://arxiv.org/abs/1811.09716). The network should be in eval mode, so that
    images do not influence one another. AdvRush's program multiplies the term by 4, but differentiates the batch's mean
    loss: with batches of N images, its weight of 0.01 is one of 0.04 / N here.
    """
    gradients = input_gradients(logits, images, labels, create_graph=True)
    z = F.normalize(gradients.detach().sign().flatten(1)).view_as(images)
    moved = input_gradients(logits, images + CURVATURE_STEP * z, labels, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm((moved - gradients).flatten(1), dim=1)
    return lengths.mean()
