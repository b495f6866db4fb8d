"""A plain implementation of the published way of computing the robustness proxy.

``benchmarks.scoring`` compares the project with it, and tests use it as a reference. It has DARTS' modules as published
("literal" modules: convolution, then batch norm; torch's dilated convolutions and poolings; contiguous layout) and runs
one backward pass for each image.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.cells import network as cell_network
from search_spaces.cells import operations


def torchs_own(conv: nn.Conv2d, stride: int | None = None) -> nn.Conv2d:
    """torch's convolution with the same weight, at another stride if given."""
    with torch.device("meta"):
        made = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride or conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=False,
        )
    made.weight = conv.weight
    return made


class LiteralReduce(nn.Module):
    def __init__(self, fast: operations.FactorizedReduce):
        super().__init__()
        self.conv_even, self.conv_odd = torchs_own(fast.conv_even, 2), torchs_own(fast.conv_odd, 2)
        self.norm = fast.norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat([self.conv_even(x), self.conv_odd(x[:, :, 1:, 1:])], dim=1))


class LiteralCell(nn.Module):
    def __init__(self, fast: cell_network.CellModule):
        super().__init__()
        self.preprocess0, self.preprocess1 = literal_module(fast.preprocess0), literal_module(fast.preprocess1)
        self.operations = nn.ModuleList(
            nn.Sequential(nn.ReLU(), literal_module(each))
            if isinstance(each, operations.ACTIVATED)
            else literal_module(each)
            for each in fast.operations
        )
        self.sources, self.concat = fast.sources, fast.concat

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [self.preprocess0(torch.relu(before_last)), self.preprocess1(torch.relu(last))]
        modules = iter(self.operations)
        for sources in self.sources:
            states.append(sum(next(modules)(states[source]) for source in sources))
        return torch.cat([states[entry] for entry in self.concat], dim=1)


class LiteralNetwork(nn.Module):
    def __init__(self, fast: cell_network.CellNetwork):
        super().__init__()
        self.stem = literal_module(fast.stem)
        self.cells = nn.ModuleList(LiteralCell(cell) for cell in fast.cells)
        self.classifier = fast.classifier

    def forward(self, images: Tensor) -> Tensor:
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.classifier(F.adaptive_avg_pool2d(last, 1).flatten(1))


def literal_module(module: nn.Module) -> nn.Module:
    """``module`` as DARTS published it, with the same parameters; in other modules only the children are replaced."""
    if isinstance(module, operations.ConvNorm):
        return nn.Sequential(torchs_own(module.conv), module.norm)
    if isinstance(module, operations.FactorizedReduce):
        return LiteralReduce(module)
    if isinstance(module, operations.SeparableConv):
        return nn.Sequential(torchs_own(module.depthwise), *literal_module(module.pointwise))
    for name, child in list(module.named_children()):
        setattr(module, name, literal_module(child))
    return module


def literal_network(network: cell_network.CellNetwork) -> LiteralNetwork:
    """A copy of ``network`` made of torch's own modules in contiguous layout; parameters in the same order."""
    return LiteralNetwork(copy.deepcopy(network))


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
