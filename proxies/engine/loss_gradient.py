"""What ``grad_norm``, ``snip`` and ``plain`` share: a sum over layers of a function of weight and gradient.

All three follow Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021: one batch,
mean cross-entropy, weights of convolutions and linear layers only, frozen ones left out. Batch norms use the statistics
of the batch, as in the published program.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, ProxyError, Request
from proxies.engine.checks import check_word, finite
from proxies.engine.first_images import FirstImagesProxy

#: The default number of images of a pass in training mode, which several proxies share. The published programs take 64
#: or 128, which would cost more than all other passes together.
IMAGES = 8


class LossGradientProxy(FirstImagesProxy):
    """The sum over layers of :meth:`of_layer`.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 8, or all where it holds fewer.
    """

    direction = "maximize"
    cost = "backward"
    default_images = IMAGES
    what: ClassVar[str]  # how an error names the sum

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("weight_gradients", self.norm, self.count(probe))]

    @abstractmethod
    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """A layer's term ``()``, from its weight and the gradient of the summed loss; proportional to the gradient."""

    def score(self, probe: Probe) -> float:
        n = self.count(probe)
        gradients = probe.weight_gradients("loss", self.norm, n)
        values = [
            self.of_layer(weight.detach(), gradients[name])
            for name, weight in probe.layer_weights.items()
            if name in gradients
        ]
        if not values:
            raise ProxyError("no weight of a convolution or linear layer has a gradient")
        return finite(torch.stack(values).double().sum().item() / n, self.what)
