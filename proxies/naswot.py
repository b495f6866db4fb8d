"""``naswot``: log |det K| of the kernel of ReLU codes, how well an untrained network tells images apart.

Mellor, Turner, Storkey, Crowley: "Neural Architecture Search without Training", ICML 2021. X holds for each image which
ReLU inputs are positive, K = X X^T + (1 - X)(1 - X)^T counts on how many two images agree, summed over ReLUs. As in the
published program batch norms use the batch's statistics. Higher is better.

Departures: the program takes 128 training images, cropped, mirrored and standardised; here they are the probe's, in
[0, 1], and 32 of them by default. A ReLU that a network computes once for several readers (the cell networks of this
project do) counts once. Only modules ``nn.ReLU`` and ``nn.ReLU6`` are seen, not functions.

Two images of equal codes make K singular: log |det K| is then -inf, and there is no value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, Proxy, ProxyError, Request
from proxies.engine.drawn_weights import check_counts
from proxies.jacob_cov import IMAGES
from proxies.robust import check_norm, finite


class Naswot(Proxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 32, or all where it holds fewer.
    """

    name = "naswot"
    direction = "maximize"
    cost = "forward"

    def __init__(self, *, norm: NormMode = "train", images: int | None = None):
        check_norm(norm)
        check_counts(images=images)
        self.norm: NormMode = norm
        self.images = images

    def requests(self, probe: Probe) -> list[Request]:
        return [Request("activation_agreement", self.norm, self._count(probe))]

    def score(self, probe: Probe) -> float:
        kernel = probe.activation_agreement(self.norm, self._count(probe))
        check_regular(kernel)
        return finite(torch.linalg.slogdet(kernel).logabsdet.item(), "the log determinant")

    def _count(self, probe: Probe) -> int:
        return len(probe.first(self.images, IMAGES)[1])


def check_regular(kernel_NN: Tensor) -> None:
    """Whether the kernel has an inverse; a ProxyError if not."""
    n = len(kernel_NN)
    alike = int(((kernel_NN == kernel_NN.diagonal()).sum(0) > 1).sum())  # agreeing on every unit
    if alike:
        raise ProxyError(f"{alike} of {n} images share all ReLU codes with another: the kernel is singular")
    values = torch.linalg.eigvalsh(kernel_NN)
    if values[0] <= n * torch.finfo(kernel_NN.dtype).eps * values[-1]:
        raise ProxyError(f"the ReLU codes of {n} images depend on one another linearly: the kernel is singular")
