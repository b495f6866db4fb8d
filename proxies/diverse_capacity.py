"""``diverse_capacity``: how much a network can hold, and how differently it treats different images.

    score = log P + log C + (1 / N) log |det K| - (1 / N) sum_i (log v_i + 1 / v_i - 1)

P counts the parameters, C the convolutions and linear layers. K is the kernel of ReLU codes of ``naswot``
(:mod:`proxies.naswot`), batch norms in eval mode; v are the eigenvalues of the correlation matrix of the input
gradients of ``jacob_cov`` (:mod:`proxies.jacob_cov`), batch norms with the batch's statistics; N images for both.

Why: adversarial training needs capacity, more of it than training without attacks (Madry et al., "Towards Deep Learning
Models Resistant to Adversarial Attacks", ICLR 2018), and counting parameters predicts robust accuracy better than the
published proxies do. What counting cannot see is a network whose capacity does not reach the function: one that gives
different images nearly the same activation pattern, or nearly the same input gradient. Both terms measure this per
image and against an absolute scale, so they need no population:

* log |det K| / N is the logarithm of the number of ReLU units, lowered by how much the images' codes overlap
  (Hadamard's inequality: nothing is lost where they have nothing in common).
* sum_i (log v_i + 1 / v_i - 1) is twice the Kullback-Leibler divergence between Gaussians of independent images and of
  this correlation matrix: zero where the input gradients do not correlate.

No constant is fitted: all four terms are logarithms with weight one. The form was chosen on 187 random cells of
NAS-RobBench-201 (CIFAR-10, AutoAttack) among about a thousand sums of up to four of ten such terms, with
Tiny-RobustBench in view; docs/results says what held on cells that had not been looked at.
"""

from __future__ import annotations

import math

import torch

from proxies.base import Probe, Proxy, ProxyError, Request
from proxies.jacob_cov import IMAGES, K, correlation
from proxies.naswot import check_regular
from proxies.robust import finite


class DiverseCapacity(Proxy):
    """Higher is better.

    :param images: images from the start of the probe's batch, 2 at least; by default 32, or all where it holds fewer.
    """

    name = "diverse_capacity"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, images: int | None = None):
        if images is not None and images < 2:
            raise ValueError(f"images must be at least 2, got {images}")
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        n = self._count(probe)
        return [
            Request("activation_agreement", "eval", n),
            Request("input_gradients", "train", n, function="logits"),
        ]

    def score(self, probe: Probe) -> float:
        n = self._count(probe)
        if n < 2:
            raise ProxyError(f"a correlation takes at least 2 images, got {n}")
        if not probe.params or not probe.layer_weights:
            raise ProxyError("the network has no trainable parameter, or no convolution or linear layer")
        kernel = probe.activation_agreement("eval", n)
        check_regular(kernel)
        values = torch.linalg.eigvalsh(correlation(probe.input_gradients("logits", "train", n).flatten(1))) + K
        capacity = math.log(probe.params) + math.log(len(probe.layer_weights))
        codes = torch.linalg.slogdet(kernel).logabsdet.item() / n
        divergence = (values.log() + 1 / values - 1).mean().item()
        return finite(capacity + codes - divergence, "the score")

    def _count(self, probe: Probe) -> int:
        return len(probe.first(self.images, IMAGES)[1])
