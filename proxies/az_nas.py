"""``az_nas``: four proxies, combined by the ranks that they give the networks of a population.

Lee, Ham: "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024. Weights are drawn anew
(Kaiming, fan-in), images are N(0, 1), batch norms use the statistics of the batch. From the features of each block,
``(N, C, H, W)``, one pass computes:

* ``az_expressivity``: sum over blocks of the entropy -sum_i p_i log(p_i + 1e-8), p the eigenvalues of the covariance
  of the channels over images and pixels, divided by their sum.
* ``az_progressivity``: the least increase of that entropy from one block to the next.
* ``az_trainability``: mean over the blocks after the first of 2 - sigma - 1 / (sigma + 1e-6). sigma is the largest
  singular value of A = mean of g_in g_out^T over images and pixels, where g_out are random signs at the block's output
  and g_in is their gradient at its input. Where the block lowers the resolution, the pixels of g_in that belong to one
  output pixel are taken as further channels. A estimates the transposed Jacobian of the block; with sigma = 1 the block
  neither enlarges nor shrinks gradients.
* ``az_complexity``: multiply-accumulates.
* ``az_nas``: sum of log(rank / n) over the four; rank n is the best of n networks, and equal scores share their mean
  rank.

Blocks are the stem and the cells of this project's networks; :mod:`proxies.engine.features` has the rule for others.

Departures: eigenvalues below zero, which are rounding errors, count as zero; in the program their logarithm is not a
number and the score -inf, for most DARTS cells in float32. Random numbers come from a generator of their own. Where the
resolution of a block's input is no multiple of that of its output, it is padded with zeros. For a block without
variance, and for one that returns its input unchanged, the program gives -inf, and there is an error here. By default 8
images, fewer than in a published batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from proxies.base import Probe, Proxy, ProxyError
from proxies.engine.checks import check_at_least, check_seed, finite
from proxies.engine.drawn_weights import called_with, drawn_images, drawn_parameters, kaiming
from proxies.engine.features import named_blocks, outputs_of
from proxies.engine.modes import frozen, norm_mode
from proxies.population import PopulationProxy, Scores


@dataclass(frozen=True)
class BlockStatistics:
    """``entropies`` of the features of each block; ``singular_values``, sigma of each block after the first."""

    entropies: tuple[float, ...]
    singular_values: tuple[float, ...]


class BlockProxy(Proxy):
    """A component that looks at the blocks. For one probe, all of them share one pass.

    :param images: number of random images.
    :param seed: of weights, images and signs.
    :param modules: names of the modules whose outputs are those of the blocks, in order; by default found by the rule.
    """

    cost = "backward"
    direction = "maximize"
    least_blocks = 1

    def __init__(self, *, images: int = 8, seed: int = 0, modules: Sequence[str] | None = None):
        check_at_least(1, images=images)
        check_seed(seed)
        self.images = images
        self.seed = seed
        self.modules = None if modules is None else tuple(modules)

    def statistics(self, probe: Probe) -> BlockStatistics:
        """The statistics of the blocks.

        :raises ProxyError: there are too few blocks.
        """
        found = probe.once(
            ("az_nas", self.images, self.seed, self.modules),
            lambda: block_statistics(probe, self.images, self.seed, self.modules),
        )
        if len(found.entropies) < self.least_blocks:
            raise ProxyError(f"{self.name} compares blocks: expected at least 2, got {len(found.entropies)}")
        return found


class AzExpressivity(BlockProxy):
    """Higher is better."""

    name = "az_expressivity"

    def score(self, probe: Probe) -> float:
        return finite(sum(self.statistics(probe).entropies), "the entropy")


class AzProgressivity(BlockProxy):
    """Higher is better."""

    name = "az_progressivity"
    least_blocks = 2

    def score(self, probe: Probe) -> float:
        return finite(float(np.diff(self.statistics(probe).entropies).min()), "the increase of the entropy")


class AzTrainability(BlockProxy):
    """Higher is better; at most 0, apart from the effect of the constant in the denominator."""

    name = "az_trainability"
    least_blocks = 2

    def score(self, probe: Probe) -> float:
        terms = [2 - sigma - 1 / (sigma + 1e-6) for sigma in self.statistics(probe).singular_values]
        return finite(float(np.mean(terms)), "the trainability")


class AzComplexity(Proxy):
    """Multiply-accumulates of convolutions and linear layers for one image; more is better."""

    name = "az_complexity"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(probe.macs)


class AzNas(PopulationProxy):
    """Sum of log(rank / n) of the four; higher is better, 0 for a network that is the best by all four.

    The options are those of the components.
    """

    name = "az_nas"
    direction = "maximize"

    def __init__(self, *, images: int = 8, seed: int = 0, modules: Sequence[str] | None = None):
        self.components = (
            AzExpressivity(images=images, seed=seed, modules=modules),
            AzProgressivity(images=images, seed=seed, modules=modules),
            AzTrainability(images=images, seed=seed, modules=modules),
            AzComplexity(),
        )

    def _combined(self, columns: Mapping[str, Scores]) -> Scores:
        signed = [columns[each.name] * (1 if each.direction == "maximize" else -1) for each in self.components]
        return np.asarray(np.sum([np.log(rankdata(column) / len(column)) for column in signed], axis=0))


def block_statistics(probe: Probe, images: int, seed: int, modules: Sequence[str] | None) -> BlockStatistics:
    """Both kinds of statistics, from one forward pass and a backward pass through each block."""
    network, generator = probe.network, torch.Generator().manual_seed(seed)
    parameters = drawn_parameters(network, kaiming, generator)
    x = drawn_images(probe.images, images, generator).requires_grad_()
    ends = [block.end for block in named_blocks(network, modules)]
    with norm_mode(network, "train"), frozen(network), torch.enable_grad():
        with outputs_of(ends) as features:
            called_with(network, parameters, x)
        entropies = [entropy(each.detach(), i) for i, each in enumerate(features)]
        sigmas = [singular_value(features[i - 1], features[i], i, generator) for i in range(1, len(features))]
    return BlockStatistics(tuple(entropies), tuple(sigmas))


def rows(features: Tensor) -> Tensor:
    """``(N, C, H, W)`` or ``(N, C)`` -> ``(N H W, C)``."""
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def entropy(features: Tensor, block: int) -> float:
    """The entropy of the normalised eigenvalues of the channels' covariance, in nats."""
    centred = rows(features)
    centred = centred - centred.mean(0)
    eigenvalues = torch.linalg.eigvalsh(centred.t() @ centred / len(centred)).double().clamp_min(0)
    total = finite(eigenvalues.sum().item(), f"the variance of block {block}")
    if total <= 0:
        raise ProxyError(f"the variance of block {block} is {total}, expected a positive number")
    p = eigenvalues / total
    return float(-(p * (p + 1e-8).log()).sum().item())


