"""``zico``: sum over layers of log sum_w mean |g| / std g, over batches: large gradients that batches agree on.

Li, Yang, Bhardwaj, Marculescu: "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023. Two
batches, as published: the halves of the images. g is the gradient of the mean cross-entropy by the weights of
convolutions and linear layers, batch norms use the batch's statistics, and the deviation is the population's: with two
batches a weight adds (|g_1| + |g_2|) / |g_1 - g_2|, which is 1 where the signs differ.

The program takes the deviation of g, as here; the paper's equation has that of |g|: ``absolute=True``. As in the
program, weights without a deviation, such as those no image reaches, are left out of a layer's sum, and layers without
any other are left out of the score. Departure: 8 images a batch, published are 128.
"""

from __future__ import annotations

import math

from torch import Tensor

from proxies.base import NormMode, Probe, Proxy, ProxyError, Request
from proxies.engine.loss_gradient import IMAGES as HALF
from proxies.robust import check_norm, finite


class Zico(Proxy):
    """Higher is better.

    :param absolute: whether the deviation is that of |g|.
    :param norm: statistics of the batch norms.
    :param images: images of both batches, 2 at least, from the start of the probe's batch; of an odd number the last
        is not used. By default 16, or all where it holds fewer.
    """

    name = "zico"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, absolute: bool = False, norm: NormMode = "train", images: int | None = None):
        check_norm(norm)
        if images is not None and images < 2:
            raise ValueError(f"images must be at least 2, got {images}")
        self.absolute = absolute
        self.norm: NormMode = norm
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        half = self._half(probe)
        return [Request("weight_gradients", self.norm, stop, stop - half) for stop in (half, 2 * half)]

    def score(self, probe: Probe) -> float:
        half = self._half(probe)
        if half < 1:
            raise ProxyError(f"two batches take at least 2 images, got {len(probe.images)}")
        first = probe.weight_gradients("loss", self.norm, half)
        second = probe.weight_gradients("loss", self.norm, 2 * half, half)
        sums = [
            ratios(first[name].double(), second[name].double(), absolute=self.absolute)
            for name in probe.layer_weights
            if name in first and name in second
        ]
        totals = [finite(each.sum().item(), "a layer's sum") for each in sums if len(each)]
        if not totals:
            raise ProxyError("no gradient of a convolution or linear layer differs between two batches")
        return sum(math.log(each) for each in totals)

    def _half(self, probe: Probe) -> int:
        return len(probe.first(self.images, 2 * HALF)[1]) // 2


def ratios(first: Tensor, second: Tensor, *, absolute: bool) -> Tensor:
    """mean |g| / std g of the weights whose gradient deviates; a common factor of both gradients does not matter."""
    sizes = first.abs(), second.abs()
    deviation = (sizes[0] - sizes[1] if absolute else first - second).abs()
    means = sizes[0] + sizes[1]
    deviates = deviation != 0  # true of nan
    return means[deviates] / deviation[deviates]
