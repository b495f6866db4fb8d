"""What ``grad_norm``, ``snip`` and ``plain`` share: a sum over layers of something of a weight and its loss gradient.

All three as in Abdelfattah, Mehrotra, Dudziak, Lane: "Zero-Cost Proxies for Lightweight NAS", ICLR 2021: one batch,
mean cross-entropy, weights of convolutions and linear layers only; frozen ones do not count. Batch norms use the
batch's statistics, as in the published program.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, Proxy, ProxyError, Request
from proxies.engine.drawn_weights import check_counts
from proxies.robust import check_norm, finite

#: Images of one pass in training mode by default, which proxies of such a pass share. The published programs take 64 or
#: 128, which would cost more than all other passes together.
IMAGES = 8


class LossGradientProxy(Proxy):
    """The sum over layers of :meth:`of_layer`.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 8, or all where it holds fewer.
    """

    direction = "maximize"
    cost = "backward"
    what: ClassVar[str]

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        check_norm(norm)
        check_counts(images=images)
        self.norm: NormMode = norm
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("weight_gradients", self.norm, self._count(probe))]

    @abstractmethod
    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """A number, from the weight and the summed loss' gradient; it has to grow in proportion to the gradient."""

    def score(self, probe: Probe) -> float:
        n = self._count(probe)
        gradients = probe.weight_gradients("loss", self.norm, n)
        values = [
            self.of_layer(weight.detach(), gradients[name])
            for name, weight in probe.layer_weights.items()
            if name in gradients
        ]
        if not values:
            raise ProxyError("no weight of a convolution or linear layer has a gradient")
        return finite(torch.stack(values).double().sum().item() / n, self.what)

    def _count(self, probe: Probe) -> int:
        return len(probe.first(self.images, IMAGES)[1])
