"""The contract of a proxy, and what proxies look at: one untrained network and one labelled batch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Direction = Literal["maximize", "minimize"]
Cost = Literal["count", "forward", "backward"]
Function = Literal["logits", "loss"]
NormMode = Literal["eval", "train"]


class ProxyError(ValueError):
    """A network that this proxy has no finite value for, and why."""


class Proxy(ABC):
    """What an untrained network is worth.

    ``direction`` says which way is better, ``cost`` what the value takes: counting only, a forward or a backward pass.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    cost: ClassVar[Cost]

    @abstractmethod
    def score(self, probe: Probe) -> float:
        """The value. Leaves network, buffers, modes and random state as they were.

        :raises ProxyError: there is none.
        """


#: Images a backward pass takes at a time on the CPU; it bounds memory (about 7 MB an image at 16 channels, 8 layers).
CPU_CHUNK = 13


class Probe:
    """One untrained network and one labelled batch; whatever proxies ask for is computed once and shared.

    :param network: the classifier, ``(N, C, H, W)`` -> ``(N, classes)``, or a function that builds it on first use.
    :param images: ``(N, C, H, W)`` in [0, 1], on the network's device.
    :param labels: ``(N,)``, int64.
    :param counted: ``params`` and ``macs`` where they are known already; otherwise they are counted on the network.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        images: Tensor,
        labels: Tensor,
        *,
        counted: Mapping[str, int] | None = None,
    ):
        if images.ndim != 4 or len(images) != len(labels) or len(images) == 0:
            raise ValueError(
                f"expected images (N, C, H, W) and labels (N,) with N > 0, got {tuple(images.shape)} and"
                f" {tuple(labels.shape)}"
            )
        self._network = network
        self.images = images
        self.labels = labels
        self._counted = dict(counted or {})
        self._gradients: dict[tuple[Function, NormMode, int], dict[str, Tensor]] = {}

    @cached_property
    def network(self) -> nn.Module:
        """The network itself; a proxy that changes it asks for a :meth:`copy`."""
        return self._network if isinstance(self._network, nn.Module) else self._network()

    def copy(self) -> nn.Module:
        """A fresh copy of the network, to be changed at will."""
        return copy.deepcopy(self.network)

    @cached_property
    def layer_weights(self) -> dict[str, Tensor]:
        """The weights of the convolutions and linear layers, by parameter name."""
        return layer_weights(self.network)

    @cached_property
    def params(self) -> int:
        """Number of trainable parameters."""
        if "params" in self._counted:
            return self._counted["params"]
        return sum(each.numel() for each in self.network.parameters() if each.requires_grad)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one image."""
        if "macs" in self._counted:
            return self._counted["macs"]
        from torch.utils.flop_counter import FlopCounterMode

        network = self.copy().to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(self.images[:1].to("meta"))
        flops: int = counter.get_total_flops()
        return flops // 2

    def weight_gradients(self, function: Function, norm: NormMode, images: int | None = None) -> dict[str, Tensor]:
        """Gradient by parameter name of the sum, over the first ``images`` images, of all logits or of cross-entropies.

        Parameters that the function does not reach are left out. ``norm`` is what batch norms use: their running
        statistics, or the batch's. Only with running statistics is this the sum of the single images' gradients.
        """
        n = len(self.images) if images is None else images
        if not 0 < n <= len(self.images):
            raise ValueError(f"the probe holds {len(self.images)} images, got a request for {n}")
        key: tuple[Function, NormMode, int] = (function, norm, n)
        if key not in self._gradients:
            self._gradients[key] = self._sum_weight_gradients(*key)
        return self._gradients[key]

    def _sum_weight_gradients(self, function: Function, norm: NormMode, n: int) -> dict[str, Tensor]:
        named = {name: each for name, each in self.network.named_parameters() if each.requires_grad}
        if not named:
            raise ProxyError("no parameter of the network requires a gradient")
        whole = norm == "train" or self.images.device.type != "cpu"
        sums: list[Tensor | None] = [None] * len(named)
        with norm_mode(self.network, norm), torch.enable_grad():
            size = n if whole else CPU_CHUNK
            for start in range(0, n, size):
                chunk = slice(start, min(start + size, n))
                logits, labels = self.network(self.images[chunk]), self.labels[chunk]
                scalar = logits.sum() if function == "logits" else F.cross_entropy(logits, labels, reduction="sum")
                gradients = torch.autograd.grad(scalar, list(named.values()), allow_unused=True)
                sums = [each if so_far is None else so_far + each for so_far, each in zip(sums, gradients, strict=True)]
        return {name: total for name, total in zip(named, sums, strict=True) if total is not None}


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of the convolutions and linear layers of ``network``, by parameter name."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def input_gradients(network: nn.Module, images: Tensor, labels: Tensor, norm: NormMode) -> Tensor:
    """``(N, C, H, W)``: for each image the gradient of its own cross-entropy. No gradient of a weight is computed."""
    images = images.detach().requires_grad_()
    with norm_mode(network, norm), frozen(network), torch.enable_grad():
        loss = F.cross_entropy(network(images), labels, reduction="sum")
        return torch.autograd.grad(loss, images)[0]


@contextmanager
def norm_mode(network: nn.Module, mode: NormMode) -> Iterator[None]:
    """Inside, ``network`` is in eval mode, its batch norms in ``mode``; afterwards modes and buffers are as before."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()] if mode == "train" else []
    try:
        network.eval()
        if mode == "train":
            for norm in norms:
                norm.train()
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, no parameter of ``network`` requires a gradient."""
    learned = [each for each in network.parameters() if each.requires_grad]
    for each in learned:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in learned:
            each.requires_grad_(True)
