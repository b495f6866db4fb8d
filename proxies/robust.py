"""``robust``: an upper bound of the adversarial loss, before training.

Feng, Ou, Fan, Sun: "Zero-cost Proxy for Adversarial Robustness Evaluation", ICLR 2025, Eq. 4:

    R = -exp(t / (M N^2) sum_m sum_i sum_j d f(x_i)/d theta_m  d f(x_j)/d theta_m)  ||(l(x + h z) - l(x)) / h||_2^2

with l(x) the input gradient of the cross-entropy and z its sign, scaled to length 1 per image. The first factor grows
with the mean of the neural tangent kernel (NTK), the second with the curvature of the loss in the direction of an
attack.

How it is computed here, and where that departs from the paper:

* sum_i sum_j <g_i, g_j> = ||sum_i g_i||^2: one batched backward pass instead of N single ones. The two are equal where
  images do not influence one another, that is with batch norms in eval mode, the default.
* exp overflows for many networks, which could then not be ranked. The score is -log(-R) = -(t NTK + log curvature):
  the same order without an overflow.
* f has several outputs; as in the released measurements they are summed. ``function="loss"`` differentiates the
  cross-entropy instead, as the authors' program does.
* the curvature is the mean over images of the squared norm.

The defaults of t and h: h = 50 is taken from the authors' program; t is 1e6, since the program's 5e6 belongs to a sum
over few parameters that is not divided by their number (:mod:`proxies.robust_released`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from proxies.base import Function, NormMode, Probe, Proxy, Request
from proxies.engine.checks import check_at_least, check_positive, check_word, finite, log_or_error
from proxies.engine.modes import norm_mode, without_gradients

NTK_IMAGES = 50
CURVATURE_IMAGES = 8


@dataclass(frozen=True)
class RobustTerms:
    """``ntk``, what t is multiplied with in the exponent, and ``log_curvature``, a natural logarithm."""

    ntk: float
    log_curvature: float


class RobustBound(Proxy):
    """What the paper's formula and the authors' program share: -(t NTK + log curvature), higher is more robust.

    :param ntk_images: N, images from the start of the probe's batch; by default 50, or all where it holds fewer.
    :param curvature_images: images of the curvature term, likewise; by default 8.
    :param t: training time in the exponent.
    :param h: length (L2) of the finite-difference step, in pixel units.
    """

    direction = "maximize"
    cost = "backward"
    stackable = True
    image_options = ("ntk_images", "curvature_images")

    def __init__(self, *, ntk_images: int | None, curvature_images: int | None, t: float, h: float):
        check_at_least(1, ntk_images=ntk_images, curvature_images=curvature_images)
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"t must be a number of at least 0, got {t}")
        check_positive(h=h)
        self.ntk_images = ntk_images
        self.curvature_images = curvature_images
        self.t = t
        self.h = h

    def images_needed(self) -> int:
        return max(self.ntk_images or 1, self.curvature_images or 1)

    def counts(self, probe: Probe) -> tuple[int, int]:
        """How many images of this probe's batch the NTK and the curvature are computed from."""
        return probe.count(self.ntk_images, NTK_IMAGES), probe.count(self.curvature_images, CURVATURE_IMAGES)

    @abstractmethod
    def terms(self, probe: Probe) -> RobustTerms:
        """Both terms of the score.

        :raises ProxyError: the curvature is not a positive number.
        """

    def score(self, probe: Probe) -> float:
        terms = self.terms(probe)
        return finite(-(self.t * terms.ntk + terms.log_curvature), "the score")


