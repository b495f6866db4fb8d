"""``fisher``: the sum over channels of 1/2 mean_n (sum_hw a dL/da)^2, a being a layer's output.

Turner, Crowley, O'Boyle, Storkey, Gray: "BlockSwap: Fisher-guided Block Substitution for Network Compression on a
Budget", ICLR 2020; as a proxy in Abdelfattah et al., ICLR 2021. It approximates how much the loss changes when a
channel is removed. Channels are those of convolutions and linear layers, before any batch norm; layers with frozen
weights are left out. L is the mean cross-entropy of the batch, so an image's own loss enters with the factor 1 / N: the
value falls with the square of the number of images, as in the published program. Batch norms use the statistics of the
batch, as they do there.

The program then copies the value of a channel to every weight of its filter and sums over the weights, which multiplies
the value by the channel's fan-in. ``fan_in=True`` does the same. For a layer that is called several times, values are
summed over its calls before they are squared, since the calls share their channels; the program squares each call.
"""

from __future__ import annotations

import torch

from proxies.base import NormMode, Probe, ProxyError, Request
from proxies.engine.checks import check_word, finite
from proxies.engine.first_images import FirstImagesProxy
from proxies.engine.loss_gradient import IMAGES


class Fisher(FirstImagesProxy):
    """Higher is better.

    :param fan_in: whether the value of a channel is multiplied by its fan-in.
    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 8, or all where it holds fewer.
    """

    name = "fisher"
    direction = "maximize"
    cost = "backward"
    default_images = IMAGES

    def __init__(self, *, fan_in: bool = False, norm: NormMode = "train", images: int | None = None):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.fan_in = fan_in
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("output_saliency", self.norm, self.count(probe))]

    def score(self, probe: Probe) -> float:
        n = self.count(probe)
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
