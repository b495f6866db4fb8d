"""``croze``: how alike a network and its perturbed copy are in features, weights and gradients.

Ha, Kim, Hwang: "Generalizable Lightweight Proxy for Robust NAS against Diverse Perturbations", NeurIPS 2023:

    sum over layers of |(1 + cos(z, z_r)) (1 + cos(W, W_r)) |cos(g, g_r)||

with W the weights of a convolution or linear layer, g the gradient of the loss in them, z the features of the block
that holds the layer; W_r, g_r, z_r those of the copy, on the images moved against it
(:mod:`proxies.engine.perturbation`). A cosine with a vector of zeros is zero.

``variant="program"`` is what the authors' program computes: besides what :mod:`proxies.engine.perturbation` names, it
takes each cosine along the first axis only (over output channels, over images) and sums over all others, so that large
layers and features weigh more.

Departures: weights are compared where the copy has them, before any training step. Batch norms use their running
statistics (the program bypasses them, which at initialisation is the same but for the norm's epsilon). By default 2
images of the batch, to be cheap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxies.base import Probe, Proxy
from proxies.engine.perturbation import BETA, EPSILON, Perturbation, Variant
from proxies.robust import finite


class Croze(Proxy):
    """Higher is better; the options are :class:`~proxies.engine.perturbation.Perturbation`'s."""

    name = "croze"
    direction = "maximize"
    cost = "backward"

    def __init__(
        self, *, images: int | None = None, beta: float = BETA, epsilon: float = EPSILON, variant: Variant = "paper"
    ):
        self.perturbation = Perturbation(images=images, beta=beta, epsilon=epsilon, variant=variant)

    def score(self, probe: Probe) -> float:
        clean, copy = self.perturbation.sides(probe)
        cosines = whole_cosine if self.perturbation.variant == "paper" else cosines_along_first_axis
        alike: dict[Tensor, float] = {}  # layers of one block share their features
        total = 0.0
        for layer, features in clean.features.items():
            if features not in alike:
                alike[features] = (1 + cosines(features, copy.features[layer])).double().sum().item()
            weights = (1 + cosines(clean.weights[layer], copy.weights[layer])).double().sum().item()
            gradients = cosines(clean.gradients[layer], copy.gradients[layer]).abs().double().sum().item()
            total += abs(alike[features] * weights * gradients)
        return finite(total, "the consistency")


def whole_cosine(a: Tensor, b: Tensor) -> Tensor:
    """``()``: of two tensors of any shape and scale; zero where one of them is."""
    a, b = a.double(), b.double()  # squares neither overflow nor vanish
    lengths = (a.norm() * b.norm()).clamp_min(torch.finfo(torch.float64).tiny)
    cosine: Tensor = (a * b).sum() / lengths
    return cosine


def cosines_along_first_axis(a: Tensor, b: Tensor) -> Tensor:
    """``(N, ...)`` -> ``(...)``."""
    cosines: Tensor = F.cosine_similarity(a, b, dim=0)
    return cosines
