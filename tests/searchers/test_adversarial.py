"""Adversarial images and input curvature against slow, literal formulas, one image at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from searchers.adversarial import adversarial_images, curvature

N = 3


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 4, 5)
        return nn.Sequential(*layers).double()


def batch() -> tuple[Tensor, Tensor]:
    images = torch.rand(N, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([0, 4, 2])


def gradient(model: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    """Of one image's cross-entropy, as a function of the model's parameters."""
    image = image.detach().clone().requires_grad_()
    loss = -model(image[None])[0].log_softmax(0)[label]
    return torch.autograd.grad(loss, image, create_graph=True)[0]


@pytest.mark.parametrize(("attack", "steps", "length"), [("fgsm", 1, 10 / 255), ("pgd", 7, 2 / 255)])
def test_an_attack_ascends_within_the_ball(attack: str, steps: int, length: float) -> None:
    model, (images, labels), epsilon = network(), batch(), 8 / 255
    moved = adversarial_images(model, images, labels, attack, torch.Generator().manual_seed(5))
    draws = torch.rand(images.shape, generator=torch.Generator().manual_seed(5)).double()
    for image, label, draw, found in zip(images, labels, draws, moved, strict=True):
        point = torch.clamp(image + epsilon * (2 * draw - 1), 0, 1)
        for _ in range(steps):
            point = point + length * torch.sign(gradient(model, point, label)).detach()
            point = torch.minimum(torch.maximum(point, image - epsilon), image + epsilon).clamp(0, 1)
        torch.testing.assert_close(found, point)


def literal_curvature(model: nn.Module) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for image, label in zip(*batch(), strict=True):
        at_image = gradient(model, image, label)
        z = torch.sign(at_image.detach()) / math.sqrt(image.numel())
        change = gradient(model, image + 1.5 * z, label) - at_image
        total = total + change.square().sum().sqrt()
    return total / N


def test_curvature_is_the_change_of_input_gradients() -> None:
    model = network()
    torch.testing.assert_close(curvature(model, *batch()), literal_curvature(model))


def test_curvature_can_be_differentiated() -> None:
    model, step = network(), 1e-6
    weight = model[3].weight
    (found,) = torch.autograd.grad(curvature(model, *batch()), weight)
    for row, column in ((0, 0), (4, 7)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] += sign * step
            sides.append(literal_curvature(model).item())
            with torch.no_grad():
                weight[row, column] -= sign * step
        assert float(found[row, column]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)
