"""``grad_norm``: the sum over layers of the Euclidean norm of the loss gradient, ||dL/dW||_2.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021; see
:mod:`proxies.engine.loss_gradient`.
"""

from __future__ import annotations

from torch import Tensor

from proxies.engine.loss_gradient import LossGradientProxy


class GradNorm(LossGradientProxy):
    """Higher is better."""

    name = "grad_norm"
    stackable = True
    what = "the gradient norm"

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.norm()
        return norm
