from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from proxies.base import Probe, ProxyError
from proxies.fisher import Fisher
from tests.proxies.networks import layers, linear_batch, plain_cnn, probe_of

Q = 1 / (1 + math.e)


def test_by_hand(linear_probe: Probe) -> None:
    """Logits (1/2, -1/2) and gradients of the mean loss q / 2 (-1, 1): -q / 4 for both channels and images."""
    assert Fisher().score(linear_probe) == pytest.approx(2 * (Q / 4) ** 2 / 2, rel=1e-12)
    assert Fisher(fan_in=True).score(linear_probe) == pytest.approx(2 * 2 * (Q / 4) ** 2 / 2, rel=1e-12)


def test_repeating_the_batch_divides_by_four() -> None:
    """Each image has half the part in the mean loss."""
    probe = probe_of(plain_cnn())
    twice = Probe(probe.network, torch.cat([probe.images] * 2), torch.cat([probe.labels] * 2))
    for norm in ("train", "eval"):
        once = Fisher(norm=norm, images=10).score(probe)  # type: ignore[arg-type]
        assert Fisher(norm=norm, images=20).score(twice) == pytest.approx(once / 4, rel=1e-9)  # type: ignore[arg-type]


def test_frozen_layers_do_not_count() -> None:
    network = plain_cnn()
    both, parts = Fisher().score(probe_of(network)), []
    for counts in range(3):
        for i, layer in enumerate(layers(network)):
            layer.requires_grad_(i == counts)
        parts.append(Fisher().score(probe_of(network)))
    assert sum(parts) == pytest.approx(both, rel=1e-12)
    network.requires_grad_(False)
    with pytest.raises(ProxyError, match="no parameter of the network requires a gradient"):
        Fisher().score(probe_of(network))


def test_calls_of_one_layer_add_up_before_squaring() -> None:
    """The same layer for both images' halves: twice the output, and twice the saliency."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False).double()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = images.flatten(1)
            summed: torch.Tensor = self.layer(x) / 2 + self.layer(x) / 2
            return summed

    twice = Twice()
    once = nn.Sequential(nn.Flatten(), twice.layer)
    expected = Fisher().score(Probe(once, *linear_batch()))
    assert Fisher().score(Probe(twice, *linear_batch())) == pytest.approx(expected, rel=1e-12)


def test_an_output_that_is_rectified_in_place() -> None:
    """Where a unit is off its gradient is zero, so the output may be overwritten."""
    values = []
    for inplace in (False, True):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(144, 3)]
        values.append(Fisher().score(probe_of(nn.Sequential(*layers).double())))
    assert values[0] == pytest.approx(values[1], rel=1e-12)
