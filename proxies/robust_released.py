"""``robust_released``: what the authors' program of the robustness proxy computes, which is not the paper's formula.

Feng, Ou, Fan, Sun, ICLR 2025 (:mod:`proxies.robust` has the formula). Differences of the program, all kept here:

* g_i is the gradient of the cross-entropy of a single image, and gradients are not reset between images: the i-th
  snapshot is g_1 + ... + g_i. With N images, sum_i snapshot_i = sum_i (N - i + 1) g_i, so one backward pass of the
  weighted losses gives the double sum that takes the program N passes.
* only the first coordinates of a few of the first parameter tensors enter. How many tensors is not on record: it is an
  option, the stem's convolution and both vectors of its batch norm by default, with 50 coordinates each.
* t = 5e6; the step has length h = 50, and the change of the gradient is neither divided by h nor squared.
* batch norms are in eval mode; inputs are in [0, 1].

The program's exp overflows for many networks (38 of the 223 released scores are -inf); the score here is the logarithm,
:meth:`RobustReleased.raw` the value itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proxies.base import Probe, Proxy, Request
from proxies.robust import RobustTerms, check_options, finite, log_or_error


class RobustReleased(Proxy):
    """The released program's value in log space, higher is more robust.

    :param tensors: how many of the first parameter tensors enter. :param coordinates: how many of each one's values.
    """

    name = "robust_released"
    direction = "maximize"
    cost = "backward"

    def __init__(
        self,
        *,
        ntk_images: int = 50,
        curvature_images: int = 8,
        t: float = 5e6,
        h: float = 50.0,
        tensors: int = 3,
        coordinates: int = 50,
    ):
        check_options(ntk_images, curvature_images, t, h)
        for name, value in (("tensors", tensors), ("coordinates", coordinates)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.ntk_images = ntk_images
        self.curvature_images = curvature_images
        self.t = t
        self.h = h
        self.tensors = tensors
        self.coordinates = coordinates

    def terms(self, probe: Probe) -> RobustTerms:
        """The exponent without its t, and the logarithm of the change of the input gradient."""
        summed = self._summed_snapshots(probe)
        ntk = summed.square().sum().item() / (summed.numel() * self.ntk_images**2)
        change = probe.gradient_change("loss", "eval", self.h, self.curvature_images)
        return RobustTerms(ntk, log_or_error(change.flatten(1).double().norm(dim=1).mean().item(), "the curvature"))

    def score(self, probe: Probe) -> float:
        terms = self.terms(probe)
        return finite(-(self.t * terms.ntk + terms.log_curvature), "the score")

    def raw(self, probe: Probe) -> float:
        """The program's own value, -exp(t NTK) * change: never positive, -inf where the exponential overflows."""
        terms = self.terms(probe)
        try:
            return -math.exp(self.t * terms.ntk + terms.log_curvature)
        except OverflowError:
            return -math.inf

    def requests(self, probe: Probe) -> list[Request]:
        return [
            Request("gradient_change", "eval", self.curvature_images, step=self.h),
            Request("weight_gradients", "eval", self.ntk_images, image_weights=self._remaining, tensors=self.tensors),
        ]

    @property
    def _remaining(self) -> tuple[float, ...]:
        """In how many snapshots each image's gradient is."""
        return tuple(float(each) for each in range(self.ntk_images, 0, -1))

    def _summed_snapshots(self, probe: Probe) -> Tensor:
        """``sum_i snapshot_i`` of the coordinates that enter, float64."""
        probe.plan([self])
        n, weights = self.ntk_images, self._remaining
        found = probe.weight_gradients("loss", "eval", n, image_weights=weights, tensors=self.tensors)
        learned = [(name, each) for name, each in probe.network.named_parameters() if each.requires_grad]
        gradients = [found.get(name, torch.zeros_like(each)) for name, each in learned[: self.tensors]]
        return torch.cat([each.flatten()[: self.coordinates].double() for each in gradients])
