"""``snip``: the sum over weights of |W dL/dW|.

Lee, Ajanthan, Torr: "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019; as a proxy in
Abdelfattah et al., ICLR 2021, see :mod:`proxies.engine.loss_gradient`.
"""

from __future__ import annotations

from torch import Tensor

from proxies.engine.loss_gradient import LossGradientProxy


class Snip(LossGradientProxy):
    """Higher is better."""

    name = "snip"
    stackable = True
    what = "the saliency"

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum()
