from __future__ import annotations

import math

import pytest
import torch

from proxies.base import Probe, ProxyError
from proxies.grasp import Grasp
from tests.proxies.networks import darts_network, layers, literal, plain_cnn, probe_of

Q = 1 / (1 + math.e)


def test_by_hand(linear_probe: Probe) -> None:
    """g = q / 2 (-s, s), s = (1, 1), so along g the margins change by -q / 2 and -3 q / 2.

    H g = q (1 - q) / 2 (-q / 2 x_1 - 3 q / 2 x_2) = -q^2 (1 - q) / 2 (1, 3 / 2) in the first row, its opposite in the
    second, and W = ((1, 0), (-1, 0)).
    """
    assert Grasp().score(linear_probe) == pytest.approx(Q**2 * (1 - Q), rel=1e-12)


@pytest.mark.parametrize("cell", ["ROBUST_ZCP", "DARTS_V2", "CROZE", "NASNET"])
@pytest.mark.parametrize("norm", ["train", "eval"])
def test_fast_networks_are_exact(cell: str, norm: str) -> None:
    """Their own gradients, differentiated, against torch's."""
    network = darts_network(cell)
    expected = Grasp(norm=norm).score(probe_of(literal(network, norm)))  # type: ignore[arg-type]
    assert Grasp(norm=norm).score(probe_of(network)) == pytest.approx(expected, rel=1e-9)  # type: ignore[arg-type]


def test_frozen_layers_enter_neither_gradient_nor_hessian() -> None:
    network = plain_cnn()
    whole = Grasp().score(probe_of(network))
    layers(network)[0].requires_grad_(False)
    assert Grasp().score(probe_of(network)) != pytest.approx(whole, rel=1e-3)
    network.requires_grad_(False)
    with pytest.raises(ProxyError, match="no weight of a convolution or linear layer requires a gradient"):
        Grasp().score(probe_of(network))


def test_a_loss_without_curvature_has_the_value_zero() -> None:
    """One class: the loss is zero whatever the weights are."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1)).double()
    probe = Probe(network, torch.rand(3, 1, 1, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))
    assert Grasp().score(probe) == 0
