from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from proxies.base import Probe, ProxyError
from proxies.l2_norm import L2Norm
from tests.proxies.networks import plain_cnn, probe_of


def test_by_hand(linear_probe: Probe) -> None:
    assert L2Norm().score(linear_probe) == pytest.approx(math.sqrt(2), rel=1e-12)


def test_frozen_weights_count_and_other_parameters_do_not() -> None:
    network = plain_cnn()
    value = L2Norm().score(probe_of(network))
    network.requires_grad_(False)
    network[1].weight.fill_(9.0)  # type: ignore[index, union-attr, operator]
    network[0].bias.fill_(9.0)  # type: ignore[index, union-attr, operator]
    assert L2Norm().score(probe_of(network)) == value


def test_a_network_without_layers() -> None:
    with pytest.raises(ProxyError, match="the network has no convolution or linear layer"):
        L2Norm().score(Probe(nn.Flatten(), torch.rand(2, 1, 1, 2), torch.tensor([0, 1])))