def singular_value(before: Tensor, after: Tensor, block: int, generator: torch.Generator) -> float:
    """The largest singular value of the block's estimated Jacobian, from the features before to those after it."""
    drawn = torch.randint(2, after.shape, generator=generator, dtype=torch.int8, device="cpu")
    if after.ndim == 4 and after.is_contiguous(memory_format=torch.channels_last):
        drawn = drawn.contiguous(memory_format=torch.channels_last)  # faster as bytes than as floats
    signs = drawn.to(after).mul_(2).sub_(1)
    (arriving,) = torch.autograd.grad(after, before, signs, retain_graph=True, materialize_grads=True)
    if torch.equal(arriving, signs):
        raise ProxyError(f"block {block} returns its input unchanged, so its trainability is undefined")
    outputs = rows(signs)
    inputs = rows(folded_to(arriving, after, block))
    product = inputs.t() @ outputs / len(outputs)
    gram = product @ product.t() if product.shape[0] <= product.shape[1] else product.t() @ product
    return finite(torch.linalg.eigvalsh(finite_matrix(gram, block))[-1].clamp_min(0).sqrt().item(), "sigma")


def finite_matrix(matrix: Tensor, block: int) -> Tensor:
    """The matrix, if all its entries are finite, as LAPACK requires."""
    finite(matrix.sum().item(), f"the gradient of block {block}")
    return matrix


def folded_to(gradient: Tensor, like: Tensor, block: int) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C s t, H', W')`` at the resolution of ``like``: s t pixels become channels."""
    gradient, like = (each[..., None, None] if each.ndim == 2 else each for each in (gradient, like))
    if gradient.ndim != 4 or like.ndim != 4:
        raise ProxyError(
            f"block {block} has features of {gradient.ndim} and {like.ndim} dimensions, expected (N, C, H, W)"
        )
    (h, w), (h_out, w_out) = gradient.shape[2:], like.shape[2:]
    if h < h_out or w < w_out:
        raise ProxyError(f"block {block} raises the resolution from {h}x{w} to {h_out}x{w_out}")
    s, t = -(-h // h_out), -(-w // w_out)
    padded = F.pad(gradient, (0, w_out * t - w, 0, h_out * s - h))
    split = padded.reshape(*gradient.shape[:2], h_out, s, w_out, t)
    return split.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
