"""``diverse_capacity``: how large a network is, and how differently it treats different images.

    score = log P + log C + (1 / N) log |det K| - (1 / N) sum_i (log v_i + 1 / v_i - 1)

P is the number of parameters, C that of convolutions and linear layers. K is the kernel of ReLU codes of ``naswot``
(:mod:`proxies.naswot`) with batch norms in eval mode; v are the eigenvalues of the correlation matrix of the input
gradients, computed as in ``jacob_cov`` (:mod:`proxies.jacob_cov`) with the statistics of the batch, but of the
cross-entropy; both use the same N images. ``jacob_cov`` differentiates the sum of all logits, which is constant in many
cells without a pooling, most published ones among them, so its gradient is rounding; the sum of the losses is not
constant. Of 98 records of Tiny-RobustBench both have tau 0.436 with the robust accuracy, of 100 cells of
NAS-RobBench-201 0.712 by the losses and 0.704 by the logits, a difference of -0.002 to +0.021 (16 images). In eval mode
the gradients of different images are nearly the same: 0.365 and 0.514.

Why: adversarial training needs capacity, more of it than training without attacks (Madry et al., "Towards Deep Learning
Models Resistant to Adversarial Attacks", ICLR 2018), and counting parameters predicts robust accuracy better than the
published proxies do. Counting does not notice a network that makes no use of its capacity: one that gives different
images nearly the same activation pattern, or nearly the same input gradient. The last two terms measure this per image
and on an absolute scale, so they need no other networks to compare with:

* log |det K| / N is the logarithm of the number of ReLU units, lowered by how much the images' codes overlap
  (by Hadamard's inequality it is lowered by nothing where codes have nothing in common).
* sum_i (log v_i + 1 / v_i - 1) is twice the Kullback-Leibler divergence between Gaussians of independent images and of
  this correlation matrix: zero where the input gradients do not correlate.

No constant is fitted: all four terms are logarithms with weight one. The form was chosen on 187 random cells of
NAS-RobBench-201 (CIFAR-10, AutoAttack) among about a thousand sums of up to four of ten such terms, while
also looking at Tiny-RobustBench; docs/results says what held on cells that had not been looked at.
"""

from __future__ import annotations

import math

import torch

from proxies.base import Probe, ProxyError, Request
from proxies.engine.checks import finite
from proxies.engine.first_images import FirstImagesProxy
from proxies.jacob_cov import IMAGES, K, correlation
from proxies.naswot import check_regular


class DiverseCapacity(FirstImagesProxy):
    """Higher is better.

    :param images: images from the start of the probe's batch, 2 at least; by default 32, or all where it holds fewer.
    """

    name = "diverse_capacity"
    direction = "maximize"
    cost = "backward"
    stackable = True
    default_images = IMAGES
    least_images = 2

    def __init__(self, *, images: int | None = None):
        super().__init__(images)

    def requests(self, probe: Probe) -> list[Request]:
        n = self.count(probe)
        return [
            Request("activation_agreement", "eval", n),
            Request("input_gradients", "train", n),
        ]

    def score(self, probe: Probe) -> float:
        n = self.count(probe)
        if not probe.params or not probe.layer_weights:
            raise ProxyError("the network has no trainable parameter, or no convolution or linear layer")
        kernel = probe.activation_agreement("eval", n)
        check_regular(kernel)
        values = torch.linalg.eigvalsh(correlation(probe.input_gradients("loss", "train", n).flatten(1))) + K
        capacity = math.log(probe.params) + math.log(len(probe.layer_weights))
        codes = torch.linalg.slogdet(kernel).logabsdet.item() / n
        divergence = (values.log() + 1 / values - 1).mean().item()
        return finite(capacity + codes - divergence, "the score")