class Robust(RobustBound):
    """The paper's formula in log space. The options are those of :class:`RobustBound`, and two more.

    :param function: what the NTK differentiates: the sum of the logits, or the cross-entropy.
    :param norm: statistics of the batch norms, in both terms.
    """

    name = "robust"

    def __init__(
        self,
        *,
        ntk_images: int | None = None,
        curvature_images: int | None = None,
        t: float = 1e6,
        h: float = 50.0,
        function: Function = "logits",
        norm: NormMode = "eval",
    ):
        super().__init__(ntk_images=ntk_images, curvature_images=curvature_images, t=t, h=h)
        check_word("function", function, Function)
        check_word("norm", norm, NormMode)
        self.function: Function = function
        self.norm: NormMode = norm

    def requests(self, probe: Probe) -> list[Request]:
        ntk_images, curvature_images = self.counts(probe)
        return [
            Request("weight_gradients", self.norm, ntk_images, function=self.function),
            Request("gradient_change", self.norm, curvature_images, step=self.h),
        ]

    def terms(self, probe: Probe) -> RobustTerms:
        probe.plan([self])
        ntk_images, curvature_images = self.counts(probe)
        gradients = probe.weight_gradients(self.function, self.norm, ntk_images)
        norm = torch.nn.utils.get_total_norm(gradients.values()).item()
        ntk = norm * norm / (probe.params * ntk_images**2)
        change = probe.gradient_change("loss", self.norm, self.h, curvature_images) / self.h
        curvature = change.flatten(1).double().square().sum(1).mean().item()
        return RobustTerms(ntk, log_or_error(curvature, "the curvature"))


def log_robustness(
    proxy: Robust, network: nn.Module, images: Tensor, labels: Tensor, *, params: Tensor | None = None
) -> Tensor:
    """The score of ``proxy`` as a scalar through which gradients reach whatever the network's output depends on.

    The NTK is that of the parameters of ``network`` that require a gradient. What gradients shall reach, such as
    architecture weights, must not be among them. Inside ``torch.no_grad()`` only the value is computed.

    :param images: ``(N, C, H, W)`` in [0, 1], of which at most the proxy's numbers of images are taken from the start.
    :param labels: ``(N,)``
    :param params: ``()``, what the NTK's mean divides by in place of the number of these parameters: for a supernet,
        the number that a derived network is expected to have.
    :return: ``()``
    :raises ProxyError: the curvature is not a positive number.
    """
    graph = torch.is_grad_enabled()
    n = min(proxy.ntk_images or NTK_IMAGES, len(images))
    with norm_mode(network, proxy.norm), torch.enable_grad():
        forward: Callable[[Tensor], Tensor] = network
        if proxy.norm == "train":  # norm_mode restores the buffers; the graph needs those that the passes have written
            forward = partial(functional_call, network, {name: each.clone() for name, each in network.named_buffers()})
        logits = forward(images[:n])
        function = logits.sum() if proxy.function == "logits" else _loss(logits, labels[:n])
        weights = [each for each in network.parameters() if each.requires_grad]
        gradients = torch.autograd.grad(function, weights, create_graph=graph, materialize_grads=True)
        squares = torch.stack([each.square().sum() for each in gradients]).sum()
        ntk = squares / n**2 / (sum(each.numel() for each in weights) if params is None else params)
        with without_gradients(weights):
            curvature = _curvature(proxy, forward, images, labels, graph)
    log_or_error(curvature.item(), "the curvature")
    return -(proxy.t * ntk + curvature.log())


def _curvature(
    proxy: Robust, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, graph: bool
) -> Tensor:
    """``()``: the mean over images of ``||(l(x + h z) - l(x)) / h||_2^2``."""
    n = min(proxy.curvature_images or CURVATURE_IMAGES, len(images))

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(_loss(forward(x), labels[:n]), x, create_graph=graph, materialize_grads=True)[0]

    before = gradient(images[:n])
    sign = before.detach().sign()
    z = sign / sign.flatten(1).norm(dim=1).clamp_min(1.0).view(-1, 1, 1, 1)  # below 1 only if no pixel moves
    change = (gradient(images[:n] + proxy.h * z) - before) / proxy.h
    return change.flatten(1).square().sum(1).mean()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")
