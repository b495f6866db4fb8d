"""``synflow``: log sum |W dR/dW| of a data-free, positive copy of the network.

Tanaka, Kunin, Yamins, Ganguli: "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020; as a proxy in Abdelfattah et al., ICLR 2021. Every parameter is replaced by its absolute value, batch
norms are bypassed, the input is one image of ones, R is the sum of the logits; weights of convolutions and linear
layers only. Computed in float64 and reported as its logarithm, since values reach 1e46.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxies.base import Probe, Proxy, ProxyError, layer_weights
from proxies.robust import log_or_error


class Synflow(Proxy):
    """Higher is better."""

    name = "synflow"
    direction = "maximize"
    cost = "backward"

    def score(self, probe: Probe) -> float:
        network = positive_copy(probe)
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


def positive_copy(probe: Probe) -> nn.Module:
    """A float64 copy in eval mode, its parameters replaced by their absolute values and its batch norms bypassed."""
    network = probe.copy().double().eval()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    return network
