"""``fisher``: the sum over channels of 1/2 mean_n (sum_hw a dL/da)^2, a being a layer's output.

Turner, Crowley, O'Boyle, Storkey, Gray: "BlockSwap: Fisher-guided Block Substitution for Network Compression on a
Budget", ICLR 2020; as a proxy in Abdelfattah et al., ICLR 2021. It approximates what the loss loses with a channel.
Channels are those of convolutions and linear layers, before any batch norm; layers with frozen weights do not count.
L is the mean cross-entropy of the batch, of which an image's own loss is a part in N: the value falls with the square
of the number of images, as the published program's does. Batch norms use the batch's statistics, likewise.

That program then shapes the channels' values like the weights, each value once for every weight of its filter, and sums
these: it multiplies a channel by its fan-in. ``fan_in=True`` does. A layer that is called several times adds its calls
up before squaring, as they share their channels; the program squares each.
"""

from __future__ import annotations

import torch

from proxies.base import NormMode, Probe, Proxy, ProxyError, Request
from proxies.engine.drawn_weights import check_counts
from proxies.engine.loss_gradient import IMAGES
from proxies.robust import check_norm, finite


class Fisher(Proxy):
    """Higher is better.

    :param fan_in: whether a channel counts once for each weight of its filter.
    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 8, or all where it holds fewer.
    """

    name = "fisher"
    direction = "maximize"
    cost = "backward"

    def __init__(self, *, fan_in: bool = False, norm: NormMode = "train", images: int | None = None):
        check_norm(norm)
        check_counts(images=images)
        self.fan_in = fan_in
        self.norm: NormMode = norm
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("output_saliency", self.norm, self._count(probe))]

    def score(self, probe: Probe) -> float:
        n = self._count(probe)
        saliency_NC = probe.output_saliency(self.norm, n)
        values = []
        for name, weight in probe.layer_weights.items():
            layer = name.removesuffix("weight").removesuffix(".")
            if weight.requires_grad and layer in saliency_NC:
                of_mean_loss = saliency_NC[layer].double() / n
                values.append(of_mean_loss.square().mean(0).sum() / 2 * (weight[0].numel() if self.fan_in else 1))
        if not values:
            raise ProxyError("no convolution or linear layer has an output with a gradient")
        return finite(torch.stack(values).sum().item(), "the Fisher information")

    def _count(self, probe: Probe) -> int:
        return len(probe.first(self.images, IMAGES)[1])
