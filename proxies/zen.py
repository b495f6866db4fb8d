"""``zen``: how much the features of a network with random weights change when its input changes a little.

Lin, Wang, Sun, Chen, Sun, Qian, Li, Jin: "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021,
Algorithm 1:

    log mean_n ||f(x_n) - f(x_n + 0.01 x'_n)||_1 + sum over batch norms of log sqrt(mean_c sigma_c^2)

with f the features before the global pooling, x, x' ~ N(0, 1), weights ~ N(0, 1), biases 0, norms with weight 1 and
bias 0, sigma_c^2 the variance of channel c. The second term restores the scale that batch norms remove. The L1 norm is
a sum over channels and pixels, as in the authors' program.

Departures: sigma_c^2 is the (unbiased) variance of the batch x, as in the paper; the program reads a running average
that begins at one. By default 4 images and one repetition; the program takes 16 images and the mean of 32 repetitions.
Random numbers come from a generator of their own: the score depends only on the shapes of network and input and the
seed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxies.base import Probe, Proxy, ProxyError
from proxies.engine.checks import check_at_least, check_positive, check_seed, finite, log_or_error
from proxies.engine.drawn_weights import called_with, drawn_images, drawn_parameters, standard
from proxies.engine.features import outputs_of, pooled_module
from proxies.engine.modes import norm_mode


class Zen(Proxy):
    """Higher is better.

    :param images: number of random images in a repetition.
    :param repeats: how many times weights and images are drawn; the score is the mean.
    :param step: the factor of x', 0.01 in the paper.
    :param seed: of weights and images.
    """

    name = "zen"
    direction = "maximize"
    cost = "forward"

    def __init__(self, *, images: int = 4, repeats: int = 1, step: float = 0.01, seed: int = 0):
        check_at_least(1, images=images, repeats=repeats)
        check_seed(seed)
        check_positive(step=step)
        self.images = images
        self.repeats = repeats
        self.step = step
        self.seed = seed

    def score(self, probe: Probe) -> float:
        generator = torch.Generator().manual_seed(self.seed)
        with norm_mode(probe.network, "train"), torch.no_grad():
            scores = [self._once(probe, generator) for _ in range(self.repeats)]
        return finite(sum(scores) / self.repeats, "the score")

    def _once(self, probe: Probe, generator: torch.Generator) -> float:
        network = probe.network
        parameters = drawn_parameters(network, standard, generator)
        x, direction = (drawn_images(probe.images, self.images, generator) for _ in range(2))
        statistics = zero_statistics(network)
        with outputs_of([pooled_module(network)]) as features:
            called_with(network, {**parameters, **statistics}, x)
            variances = batch_variances(network, statistics)
            called_with(network, {**parameters, **zero_statistics(network)}, x + self.step * direction)
        if len(features) < 2:
            raise ProxyError("the network does not call the module whose output is pooled")
        change = (features[len(features) // 2 - 1] - features[-1]).flatten(1).abs().sum(1).double().mean().item()
        scale = sum(
            log_or_error(each.double().mean().item(), f"the variance in batch norm '{name}'") / 2
            for name, each in variances.items()
        )
        return log_or_error(change, "the change of the features") + scale


def zero_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Zeros by name, which take the place of the running statistics of the batch norms."""
    return {
        f"{name}.{buffer}" if name else buffer: torch.zeros_like(value)
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer, value in module.named_buffers(recurse=False)
    }


def batch_variances(network: nn.Module, statistics: dict[str, Tensor]) -> dict[str, Tensor]:
    """``(channels,)`` by name of each batch norm that was called: the variance of its batch.

    It is read from the running statistics, which were zero before the call.
    """
    variances = {}
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        prefix = f"{name}." if name else ""
        if f"{prefix}running_var" not in statistics:
            raise ProxyError(f"the batch norm '{name}' keeps no running variance")
        if statistics[f"{prefix}num_batches_tracked"].item() > 0:
            factor = 1.0 if module.momentum is None else module.momentum
            variances[name] = statistics[f"{prefix}running_var"] / factor
    return variances
