"""``r_score``: how many activation patterns a network has, and how little its features change under a perturbation.

Yang, Zhu, Luo, Wong, Lin, Li: "TRNAS: A Training-Free Robust Neural Architecture Search", ICCV 2025, following the
authors' program:

* ``snap``: the number of distinct activation patterns. The pattern of one ReLU unit says for which of the images its
  output is positive (SWAP: Peng, Song, Fayek, Ciesielski, Chang, ICLR 2024). Weights ~ N(0, 1), biases 0, norms have
  weight 1 and bias 0 and use the statistics of the batch; mean over repetitions.
* ``con_js``: mean over the distinct features of 1 / (1 + JS(z, z_r)), JS the Jensen-Shannon divergence in nats of their
  softmax over images, channels and pixels; z and z_r as in CRoZe (:mod:`proxies.engine.perturbation`).
* ``r_score``: sqrt(n(log snap)) n(log con_js), n a linear map of the population's values to 1 ... 100.

``con_js`` follows the paper's description as a consistency of features. ``variant="program_mended"`` is the program's
sum over convolutions and linear layers of 1 / (1 + JS) of the features times 1 / (1 + JS) of the weights, with 1e-8
added to each probability and the divergences taken from the mixture, (KL(m, p) + KL(m, q)) / 2; it grows with the
number of layers. Mended is which features belong to a layer: those of its own block. The published program counts
cells to find them, but of another class than the cells of the network that it scores, so it finds none: it compares
the input image with the moved image for every convolution, and the features of the first block for the classifier. That
orders networks otherwise, and is not offered (docs/proxies.md says how far the two agree).

Departures: the program standardises its images, and still clips the moved ones to [0, 1]; here both are in [0, 1]. It
multiplies activations by 1 + 0.05 N(0, 1) before it takes their signs, which in practice changes no sign; that is left
out. It repeats ``snap`` 32 times, which would cost more than all other proxies together; the default here is once. Its
networks have no stem and 3 channels; here a network is scored as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.engine.checks import check_at_least, check_seed, check_word, finite
from proxies.engine.drawn_weights import called_with, drawn_parameters, standard
from proxies.engine.first_images import FirstImagesProxy
from proxies.engine.hooks import NO_RELU
from proxies.engine.modes import norm_mode
from proxies.engine.perturbation import BETA, EPSILON, PerturbationProxy, Side
from proxies.population import PopulationProxy, Scores

ConJsVariant = Literal["paper", "program_mended"]

MAX_IMAGES = 62  # a pattern is one integer, with a bit for each image
TABLE_IMAGES = 20  # up to so many images a table of all patterns is small
LOWEST, HIGHEST = 1.0, 100.0  # from the program: a least value of zero would make the product zero


class Snap(FirstImagesProxy):
    """Higher is better.

    :param images: images from the start of the probe's batch; by default 16, or all where it holds fewer.
    :param repeats: how many times weights are drawn; the score is the mean count.
    :param seed: of the weights.
    """

    name = "snap"
    direction = "maximize"
    cost = "forward"
    default_images = 16  # published

    def __init__(self, *, images: int | None = None, repeats: int = 1, seed: int = 0):
        super().__init__(images)
        check_at_least(1, repeats=repeats)
        if images is not None and images > MAX_IMAGES:
            raise ValueError(f"images must be at most {MAX_IMAGES}, got {images}")
        check_seed(seed)
        self.repeats = repeats
        self.seed = seed

    def score(self, probe: Probe) -> float:
        generator = torch.Generator().manual_seed(self.seed)
        network, (x, _) = probe.network, probe.first(self.images, self.default_images)
        with norm_mode(network, "train"), torch.no_grad():
            counts = [
                distinct_patterns(network, drawn_parameters(network, standard, generator), x)
                for _ in range(self.repeats)
            ]
        return sum(counts) / self.repeats


class ConJs(PerturbationProxy):
    """Higher is better; at most 1, except for the mended program's variant.

    :param variant: what the paper describes, or what the program computes with its error mended.
    """

    name = "con_js"

    def __init__(
        self,
        *,
        images: int | None = None,
        beta: float = BETA,
        epsilon: float = EPSILON,
        variant: ConJsVariant = "paper",
    ):
        check_word("variant", variant, ConJsVariant)
        super().__init__(
            images=images, beta=beta, epsilon=epsilon, variant="paper" if variant == "paper" else "program"
        )
        self.variant: ConJsVariant = variant

    def score(self, probe: Probe) -> float:
        clean, copy = self.perturbation.sides(probe)
        if self.variant == "program_mended":
            return finite(sum(program_term(name, clean, copy) for name in clean.features), "the consistency")
        pairs = {clean.features[name]: copy.features[name] for name in clean.features}  # one for each block
        terms = [1 / (1 + jensen_shannon(*pair)) for pair in pairs.items()]
        return finite(sum(terms) / len(terms), "the consistency")


class RScore(PopulationProxy):
    """Higher is better, from 1 to 1000. Where all networks have the same value of a component, its n is 1.

    :param repeats: of ``snap``; 32 in the paper. :param seed: of its weights.
    :param variant: of ``con_js``.
    """

    name = "r_score"
    direction = "maximize"

    def __init__(self, *, repeats: int = 1, seed: int = 0, variant: ConJsVariant = "paper"):
        self.components = (Snap(repeats=repeats, seed=seed), ConJs(variant=variant))

    def _combined(self, columns: Mapping[str, Scores]) -> Scores:
        snap, con_js = (scaled_logarithm(columns[each.name], each.name) for each in self.components)
        return np.asarray(np.sqrt(snap) * con_js)


def scaled_logarithm(values: Scores, name: str) -> Scores:
    """``(n,)``: the logarithms, mapped linearly to 1 ... 100."""
    if (values <= 0).any():
        raise ProxyError(f"{name} of network {int(np.argmin(values))} is {values.min()}, expected a positive number")
    logarithms = np.log(values)
    lowest, spread = logarithms.min(), np.ptp(logarithms)
    if spread == 0:
        return np.full_like(values, LOWEST)
    return np.asarray(LOWEST + (HIGHEST - LOWEST) * (logarithms - lowest) / spread)


def distinct_patterns(network: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> int:
    """How many distinct patterns over the images the outputs of the network's ReLU modules have, with these weights."""
    patterns = Patterns(len(x))
    handles = [
        module.register_forward_hook(patterns.hear)
        for module in network.modules()
        if isinstance(module, nn.ReLU | nn.ReLU6)
    ]
    try:
        called_with(network, parameters, x)
    finally:
        for handle in handles:
            handle.remove()
    return patterns.count()


