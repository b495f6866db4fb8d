"""``robust_released``: what the authors' program of the robustness proxy computes, which is not the paper's formula.

Feng, Ou, Fan, Sun, ICLR 2025 (:mod:`proxies.robust` has the formula). The program departs from the formula in these
points, and all of them are kept here:

* g_i is the gradient of the cross-entropy of a single image, and gradients are not reset between images: the i-th
  snapshot is g_1 + ... + g_i. With N images, sum_i snapshot_i = sum_i (N - i + 1) g_i. One backward pass through the
  weighted sum of the losses therefore gives the double sum for which the program takes N passes.
* only the first values of a few of the first parameter tensors are used. How many tensors is not on record, so it is an
  option; by default these are the stem's convolution and both vectors of its batch norm, with 50 values of each.
* t = 5e6; the step has length h = 50, and the change of the gradient is neither divided by h nor squared.
* batch norms are in eval mode; inputs are in [0, 1].

The program's exp overflows for many networks (38 of the 223 released scores are -inf). The score here is the logarithm;
:meth:`RobustReleased.raw` is the program's value itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proxies.base import Probe, Request
from proxies.engine.checks import check_at_least, log_or_error
from proxies.robust import RobustBound, RobustTerms


class RobustReleased(RobustBound):
    """The released program's value in log space. The options are those of its base class, and two more.

    :param tensors: how many of the first parameter tensors are used.
    :param coordinates: how many of the first values of each.
    """

    name = "robust_released"

    def __init__(
        self,
        *,
        ntk_images: int | None = None,
        curvature_images: int | None = None,
        t: float = 5e6,
        h: float = 50.0,
        tensors: int = 3,
        coordinates: int = 50,
    ):
        super().__init__(ntk_images=ntk_images, curvature_images=curvature_images, t=t, h=h)
        check_at_least(1, tensors=tensors, coordinates=coordinates)
        self.tensors = tensors
        self.coordinates = coordinates

    def requests(self, probe: Probe) -> list[Request]:
        ntk_images, curvature_images = self.counts(probe)
        weights = snapshots_with_each(ntk_images)
        return [
            Request("gradient_change", "eval", curvature_images, step=self.h),
            Request("weight_gradients", "eval", ntk_images, image_weights=weights, tensors=self.tensors),
        ]

    def terms(self, probe: Probe) -> RobustTerms:
        probe.plan([self])
        ntk_images, curvature_images = self.counts(probe)
        summed = self._summed_snapshots(probe, ntk_images)
        ntk = summed.square().sum().item() / (summed.numel() * ntk_images**2)
        change = probe.gradient_change("loss", "eval", self.h, curvature_images)
        return RobustTerms(ntk, log_or_error(change.flatten(1).double().norm(dim=1).mean().item(), "the curvature"))

    def raw(self, probe: Probe) -> float:
        """The program's own value, -exp(t NTK) * change: never positive, -inf where the exponential overflows."""
        terms = self.terms(probe)
        try:
            return -math.exp(self.t * terms.ntk + terms.log_curvature)
        except OverflowError:
            return -math.inf

    def _summed_snapshots(self, probe: Probe, n: int) -> Tensor:
        """``sum_i snapshot_i`` over n images, of the values that are used; float64."""
        weights = snapshots_with_each(n)
        found = probe.weight_gradients("loss", "eval", n, image_weights=weights, tensors=self.tensors)
        learned = [(name, each) for name, each in probe.network.named_parameters() if each.requires_grad]
        gradients = [found.get(name, torch.zeros_like(each)) for name, each in learned[: self.tensors]]
        return torch.cat([each.flatten()[: self.coordinates].double() for each in gradients])


def snapshots_with_each(n: int) -> tuple[float, ...]:
    """In how many of n snapshots the gradient of each image is contained: n, n - 1, ..., 1."""
    return tuple(float(each) for each in range(n, 0, -1))
