"""The formulas of proxies that draw weights or compare blocks, written out: the other side of the conformance tests."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from torch import Tensor, nn

from tests.proxies.networks import layers, literal

Reference = Callable[[nn.Module, Tensor, Tensor], float]


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are the blocks', named by hand for each network of the tests."""
    if hasattr(network, "cells"):
        return [network.stem, *network.cells]
    assert isinstance(network, nn.Sequential)
    return [network[3], network[7]] if len(network) > 5 else [network[2]]


def holders_of(network: nn.Module) -> list[list[nn.Module]]:
    """The layers of each block."""
    if hasattr(network, "cells"):
        return [layers(block) for block in blocks_of(network)]
    return [[layer] for layer in layers(network)[:-1]]


def has_no_relu(network: nn.Module) -> bool:
    return not any(isinstance(module, nn.ReLU) for module in network.modules())


def has_one_block(network: nn.Module) -> bool:
    return not hasattr(network, "cells") and len(blocks_of(network)) < 2


@contextmanager
def heard(modules: list[nn.Module], what: Callable[[Any, Any], Any]) -> Iterator[list[Any]]:
    found: list[Any] = []
    handles = [
        module.register_forward_hook(lambda _, inputs, output: found.append(what(inputs, output))) for module in modules
    ]
    yield found
    for handle in handles:
        handle.remove()


def output(inputs: Any, output: Tensor) -> Tensor:
    return output


def redrawn(network: nn.Module, generator: torch.Generator, gain: float | None) -> nn.Module:
    """Weights N(0, 1), or N(0, gain / fan-in); biases 0; norms reset; in place."""
    for layer in layers(network):
        numbers = torch.randn(layer.weight.shape, dtype=torch.float64, generator=generator)
        fan_in = math.prod(layer.weight.shape[1:])
        layer.weight.data = numbers if gain is None else numbers * math.sqrt(gain / fan_in)
        if layer.bias is not None:
            layer.bias.data.zero_()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1)
            module.bias.data.zero_()
    return network


def normal(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, *images.shape[1:], dtype=torch.float64, generator=generator)


def zen(n: int, repeats: int, seed: int) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        generator, copied, scores = torch.Generator().manual_seed(seed), literal(network, "train"), []
        norms = [module for module in copied.modules() if isinstance(module, nn.BatchNorm2d)]
        for _ in range(repeats):
            redrawn(copied, generator, None)
            x, direction = normal(images, n, generator), normal(images, n, generator)
            with heard(norms, lambda inputs, _: inputs[0].transpose(0, 1).flatten(1)) as inputs_CN:
                with heard([blocks_of(copied)[-1]], output) as features:
                    copied(x)
                    scale = sum(math.log(math.sqrt(np.mean([c.var().item() for c in each]))) for each in inputs_CN)
                    copied(x + 0.01 * direction)
            moved = [(features[0][i] - features[1][i]).abs().sum().item() for i in range(n)]
            scores.append(math.log(sum(moved) / n) + scale)
        return sum(scores) / repeats

    return value


def az_blocks(network: nn.Module, images: Tensor, n: int, seed: int) -> tuple[list[float], list[float]]:
    """Entropies of the blocks, and the largest singular values from one to the next."""
    generator, copied = torch.Generator().manual_seed(seed), literal(network, "train")
    redrawn(copied, generator, 2.0)
    with heard(blocks_of(copied), output) as features:
        copied(normal(images, n, generator).requires_grad_())
    entropies = []
    for each in features:
        samples_CN = each.detach().transpose(0, 1).flatten(1).numpy()
        p = np.linalg.eigvalsh(np.cov(samples_CN, bias=True))
        p = np.maximum(p, 0) / np.maximum(p, 0).sum()
        entropies.append(-sum(each * math.log(each + 1e-8) for each in p))
    sigmas = []
    for before, after in itertools.pairwise(features):
        signs = 2.0 * torch.randint(2, after.shape, generator=generator, dtype=torch.int8).double() - 1
        (arriving,) = torch.autograd.grad(after, before, signs, retain_graph=True)
        arriving = F.pixel_unshuffle(arriving, before.shape[2] // after.shape[2])
        outer = torch.einsum("nchw,ndhw->cd", arriving, signs) / signs[:, 0].numel()
        sigmas.append(float(np.linalg.svd(outer.numpy())[1][0]))
    return entropies, sigmas


def az_expressivity(n: int, seed: int) -> Reference:
    return lambda network, images, labels: sum(az_blocks(network, images, n, seed)[0])


def az_progressivity(n: int, seed: int) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        entropies, _ = az_blocks(network, images, n, seed)
        return min(entropies[i + 1] - entropies[i] for i in range(len(entropies) - 1))

    return value


def az_trainability(n: int, seed: int) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        _, sigmas = az_blocks(network, images, n, seed)
        return sum(-sigma - 1 / (sigma + 1e-6) + 2 for sigma in sigmas) / len(sigmas)

    return value


def positive(network: nn.Module) -> nn.Module:
    """The absolute values of all parameters, batch norms bypassed; in place."""
    for parameter in network.parameters():
        parameter.data.abs_()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, inputs, output: inputs[0])
    return network