class Patterns:
    """The distinct patterns found so far, of ``images`` images each."""

    def __init__(self, images: int):
        self._images = images
        self._seen: Tensor | None = None  # a table, or the patterns themselves

    def hear(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """A forward hook that adds the patterns in a ReLU's output ``(N, ...)``."""
        on = output > 0
        codes = torch.zeros_like(on[0], dtype=torch.int32 if self._images <= TABLE_IMAGES else torch.int64)
        for image in range(self._images):
            codes.add_(on[image], alpha=1 << image)
        codes = codes.flatten().long()
        if self._images <= TABLE_IMAGES:
            if self._seen is None:
                self._seen = torch.zeros(1 << self._images, dtype=torch.bool, device=on.device)
            self._seen[codes] = True
        else:
            known = [codes] if self._seen is None else [self._seen, codes]
            self._seen = torch.unique(torch.cat(known))

    def count(self) -> int:
        """How many distinct patterns were found.

        :raises ProxyError: no ReLU module was called.
        """
        if self._seen is None:
            raise ProxyError(NO_RELU)
        return int(self._seen.sum().item()) if self._images <= TABLE_IMAGES else len(self._seen)


def jensen_shannon(a: Tensor, b: Tensor) -> float:
    """The Jensen-Shannon divergence of the softmax of the flattened tensors, in nats."""
    p, q = (each.flatten().softmax(0) for each in (a, b))
    m = ((p + q) / 2).clamp_min_(torch.finfo(p.dtype).tiny)  # where both are zero, their terms are zero
    found = (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).double().sum().item() / 2
    return max(found, 0.0) if math.isfinite(found) else found  # rounding may make it negative


def program_term(layer: str, clean: Side, copy: Side) -> float:
    """One layer's product in the mended program's variant."""
    weights = from_mixture(clean.weights[layer], copy.weights[layer])
    features = from_mixture(clean.features[layer], copy.features[layer])
    return 1 / ((1 + weights) * (1 + features))


def from_mixture(a: Tensor, b: Tensor) -> float:
    """(KL(m, p) + KL(m, q)) / 2 of the softmax of the flattened tensors, 1e-8 added to each probability."""
    p, q = (each.flatten().softmax(0) + 1e-8 for each in (a, b))
    m = (p + q) / 2
    return (m * (2 * m.log() - p.log() - q.log())).sum().item() / 2
