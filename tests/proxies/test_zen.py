from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.zen import Zen
from tests.proxies.networks import darts_network, plain_cnn


def test_by_hand(linear_probe: Probe) -> None:
    """f(x) = W x and no batch norm: the change is 0.01 W x'."""
    generator = torch.Generator().manual_seed(7)
    weight, _, moves = (torch.randn(2, 2, dtype=torch.float64, generator=generator) for _ in range(3))
    changes = [sum(abs(row @ move).item() for row in weight) for move in moves]
    expected = math.log(0.01 * sum(changes) / 2)
    assert Zen(images=2, seed=7).score(linear_probe) == pytest.approx(expected, rel=1e-9)


def test_it_depends_on_the_shape_and_the_seed_only(images: Tensor, labels: Tensor) -> None:
    value = Zen().score(Probe(darts_network(seed=1), images, labels))
    assert Zen().score(Probe(darts_network(seed=2), 1 - images, labels)) == value
    assert Zen(seed=1).score(Probe(darts_network(seed=1), images, labels)) != value


def test_momentum_does_not_matter(images: Tensor, labels: Tensor) -> None:
    values = []
    for momentum in (0.1, 0.5, None):
        network = plain_cnn()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        values.append(Zen().score(Probe(network, images, labels)))
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_a_network_whose_features_do_not_change(images: Tensor, labels: Tensor) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x[:, :, 0, 0] * 0)

    with pytest.raises(ProxyError, match=r"the change of the features is 0.0, expected a positive number"):
        Zen().score(Probe(Constant(), images, labels))


def test_batch_norms_without_statistics(images: Tensor, labels: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()).double()
    with pytest.raises(ProxyError, match="the batch norm '1' keeps no running variance"):
        Zen().score(Probe(network, images, labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"step": 0.0}, "step must be a number above 0, got 0.0"),
        ({"seed": -1}, "seed must be from 0 to 2\\^63 - 1, got -1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Zen(**options)
