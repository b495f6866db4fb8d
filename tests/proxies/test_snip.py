from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from proxies.base import Probe
from proxies.snip import Snip
from tests.proxies.networks import linear_batch, plain_cnn, probe_of

Q = 1 / (1 + math.e)


def test_by_hand(linear_probe: Probe) -> None:
    """The mean gradient is q / 2 times ((-1, -1), (1, 1)), W = ((1, 0), (-1, 0)): saliencies q / 2, 0, q / 2, 0."""
    assert Snip().score(linear_probe) == pytest.approx(Q, rel=1e-12)


def test_signs_do_not_cancel() -> None:
    """f(x) = (w . x, 0) with w = (3, -2), x = (1, 1): saliencies 3 q and 2 q, where w . dL/dw would be q."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[3.0, -2.0], [0.0, 0.0]]))
        network[1].bias.zero_()
    probe = Probe(network, torch.ones(1, 1, 1, 2, dtype=torch.float64), torch.tensor([0]))
    assert Snip().score(probe) == pytest.approx(5 * Q, rel=1e-12)


def test_repeating_the_batch_changes_nothing() -> None:
    network = plain_cnn()
    probe = probe_of(network)
    twice = Probe(network, torch.cat([probe.images] * 2), torch.cat([probe.labels] * 2))
    for norm in ("train", "eval"):
        once = Snip(norm=norm, images=10).score(probe)  # type: ignore[arg-type]
        assert Snip(norm=norm, images=20).score(twice) == pytest.approx(once, rel=1e-9)  # type: ignore[arg-type]


def test_frozen_layers_do_not_count() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 2)).double()
    both = Snip().score(Probe(network, *linear_batch()))
    parts = []
    for layer in (1, 2):
        network.requires_grad_(True)
        network[layer].requires_grad_(False)
        parts.append(Snip().score(Probe(network, *linear_batch())))
    assert sum(parts) == pytest.approx(both, rel=1e-12)


def test_an_unknown_mode_of_batch_norms() -> None:
    with pytest.raises(ValueError, match="norm must be eval or train, got 'batch'"):
        Snip(norm="batch")  # type: ignore[arg-type]
