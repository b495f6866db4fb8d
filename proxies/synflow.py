"""``synflow``: log sum |W dR/dW| of a data-free, positive copy of the network.

Tanaka, Kunin, Yamins, Ganguli: "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020; as a proxy in Abdelfattah et al., ICLR 2021. Every parameter is replaced by its absolute value, batch
norms are bypassed, the input is one image of ones, R is the sum of the logits; weights of convolutions and linear
layers only. Computed in float64 and reported as its logarithm, since values reach 1e46.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxies.base import Probe, Proxy, ProxyError, layer_weights
from proxies.robust import log_or_error


class Synflow(Proxy):
    """Higher is better."""

    name = "synflow"
    direction = "maximize"
    cost = "backward"

    def score(self, probe: Probe) -> float:
        with norms_bypassed(shared_copy(probe)) as network:
            return log_flow(network, probe)


def log_flow(network: nn.Module, probe: Probe) -> float:
    """The logarithm of sum |W dR/dW| of a network in float64."""
    weights = [each for each in dict.fromkeys(layer_weights(network).values()) if each.requires_grad]
    if not weights:
        raise ProxyError("no weight of a convolution or linear layer requires a gradient")
    ones = torch.ones_like(probe.images[:1], dtype=torch.float64)
    with torch.enable_grad():
        flow = network(ones).sum()
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
    total = sum(
        (weight.detach() * gradient).abs().sum().item()
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    )
    return log_or_error(total, "the synaptic flow")


def shared_copy(probe: Probe) -> nn.Module:
    """The positive copy with batch norms that this module's readers share; they leave it as it is."""
    return probe.once("positive copy", lambda: positive_copy(probe, keep_norms=True))


def positive_copy(probe: Probe, *, keep_norms: bool = False) -> nn.Module:
    """A float64 copy in eval mode, its parameters replaced by their absolute values and its batch norms bypassed."""
    network = probe.copy().double().eval()
    for module, name, child in places(network):
        if isinstance(child, _BatchNorm) and not keep_norms:
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.Conv2d) and DepthwiseProduct.fits(child):
            setattr(module, name, DepthwiseProduct(child))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    return network


@contextmanager
def norms_bypassed(network: nn.Module) -> Iterator[nn.Module]:
    """Inside, the batch norms of ``network`` let everything through."""
    norms = [place for place in places(network) if isinstance(place[2], _BatchNorm)]
    try:
        for module, name, _ in norms:
            setattr(module, name, nn.Identity())
        yield network
    finally:
        for module, name, norm in norms:
            setattr(module, name, norm)


def places(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Every module inside of another: that other one, the name there, the module."""
    return [(module, name, child) for module in network.modules() for name, child in module.named_children()]


class DepthwiseProduct(nn.Conv2d):
    """A depthwise convolution as one matrix product a channel: in float64 torch's own goes channel by channel."""

    def __init__(self, conv: nn.Conv2d):
        with torch.device("meta"):
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,  # type: ignore[arg-type]
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                conv.dilation,  # type: ignore[arg-type]
                groups=conv.groups,
                bias=False,
            )
        self.weight = conv.weight
        self.train(conv.training)

    @staticmethod
    def fits(conv: nn.Conv2d) -> bool:
        """Whether ``conv`` is such a convolution on a CPU, without anything besides or a way of its own."""
        plain = (
            conv.weight.device.type == "cpu"
            and conv.bias is None
            and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
        )
        own = getattr(conv, "computes_conv2d", False)
        return (
            plain and conv.in_channels == conv.out_channels == conv.groups > 1 and not conv._forward_hooks and not own
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        assert not isinstance(self.padding, str)
        size = [
            (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for length, padding, dilation, kernel, stride in zip(
                (h, w), self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)  # N Ck L
        products = self.weight.view(c, 1, -1) @ columns.view(n, c, -1, columns.shape[-1])  # N C 1 L
        return products.view(n, c, *size)
