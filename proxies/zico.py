"""``zico``: sum over layers of log sum_w mean |g| / std g, mean and deviation over batches: large, steady gradients.

Li, Yang, Bhardwaj, Marculescu: "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023. Two
batches, as published: the halves of the images. g is the gradient of the mean cross-entropy with respect to the
weights of convolutions and linear layers, batch norms use the statistics of the batch, and std is the deviation of the
population: with two batches a weight contributes (|g_1| + |g_2|) / |g_1 - g_2|, which is 1 where the signs differ.

The program takes the deviation of g, as here; the paper's equation has that of |g|, which is ``absolute=True``. As in
the program, weights whose gradient does not deviate, such as those whose gradient is zero for every image, are left out
of a layer's sum, and layers without any other weight are left out of the score. Departure: 8 images a batch, where 128
are published.
"""

from __future__ import annotations

import math

from torch import Tensor

from proxies.base import NormMode, Probe, ProxyError, Request
from proxies.engine.checks import check_word, finite
from proxies.engine.first_images import FirstImagesProxy
from proxies.engine.loss_gradient import IMAGES


class Zico(FirstImagesProxy):
    """Higher is better.

    :param absolute: whether the deviation is that of |g|.
    :param norm: statistics of the batch norms.
    :param images: images of both batches, 2 at least, from the start of the probe's batch; of an odd number the last
        is not used. By default 16, or all where it holds fewer.
    """

    name = "zico"
    direction = "maximize"
    cost = "backward"
    default_images = 2 * IMAGES
    least_images = 2

    def __init__(self, *, absolute: bool = False, norm: NormMode = "train", images: int | None = None):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.absolute = absolute
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        half = self.count(probe) // 2
        return [Request("weight_gradients", self.norm, stop, stop - half) for stop in (half, 2 * half)]

    def score(self, probe: Probe) -> float:
        half = self.count(probe) // 2
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


def ratios(first: Tensor, second: Tensor, *, absolute: bool) -> Tensor:
    """mean |g| / std g of the weights whose gradient deviates, the same for gradients with a common factor."""
    sizes = first.abs(), second.abs()
    deviation = (sizes[0] - sizes[1] if absolute else first - second).abs()
    means = sizes[0] + sizes[1]
    deviates = deviation != 0  # also true for nan
    return means[deviates] / deviation[deviates]
