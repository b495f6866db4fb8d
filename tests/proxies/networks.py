"""Small float64 classifiers and what the tests compare proxies with: formulas written out, one image at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.testing.literal import literal_network
from nas.testing.networks import CLASSES, IMAGES, SIZE, batch, darts_network, layers, plain_cnn, randomised
from proxies.base import Probe
from search_spaces.cells.network import CellNetwork

__all__ = ["CLASSES", "IMAGES", "SIZE", "batch", "darts_network", "layers", "plain_cnn", "randomised"]


def smooth_mlp() -> nn.Module:
    """No batch norm, and no kink."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


def relu_cnn() -> nn.Module:
    """No batch norm."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)]
    return nn.Sequential(*layers).double()


NETWORKS: dict[str, Callable[[], nn.Module]] = {"cnn": plain_cnn, "darts": darts_network, "mlp": smooth_mlp}


def probe_of(network: nn.Module) -> Probe:
    return Probe(network, *batch())


def literal(network: nn.Module, norm: str = "eval") -> nn.Module:
    """A copy made of torch's own modules, in eval mode but for its batch norms where ``norm`` is train."""
    copied = literal_network(network) if isinstance(network, CellNetwork) else copy.deepcopy(network)
    copied.eval()
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(norm == "train")
    return copied


def value_of(function: str, logits: Tensor, labels: Tensor) -> Tensor:
    return logits.sum() if function == "logits" else F.cross_entropy(logits, labels, reduction="sum")


def single_image_gradients(network: nn.Module, images: Tensor, labels: Tensor, function: str) -> Tensor:
    """``(N, M)``: d f(x_i) / d theta_m, one backward pass an image, batch norms in eval mode."""
    rows, copied = [], literal(network)
    for i in range(len(images)):
        copied.zero_grad()
        value_of(function, copied(images[i : i + 1]), labels[i : i + 1]).backward()
        rows.append(torch.cat([gradient_or_zeros(parameter).flatten() for parameter in copied.parameters()]))
    return torch.stack(rows)


def gradient_or_zeros(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def triple_sum(gradients_NM: Tensor) -> float:
    """1 / (M N^2) sum_m sum_i sum_j d f(x_i) / d theta_m  d f(x_j) / d theta_m."""
    n, m = gradients_NM.shape
    return sum((gradients_NM[i] * gradients_NM[j]).sum().item() for i in range(n) for j in range(n)) / (m * n**2)


def batch_kernel(network: nn.Module, images: Tensor, labels: Tensor, function: str) -> float:
    """The same mean where images interact in the batch norms: from the gradient of the whole batch's sum."""
    copied = literal(network, "train")
    value_of(function, copied(images), labels).backward()
    gradient = torch.cat([gradient_or_zeros(parameter).flatten() for parameter in copied.parameters()])
    return gradient.square().sum().item() / (gradient.numel() * len(images) ** 2)


def loss_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the loss in the images, by autograd."""
    images = images.clone().requires_grad_()
    F.cross_entropy(network(images), labels, reduction="sum").backward()
    assert images.grad is not None
    return images.grad


def step_change(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    h: float,
    gradient: Callable[[nn.Module, Tensor, Tensor], Tensor] = loss_gradient,
) -> Tensor:
    """l(x + h z) - l(x) of all images at once, z = sign(l(x)) / ||sign(l(x))|| image by image."""
    before = gradient(network, images, labels)
    moved = images.clone()
    for i in range(len(images)):
        moved[i] += h * before[i].sign() / before[i].sign().norm()
    return gradient(network, moved, labels) - before


def mean_loss_gradients(network: nn.Module, images: Tensor, labels: Tensor, norm: str) -> list[tuple[Tensor, Tensor]]:
    """Weights of convolutions and linear layers, each with the gradient of the mean cross-entropy."""
    copied = literal(network, norm)
    F.cross_entropy(copied(images), labels).backward()
    return [(layer.weight.detach(), gradient_or_zeros(layer.weight)) for layer in layers(copied)]


def linear_network() -> nn.Sequential:
    """f(x) = W x of images with two pixels: two classes, W = [[1, 0], [-1, 0]]. See :func:`linear_batch`."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    return network


def linear_batch() -> tuple[Tensor, Tensor]:
    """x_1 = (0.5, 0), x_2 = (0.5, 1), both of class 0.

    The margin of both is 1, so with q = 1 / (1 + e) the gradient of the loss is q (-x, x) in W and -2 q (1, 0) in x.
    """
    return torch.tensor([[0.5, 0.0], [0.5, 1.0]], dtype=torch.float64).view(2, 1, 1, 2), torch.tensor([0, 0])
