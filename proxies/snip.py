"""``snip``: the sum over weights of |W dL/dW|.

Lee, Ajanthan, Torr: "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019; as a proxy in
Abdelfattah et al., ICLR 2021. One batch, mean cross-entropy, weights of convolutions and linear layers only. Batch
norms use the batch's statistics, as in the published program.
"""

from __future__ import annotations

import torch

from proxies.base import NormMode, Probe, Proxy
from proxies.robust import check_norm, finite


class Snip(Proxy):
    """Higher is better."""

    name = "snip"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, norm: NormMode = "train"):
        check_norm(norm)
        self.norm: NormMode = norm

    def score(self, probe: Probe) -> float:
        gradients = probe.weight_gradients("loss", self.norm)
        saliencies = [
            (weight.detach() * gradients[name]).abs().sum()
            for name, weight in probe.layer_weights.items()
            if name in gradients
        ]
        total = torch.stack(saliencies).double().sum().item() if saliencies else 0.0
        return finite(total / len(probe.images), "the saliency")
