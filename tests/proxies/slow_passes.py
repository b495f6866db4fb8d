"""The formulas of proxies of a pass or two, written out: the other side of the conformance tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.proxies.networks import gradient_or_zeros, layers, literal, mean_loss_gradients, value_of

Reference = Callable[[nn.Module, Tensor, Tensor], float]


def grad_norm(norm: str) -> Reference:
    return lambda network, images, labels: sum(
        gradient.square().sum().sqrt().item() for _, gradient in mean_loss_gradients(network, images, labels, norm)
    )


def snip(norm: str) -> Reference:
    return lambda network, images, labels: sum(
        (weight * gradient).abs().sum().item()
        for weight, gradient in mean_loss_gradients(network, images, labels, norm)
    )


def plain(norm: str) -> Reference:
    """By the scale of each layer: the derivative of L(s W) by s, at 1."""

    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied, total = literal(network, norm), 0.0
        for layer in layers(copied):
            scale = torch.ones((), dtype=torch.float64, requires_grad=True)
            names = [name for name, each in copied.named_parameters() if each is layer.weight]
            logits = torch.func.functional_call(copied, {names[0]: scale * layer.weight.detach()}, (images,))
            total += torch.autograd.grad(F.cross_entropy(logits, labels), scale)[0].item()
        return total

    return value


def l2_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return sum(math.sqrt(sum(value**2 for value in layer.weight.flatten().tolist())) for layer in layers(network))


def grasp(norm: str, n: int) -> Reference:
    """H g by the difference of two gradients, a step along g to either side, too short to cross a kink of a ReLU."""

    def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        return [gradient_or_zeros(layer.weight).clone() for layer in layers(network)]

    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied, batch = literal(network, norm), (images[:n], labels[:n])
        weights = [layer.weight for layer in layers(copied)]
        start = [weight.detach().clone() for weight in weights]
        flow = gradients(copied, *batch)
        step = 1e-8 / math.sqrt(sum(each.square().sum().item() for each in flow))
        sides = []
        for sign in (1, -1):
            for weight, before, each in zip(weights, start, flow, strict=True):
                weight.data = before + sign * step * each
            sides.append(gradients(copied, *batch))
        return -sum(
            (before * (after - ahead)).sum().item() / (2 * step)
            for before, after, ahead in zip(start, *sides, strict=True)
        )

    return value


def fisher(norm: str, fan_in: bool) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied, outputs = literal(network, norm), []
        for layer in layers(copied):
            layer.register_forward_hook(lambda layer, inputs, output: outputs.append((layer, output)))
        loss = F.cross_entropy(copied(images), labels)
        total = 0.0
        for layer, output in outputs:
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            for channel in range(output.shape[1]):
                of_images = [(output[i, channel] * gradient[i, channel]).sum().item() for i in range(len(images))]
                information = sum(each**2 for each in of_images) / len(images) / 2
                total += information * (layer.weight[0].numel() if fan_in else 1)
        return total

    return value


def jacob_cov(norm: str, function: str = "logits") -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied = literal(network, norm)
        parts = [(images, labels)] if norm == "train" else list(zip(images.split(1), labels.split(1), strict=True))
        rows = []
        for part, classes in parts:
            part = part.clone().requires_grad_()
            value_of(function, copied(part), classes).backward()
            assert part.grad is not None
            rows += [gradient.numpy().ravel() for gradient in part.grad]
        values = np.linalg.eigvals(np.corrcoef(np.stack(rows))).real
        return float(-np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5)))

    return value


def naswot(norm: str) -> Reference:
    """From the Hamming distances of the codes of each pair, each operation having a ReLU of its own."""

    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied, codes = literal(network, norm), []
        for module in copied.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(
                    lambda module, inputs, output: codes.append((inputs[0] > 0).flatten(1).numpy())
                )
        with torch.no_grad():
            copied(images)
        code = np.concatenate(codes, axis=1)
        kernel = [[code.shape[1] - np.count_nonzero(a != b) for b in code] for a in code]
        return math.log(abs(np.linalg.det(np.array(kernel, dtype=np.float64))))

    return value


def diverse_capacity(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """From the values of the two proxies that it is made of, and counts."""
    n, parameters = len(images), sum(each.numel() for each in network.parameters())
    divergence = -jacob_cov("train", "loss")(network, images, labels) / n - 1
    codes = naswot("eval")(network, images, labels) / n
    return math.log(parameters * len(layers(network))) + codes - divergence


def zico(norm: str, absolute: bool) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        half, total = len(images) // 2, 0.0
        batches = [mean_loss_gradients(network, images[i : i + half], labels[i : i + half], norm) for i in (0, half)]
        for (_, first), (_, second) in zip(*batches, strict=True):
            both = np.stack([first.numpy(), second.numpy()])
            deviation = np.std(np.abs(both) if absolute else both, axis=0)
            mean = np.mean(np.abs(both), axis=0)
            total += math.log(np.sum(mean[deviation > 0] / deviation[deviation > 0]))
        return total

    return value


def synflow(norm: str | None) -> Reference:
    """``norm`` None: batch norms are bypassed."""

    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        copied = literal(network, norm or "eval")
        for parameter in copied.parameters():
            parameter.data = torch.where(parameter < 0, -parameter, parameter).data
        for module in copied.modules():
            if norm is None and isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lambda module, inputs, output: inputs[0])
        copied(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum().backward()
        pairs = [(layer.weight, gradient_or_zeros(layer.weight)) for layer in layers(copied)]
        return math.log(sum((weight * gradient).abs().sum().item() for weight, gradient in pairs))

    return value
