"""``grad_norm``: the sum over layers of the Euclidean norm of the loss gradient.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021. One batch, mean cross-entropy,
weights of convolutions and linear layers only. Batch norms use the batch's statistics, as in the published program.
"""

from __future__ import annotations

import torch

from proxies.base import NormMode, Probe, Proxy
from proxies.robust import check_norm, finite


class GradNorm(Proxy):
    """Higher is better."""

    name = "grad_norm"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, norm: NormMode = "train"):
        check_norm(norm)
        self.norm: NormMode = norm

    def score(self, probe: Probe) -> float:
        gradients = probe.weight_gradients("loss", self.norm)
        norms = [gradients[name].norm() for name in probe.layer_weights if name in gradients]
        total = torch.stack(norms).double().sum().item() if norms else 0.0
        return finite(total / len(probe.images), "the gradient norm")
