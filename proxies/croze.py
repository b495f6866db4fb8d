"""``croze``: how similar a network and its perturbed copy are in features, weights and gradients.

Ha, Kim, Hwang: "Generalizable Lightweight Proxy for Robust NAS against Diverse Perturbations", NeurIPS 2023:

    sum over layers of |(1 + cos(z, z_r)) (1 + cos(W, W_r)) |cos(g, g_r)||

with W the weights of a convolution or linear layer, g the gradient of the loss with respect to them, z the features of
the block that contains the layer; W_r, g_r, z_r are those of the copy on the moved images
(:mod:`proxies.engine.perturbation`). A cosine with a vector of zeros is zero.

``variant="program"`` is what the authors' program computes; the default orders networks otherwise, as the paper does
(docs/proxies.md says how far the two agree). Besides the points listed in
:mod:`proxies.engine.perturbation`, it takes each cosine along the first axis only (output channels of weights, images
of features) and sums over all other axes, so that large layers and features have a larger share.

Departures: the copy's weights are compared as they are after the perturbation, before any training step. Batch norms
use their running statistics (the program bypasses them, which at initialisation is the same but for the norm's
epsilon). By default 2 images of the batch, to keep the cost low.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxies.base import Probe
from proxies.engine.checks import finite
from proxies.engine.perturbation import PerturbationProxy


class Croze(PerturbationProxy):
    """Higher is better."""

    name = "croze"

    def score(self, probe: Probe) -> float:
        clean, copy = self.perturbation.sides(probe)
        cosines = whole_cosine if self.perturbation.variant == "paper" else cosines_along_first_axis
        alike: dict[Tensor, float] = {}  # by features, which layers of one block share
        total = 0.0
        for layer, features in clean.features.items():
            if features not in alike:
                alike[features] = (1 + cosines(features, copy.features[layer])).double().sum().item()
            weights = (1 + cosines(clean.weights[layer], copy.weights[layer])).double().sum().item()
            gradients = cosines(clean.gradients[layer], copy.gradients[layer]).abs().double().sum().item()
            total += abs(alike[features] * weights * gradients)
        return finite(total, "the consistency")


def whole_cosine(a: Tensor, b: Tensor) -> Tensor:
    """``()``: the cosine of two tensors of one shape, of any scale; zero where one of them is zero."""
    a, b = a.double(), b.double()  # squares neither overflow nor vanish
    lengths = (a.norm() * b.norm()).clamp_min(torch.finfo(torch.float64).tiny)
    cosine: Tensor = (a * b).sum() / lengths
    return cosine


def cosines_along_first_axis(a: Tensor, b: Tensor) -> Tensor:
    """``(N, ...)`` twice -> ``(...)``."""
    cosines: Tensor = F.cosine_similarity(a, b, dim=0)
    return cosines