def loss_pass(network: nn.Module, x: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
    """The features that belong to each layer, and the gradient in ``x``; weights gather theirs."""
    x = x.detach().clone().requires_grad_()
    held = {layer: i for i, block in enumerate(holders_of(network)) for layer in block}
    outside = [layer for layer in layers(network) if layer not in held]
    with heard(blocks_of(network), output) as of_blocks, heard(outside, lambda inputs, _: inputs[0]) as given:
        F.cross_entropy(network(x), labels).backward()
    assert x.grad is not None
    given_by = dict(zip(outside, given, strict=True))
    features = [of_blocks[held[layer]] if layer in held else given_by[layer] for layer in layers(network)]
    return [each.detach() for each in features], x.grad


def perturbed(network: nn.Module, x: Tensor, labels: Tensor, beta: float, epsilon: float, program: bool) -> Any:
    """Weights, gradients and features by layer of the network, and the same of its copy."""
    clean = literal(network)
    clean = positive(clean) if program else clean
    features, _ = loss_pass(clean, x, labels)
    moved = copy.deepcopy(clean)
    for before, layer in zip(layers(clean), layers(moved), strict=True):
        gradient = before.weight.grad
        if gradient.any():
            layer.weight.data += beta * layer.weight.data.norm() * gradient / gradient.norm()
    _, in_x = loss_pass(moved, x, labels)
    if not program:
        moved.zero_grad()  # the program does not
    x = (x - epsilon * in_x.sign() if program else x + epsilon * in_x.sign()).clamp(0, 1)
    moved_features, _ = loss_pass(moved, x, labels)
    return zip(layers(clean), layers(moved), features, moved_features, strict=True)


def cosine(a: Tensor, b: Tensor) -> float:
    if not (a.any() and b.any()):
        return 0.0
    return (a * b).sum().item() / math.sqrt((a * a).sum().item() * (b * b).sum().item())


def columns(a: Tensor, b: Tensor) -> list[float]:
    """The cosine of each pair of columns along the first axis."""
    return [cosine(*pair) for pair in zip(a.flatten(1).unbind(1), b.flatten(1).unbind(1), strict=True)]


def croze(n: int, beta: float, epsilon: float, program: bool) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        total = 0.0
        for layer, moved, z, z_r in perturbed(network, images[:n], labels[:n], beta, epsilon, program):
            weights, gradients = (layer.weight.data, moved.weight.data), (layer.weight.grad, moved.weight.grad)
            if program:
                of_z, of_w = (sum(1 + each for each in columns(*pair)) for pair in ((z, z_r), weights))
                total += of_z * of_w * sum(abs(each) for each in columns(*gradients))
            else:
                total += (1 + cosine(z, z_r)) * (1 + cosine(*weights)) * abs(cosine(*gradients))
        return total

    return value


def con_js(n: int, beta: float, epsilon: float) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        rows = perturbed(network, images[:n], labels[:n], beta, epsilon, False)
        pairs = {z.numpy().tobytes(): (z, z_r) for _, _, z, z_r in rows}
        terms = [1 / (1 + jensenshannon(*map(softmax, pair)) ** 2) for pair in pairs.values()]
        return float(np.mean(terms))

    return value


def con_js_program(n: int, beta: float, epsilon: float) -> Reference:
    def divergence(a: Tensor, b: Tensor) -> float:
        p, q = softmax(a) + 1e-8, softmax(b) + 1e-8
        m = (p + q) / 2
        return float((np.sum(m * np.log(m / p)) + np.sum(m * np.log(m / q))) / 2)

    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        rows = perturbed(network, images[:n], labels[:n], beta, epsilon, True)
        return sum(
            1 / (1 + divergence(layer.weight.data, moved.weight.data)) / (1 + divergence(z, z_r))
            for layer, moved, z, z_r in rows
        )

    return value


def softmax(a: Tensor) -> np.ndarray:
    values = np.exp(a.flatten().numpy() - a.max().item())
    return values / values.sum()


def snap(n: int, repeats: int, seed: int) -> Reference:
    def value(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        generator, copied, counts = torch.Generator().manual_seed(seed), literal(network, "train"), []
        for _ in range(repeats):
            redrawn(copied, generator, None)
            with heard([each for each in copied.modules() if isinstance(each, nn.ReLU)], output) as outputs:
                copied(images[:n])
            met = {tuple(neuron) for each in outputs for neuron in (each > 0).flatten(1).t().tolist()}
            counts.append(len(met))
        return sum(counts) / repeats

    return value
