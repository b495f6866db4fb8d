"""``naswot``: log |det K| of the kernel of ReLU codes: how differently an untrained network activates for each image.

Mellor, Turner, Storkey, Crowley: "Neural Architecture Search without Training", ICML 2021. The code of an image, a
row of X, says which ReLU inputs are positive; K = X X^T + (1 - X)(1 - X)^T counts at how many units two images agree,
summed over ReLUs. As in the published program, batch norms use the statistics of the batch. Higher is better.

A ReLU is counted once for each operation that reads it. The cell networks of this project compute a ReLU once for all
operations that read the same tensor, and say how many these are (:func:`proxies.engine.hooks.readers_of`), so their
score is that of the published networks, where each operation has a ReLU of its own.

Departures: the program takes 128 training images, cropped, mirrored and standardised; here they are images of the
probe's batch, in [0, 1], by default 32 of them. The program looks for "ReLU" in the names of classes, so it also
observes the modules ``ReLUConvBN`` of DARTS and NAS-Bench-201 and counts the ReLUs that these begin with twice; here
they are counted once (Kendall's tau of the two over 20 random DARTS cells: 0.90; with ``shared_once=True``: 0.66). Only
modules ``nn.ReLU`` and ``nn.ReLU6`` are observed, not functions.

Two images of equal codes make K singular: log |det K| is then -inf, and the network has no value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxies.base import NormMode, Probe, ProxyError, Request
from proxies.engine.checks import check_word, finite
from proxies.engine.first_images import FirstImagesProxy
from proxies.engine.passes import Quantity
from proxies.jacob_cov import IMAGES


class Naswot(FirstImagesProxy):
    """Higher is better.

    :param norm: statistics of the batch norms.
    :param images: images from the start of the probe's batch; by default 32, or all where it holds fewer.
    :param shared_once: whether a ReLU that several operations share is counted once. Networks that compute the same
        function then have different scores, by how many of their ReLUs are shared.
    """

    name = "naswot"
    direction = "maximize"
    cost = "forward"
    stackable = True
    default_images = IMAGES

    def __init__(self, *, norm: NormMode = "train", images: int | None = None, shared_once: bool = False):
        super().__init__(images)
        check_word("norm", norm, NormMode)
        self.norm: NormMode = norm
        self.shared_once = shared_once

    def requests(self, probe: Probe) -> list[Request]:
        quantity: Quantity = "activation_agreement_once" if self.shared_once else "activation_agreement"
        return [Request(quantity, self.norm, self.count(probe))]

    def score(self, probe: Probe) -> float:
        kernel = probe.activation_agreement(self.norm, self.count(probe), once=self.shared_once)
        check_regular(kernel)
        return finite(torch.linalg.slogdet(kernel).logabsdet.item(), "the log determinant")


def check_regular(kernel_NN: Tensor) -> None:
    """:raises ProxyError: the kernel is singular."""
    n = len(kernel_NN)
    alike = int(((kernel_NN == kernel_NN.diagonal()).sum(0) > 1).sum())  # images that agree with another at every unit
    if alike:
        raise ProxyError(f"{alike} of {n} images share all ReLU codes with another: the kernel is singular")
    values = torch.linalg.eigvalsh(kernel_NN)
    if values[0] <= n * torch.finfo(kernel_NN.dtype).eps * values[-1]:
        raise ProxyError(f"the ReLU codes of {n} images depend on one another linearly: the kernel is singular")
