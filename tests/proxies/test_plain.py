from __future__ import annotations

import math

import pytest
import torch

from proxies.base import Probe
from proxies.plain import Plain
from tests.proxies.networks import (
    layers,
    linear_batch,
    linear_network,
    plain_cnn,
    probe_of,
)

Q = 1 / (1 + math.e)


def test_by_hand(linear_probe: Probe) -> None:
    """The mean gradient is q / 2 times ((-1, -1), (1, 1)), W = ((1, 0), (-1, 0)): -q / 2 twice."""
    assert Plain().score(linear_probe) == pytest.approx(-Q, rel=1e-12)


def test_signs_cancel() -> None:
    """With the sign of a row turned, the loss no longer depends on the scale of the weights at first order."""
    network = linear_network()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))  # logits are equal: q = 1 / 2
    assert Plain().score(Probe(network, *linear_batch())) == pytest.approx(0, abs=1e-12)


def test_layers_before_a_batch_norm_add_next_to_nothing() -> None:
    """Their scale has no influence but through the norm's epsilon."""
    network = plain_cnn()
    whole = Plain().score(probe_of(network))
    for layer in layers(network)[:-1]:
        layer.requires_grad_(False)
    assert Plain().score(probe_of(network)) == pytest.approx(whole, rel=1e-2)
