"""``robust``: an upper bound of the adversarial loss, before training.

Feng, Ou, Fan, Sun: "Zero-cost Proxy for Adversarial Robustness Evaluation", ICLR 2025, Eq. 4:

    R = -exp(t / (M N^2) sum_m sum_i sum_j d f(x_i)/d theta_m  d f(x_j)/d theta_m)  ||(l(x + h z) - l(x)) / h||_2^2

with l(x) the input gradient of the cross-entropy and z its sign, scaled to length 1 per image. The first factor grows
with the mean of the neural tangent kernel, the second with the curvature of the loss along the direction of an attack.

How it is computed, and where that departs from the paper:

* sum_i sum_j <g_i, g_j> = ||sum_i g_i||^2: one batched backward pass instead of N single ones. The two are equal where
  images do not interact, that is with batch norms in eval mode, the default.
* exp overflows for many networks, which then tie. The score is -log(-R) = -(t NTK + log curvature): the same order,
  never an overflow.
* f has several outputs; as in the released measurements they are summed. ``function="loss"`` differentiates the
  cross-entropy instead, as the authors' program does.
* the curvature is the mean over images of the squared norm.

The defaults of t and h: h = 50 is the authors' program's; t = 1e6 because their 5e6 belongs to gradients that
accumulate from image to image (:mod:`proxies.robust_released`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from proxies.base import Function, NormMode, Probe, Proxy, ProxyError, Request


@dataclass(frozen=True)
class RobustTerms:
    """The two factors: ``ntk``, the mean over parameters and image pairs, and ``log_curvature``, natural logarithm."""

    ntk: float
    log_curvature: float


class Robust(Proxy):
    """The paper's formula in log space, higher is more robust.

    :param ntk_images: N, taken from the start of the probe's batch.
    :param curvature_images: images of the curvature term, likewise.
    :param t: training time in the exponent. :param h: length of the finite-difference step, in pixel units (L2).
    :param function: what the NTK differentiates: the sum of the logits, or the cross-entropy.
    :param norm: statistics of the batch norms, in both terms.
    """

    name = "robust"
    direction = "maximize"
    cost = "backward"

    def __init__(
        self,
        *,
        ntk_images: int = 50,
        curvature_images: int = 8,
        t: float = 1e6,
        h: float = 50.0,
        function: Function = "logits",
        norm: NormMode = "eval",
    ):
        check_options(ntk_images, curvature_images, t, h)
        if function not in ("logits", "loss"):
            raise ValueError(f"function must be logits or loss, got '{function}'")
        check_norm(norm)
        self.ntk_images = ntk_images
        self.curvature_images = curvature_images
        self.t = t
        self.h = h
        self.function: Function = function
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        return [
            Request("weight_gradients", self.norm, self.ntk_images, function=self.function),
            Request("gradient_change", self.norm, self.curvature_images, step=self.h),
        ]

    def terms(self, probe: Probe) -> RobustTerms:
        """Both factors of the bound, which the score adds up."""
        probe.plan([self])
        gradients = probe.weight_gradients(self.function, self.norm, self.ntk_images)
        norm = torch.nn.utils.get_total_norm(gradients.values()).item()
        ntk = norm * norm / (probe.params * self.ntk_images**2)
        change = probe.gradient_change("loss", self.norm, self.h, self.curvature_images) / self.h
        curvature = change.flatten(1).double().square().sum(1).mean().item()
        return RobustTerms(ntk, log_or_error(curvature, "the curvature"))

    def score(self, probe: Probe) -> float:
        terms = self.terms(probe)
        return finite(-(self.t * terms.ntk + terms.log_curvature), "the score")


def log_or_error(value: float, what: str) -> float:
    """The logarithm of a positive finite value."""
    if not (math.isfinite(value) and value > 0):
        raise ProxyError(f"{what} is {value}, expected a positive number")
    return math.log(value)


def finite(value: float, what: str) -> float:
    """The value, if it is a number."""
    if not math.isfinite(value):
        raise ProxyError(f"{what} is {value}, expected a finite number")
    return value


def check_norm(norm: str) -> None:
    """Whether ``norm`` is a mode of batch norms; anything else is a ValueError."""
    if norm not in ("eval", "train"):
        raise ValueError(f"norm must be eval or train, got '{norm}'")


def check_options(ntk_images: int, curvature_images: int, t: float, h: float) -> None:
    """Whether the numbers that both robustness proxies take are in range; a ValueError if not."""
    for name, count in (("ntk_images", ntk_images), ("curvature_images", curvature_images)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not (math.isfinite(t) and t >= 0):
        raise ValueError(f"t must be a number of at least 0, got {t}")
    if not (math.isfinite(h) and h > 0):
        raise ValueError(f"h must be a number above 0, got {h}")
