from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from proxies.base import Probe
from proxies.grad_norm import GradNorm
from tests.proxies.networks import linear_batch, plain_cnn, probe_of

Q = 1 / (1 + math.e)


def test_by_hand(linear_probe: Probe) -> None:
    """The mean gradient is q / 2 times (-s, s), s = x_1 + x_2 = (1, 1)."""
    assert GradNorm().score(linear_probe) == pytest.approx(Q, rel=1e-12)


def test_layers_add_up_and_biases_do_not_count() -> None:
    """Two layers of one weight each, f(x) = (v w x, 0) with w = 2, v = 1/2, x = 1 and a bias of zero."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        network[0].weight.fill_(2.0)
        network[0].bias.zero_()
        network[2].weight.copy_(torch.tensor([[0.5], [0.0]]))
        network[2].bias.zero_()
    probe = Probe(network, torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([0]))
    in_conv, in_linear = 0.5 * Q, math.sqrt(2) * 2 * Q  # dL/dlogits = (-q, q)
    assert GradNorm().score(probe) == pytest.approx(in_conv + in_linear, rel=1e-12)


def test_repeating_the_batch_changes_nothing() -> None:
    network = plain_cnn()
    probe = probe_of(network)
    twice = Probe(network, torch.cat([probe.images] * 2), torch.cat([probe.labels] * 2))
    for norm in ("train", "eval"):
        once = GradNorm(norm=norm, images=10).score(probe)  # type: ignore[arg-type]
        assert GradNorm(norm=norm, images=20).score(twice) == pytest.approx(once, rel=1e-9)  # type: ignore[arg-type]


def test_frozen_layers_do_not_count() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 2)).double()
    both = GradNorm().score(Probe(network, *linear_batch()))
    parts = []
    for layer in (1, 2):
        network.requires_grad_(True)
        network[layer].requires_grad_(False)
        parts.append(GradNorm().score(Probe(network, *linear_batch())))
    assert sum(parts) == pytest.approx(both, rel=1e-12)


def test_an_unknown_mode_of_batch_norms() -> None:
    with pytest.raises(ValueError, match="norm must be eval or train, got 'batch'"):
        GradNorm(norm="batch")  # type: ignore[arg-type]
