"""``plain``: the signed sum over weights of W dL/dW.

Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, whose program has it beside
``snip`` (:mod:`proxies.snip`), without the absolute value; see :mod:`proxies.engine.loss_gradient`.

A convolution followed by a batch norm that uses the statistics of the batch contributes nothing: the scale of its
weight has no influence, so its terms sum to zero, up to the norm's epsilon. Hence the sum is computed in float64.
"""

from __future__ import annotations

from torch import Tensor

from proxies.engine.loss_gradient import LossGradientProxy


class Plain(LossGradientProxy):
    """Higher is better, as the published program ranks it."""

    name = "plain"
    what = "the signed saliency"

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight.double() * gradient.double()).sum()
