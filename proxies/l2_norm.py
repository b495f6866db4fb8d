"""``l2_norm``: the sum over layers of the Euclidean norm of the weights, ||W||_2.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, which uses it as a baseline:
weights of convolutions and linear layers only, frozen or not. It needs no image; for an untrained network it is little
more than a count of filters.
"""

from __future__ import annotations

import torch

from proxies.base import Probe, Proxy, ProxyError
from proxies.engine.checks import finite


class L2Norm(Proxy):
    """Higher is better."""

    name = "l2_norm"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        norms = [weight.detach().norm() for weight in probe.layer_weights.values()]
        if not norms:
            raise ProxyError("the network has no convolution or linear layer")
        return finite(torch.stack(norms).double().sum().item(), "the norm of the weights")
