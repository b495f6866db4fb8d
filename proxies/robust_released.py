"""``robust_released``: what the authors' program of the robustness proxy computes, which is not the paper's formula.

Feng, Ou, Fan, Sun, ICLR 2025 (:mod:`proxies.robust` has the formula). The program departs from the formula in these
points, and all of them are kept here:

* g_i is the gradient of the cross-entropy of the i-th of N single images. Gradients are not reset between images, and
  the program's snapshots of them share their memory. So when they are multiplied, every snapshot holds the last sum
  G = g_1 + ... + g_N, which takes one backward pass here.
* the snapshots of the first half are multiplied with those of the second half: N / 2 products G^2 for each value, whose
  sum is divided by N^2, but not by the number of parameters.
* only 50 values of 11 tensors enter: the first values of the first parameters that have at least 50. Smaller parameters
  are passed over, such as the batch norm of a stem with 16 channels, and so are those without a gradient.
* t = 5e6; the step has length h = 50, and the change of the gradient is neither divided by h nor squared. The loss is
  the mean of the batch, so the change of an image's gradient is divided by the number of images.
* batch norms are in eval mode; inputs are in [0, 1].

With c_i the change of the gradient of the i-th of B images, the program's value is

    R = -exp(t / (2 N) sum over the 11 x 50 values of G^2)  (1 / B) sum_i ||c_i / B||_2

Departures: the program always takes N = 50 images, and draws the B images of the change apart from them; here both are
taken from the start of the batch. Its exp, in single precision, overflows for many networks (38 of the 223 released
scores are -inf), so the score here is -log(-R), which has the same order; :meth:`RobustReleased.raw` is R itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proxies.base import Probe, ProxyError, Request
from proxies.engine.checks import check_at_least, log_or_error
from proxies.robust import RobustBound, RobustTerms


class RobustReleased(RobustBound):
    """The released program's value in log space. The options are those of its base class, and two more.

    :param tensors: how many parameter tensors are used: the first that have at least ``coordinates`` values.
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
        tensors: int = 11,
        coordinates: int = 50,
    ):
        super().__init__(ntk_images=ntk_images, curvature_images=curvature_images, t=t, h=h)
        check_at_least(1, tensors=tensors, coordinates=coordinates)
        self.tensors = tensors
        self.coordinates = coordinates

    def requests(self, probe: Probe) -> list[Request]:
        ntk_images, curvature_images = self.counts(probe)
        return [
            Request("gradient_change", "eval", curvature_images, step=self.h),
            Request("weight_gradients", "eval", ntk_images, tensors=self._reach(probe)),
        ]

    def terms(self, probe: Probe) -> RobustTerms:
        probe.plan([self])
        ntk_images, curvature_images = self.counts(probe)
        ntk = self._sum_of_squares(probe, ntk_images) / (2 * ntk_images)
        change = probe.gradient_change("loss", "eval", self.h, curvature_images) / curvature_images
        return RobustTerms(ntk, log_or_error(change.flatten(1).double().norm(dim=1).mean().item(), "the curvature"))

    def raw(self, probe: Probe) -> float:
        """The program's own value R: never positive, -inf where the exponential overflows in single precision."""
        terms = self.terms(probe)
        growth = torch.tensor(self.t * terms.ntk, dtype=torch.float32).exp().item()
        return -growth * math.exp(terms.log_curvature)

    def _reach(self, probe: Probe) -> int | None:
        """How many of the first learned parameters contain the tensors that are used; None if all do not."""
        sizes = [each.numel() for each in probe.parameters.values()]
        large = [position for position, size in enumerate(sizes, 1) if size >= self.coordinates]
        return large[self.tensors - 1] if len(large) >= self.tensors else None

    def _sum_of_squares(self, probe: Probe, n: int) -> float:
        """The sum of G^2 over the values that are used, G the gradient summed over n images."""
        reach = self._reach(probe)
        used = self._values(probe.weight_gradients("loss", "eval", n, tensors=reach))
        if reach is not None and len(used) < self.tensors:  # some have no gradient: others are used in their place
            used = self._values(probe.weight_gradients("loss", "eval", n))
        if not used:
            raise ProxyError(f"no parameter with a gradient has at least {self.coordinates} values")
        return torch.cat(used).double().square().sum().item()

    def _values(self, gradients: dict[str, Tensor]) -> list[Tensor]:
        """The values that are used: the first ones of each of the first gradients that have enough."""
        large = [each for each in gradients.values() if each.numel() >= self.coordinates]
        return [each.flatten()[: self.coordinates] for each in large[: self.tensors]]
