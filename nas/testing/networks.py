"""Small float64 classifiers of 8 x 8 pixels into 3 classes, with the kinds of layers that a proxy has to handle."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from nas.testing.literal import literal_edge_network, literal_network
from search_spaces.base import NetworkSpec
from search_spaces.cells.network import CellNetwork
from search_spaces.darts.known_cells import known_cell
from search_spaces.nasbench201.genotype import EdgeGenotype
from search_spaces.nasbench201.network import EdgeNetwork

CLASSES = 3
SIZE = (8, 8)
IMAGES = 10

SMALL = NetworkSpec(channels=4, layers=3, classes=CLASSES, image_size=SIZE)
EDGES = EdgeGenotype(
    ("nor_conv_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1"),
)

M = TypeVar("M", bound=nn.Module)


def batch(images: int = IMAGES) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, 8, 8)``, float64 in [0, 1], and labels ``(N,)``."""
    generator = torch.Generator().manual_seed(4)
    return torch.rand(images, 3, *SIZE, dtype=torch.float64, generator=generator), torch.arange(images) % CLASSES


def plain_cnn() -> nn.Sequential:
    """A network with biases, batch norms, a grouped convolution, and a dropout, which only eval mode turns off."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return randomised(
            nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(6, CLASSES),
            )
        )


def darts_network(cell: str = "ROBUST_ZCP", seed: int = 2) -> CellNetwork:
    """A network of normal and reduction cells, with 4 channels and 3 layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised(CellNetwork(known_cell(cell), SMALL))


def edge_network() -> EdgeNetwork:
    """A network of NAS-Bench-201 in which three convolutions read the input of the cell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return randomised(EdgeNetwork(EDGES, SMALL))


def relu_first(inplace: bool) -> nn.Module:
    """A network whose blocks begin with a nonlinear function, which may overwrite the output of the block before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        blocks = (
            nn.Sequential(act(inplace), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for act in (nn.SiLU, nn.ReLU)
        )
        head = nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
        return randomised(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, nn.Conv2d(4, 4, 3), *head))


def one_relu() -> nn.Module:
    """:func:`plain_cnn` with one ReLU that is called at both places."""
    network = plain_cnn()
    network[6] = network[2]
    return network


def shared_network() -> nn.Module:
    """A network whose convolution, batch norm and ReLU are each used at two places."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        conv, norm, relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
        return randomised(nn.Sequential(nn.Conv2d(3, 4, 3), conv, norm, relu, conv, norm, relu, *head))


def hooked_network() -> nn.Module:
    """:func:`plain_cnn` with every kind of hook, and with a module whose ``forward`` is an attribute of the instance.

    None of these changes a value.
    """
    network = plain_cnn()
    for module in (network, network[0], network[2], network[5]):
        module.register_forward_pre_hook(lambda module, inputs: None)
        module.register_forward_hook(lambda module, inputs, output: None)
    for module in (network[3], network[6]):  # not the first ones: torch warns if no input requires a gradient
        module.register_full_backward_pre_hook(lambda module, gradients: None)
        module.register_full_backward_hook(lambda module, into, out: None)
    network[0].get_parameter("weight").register_hook(lambda gradient: None)  # type: ignore[no-untyped-call]
    network[6].forward = network[6].forward
    return network


class Twice(nn.Module):
    """A parametrization that cannot be inverted: torch cannot assign to a weight that it computes."""

    def forward(self, half: Tensor) -> Tensor:
        return 2 * half


def computed_network() -> nn.Module:
    """:func:`plain_cnn` with weights that are computed from others, by a parametrization or by a hook."""
    network = plain_cnn()
    for layer in (network[0], network[10]):
        layer.get_parameter("weight").data.div_(2)
        parametrize.register_parametrization(layer, "weight", Twice())
    prune.identity(network[4], "weight")  # type: ignore[no-untyped-call]
    return network


def normalised_network() -> nn.Module:
    """A network with every normalisation of weights that torch has, by parametrizations and by hooks."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(7)
        warnings.simplefilter("ignore", FutureWarning)  # torch advises against its hooks
        by_hooks = nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.utils.spectral_norm(nn.Conv2d(4, 4, 3))
        new = parametrizations
        made = new.weight_norm(nn.Conv2d(4, 4, 3)), new.spectral_norm(nn.Linear(4, 4)), new.orthogonal(nn.Linear(4, 4))
        pooling = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        head = nn.Linear(4, CLASSES)
        return nn.Sequential(by_hooks[0], nn.ReLU(), by_hooks[1], made[0], *pooling, *made[1:], head).double()


class Counting:
    """A hook with a state of its own, which cannot be copied."""

    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with self.lock:
            self.calls += 1


def not_copyable_network() -> nn.Module:
    """:func:`plain_cnn` with a hook and an attribute that ``copy.deepcopy`` does not take."""
    network = plain_cnn()
    network[2].register_forward_hook(Counting())
    network.lock = threading.Lock()  # type: ignore[assignment]
    return network


def randomised(module: M) -> M:
    """``module`` in float64, with random parameters and running statistics in its batch norms."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(std=0.3)
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 2.0)
    return module.double()


def mixed(network: nn.Module) -> nn.Module:
    """The network with every other module in training mode, a frozen layer and a frozen last parameter."""
    for i, module in enumerate(network.modules()):
        module.training = i % 2 == 0
    layers(network)[1].requires_grad_(False)
    list(network.parameters())[-1].requires_grad_(False)
    return network


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


#: Networks for which a proxy must have a score.
NETWORKS: dict[str, Callable[[], nn.Module]] = {"cnn": plain_cnn, "cells": darts_network}

#: Networks that compute the same as :func:`plain_cnn`.
EQUAL: dict[str, Callable[[], nn.Module]] = {
    "hooked": hooked_network,
    "computed weights": computed_network,
    "not copyable": not_copyable_network,
}

#: Networks for which a proxy may also raise a ProxyError; in either case it must leave them unchanged.
UNUSUAL: dict[str, Callable[[], nn.Module]] = {
    "hooked": hooked_network,
    "shared modules": shared_network,
    "normalised weights": normalised_network,
}

#: Functions written in two ways, which must have one score. The spaces' networks compute a ReLU once for all operations
#: that read it; as published, each operation has its own.
WRITTEN_TWICE: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "cells, as published": (darts_network, lambda: literal_network(darts_network())),
    "NAS-Bench-201, as published": (edge_network, lambda: literal_edge_network(edge_network(), EDGES, SMALL)),
    "one ReLU module": (plain_cnn, one_relu),
    "in place": (lambda: relu_first(False), lambda: relu_first(True)),
}
