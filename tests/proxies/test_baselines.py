from __future__ import annotations

import pytest
import torch
from torch import nn

from proxies.base import Probe
from proxies.baselines import ConvCount, Macs, Params
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from tests.proxies.networks import CLASSES, SIZE, darts_network, plain_cnn, probe_of


def test_numbers_of_a_network_that_one_can_count() -> None:
    probe = probe_of(plain_cnn())
    weights = 4 * 3 * 9, 6 * 2 * 9, 3 * 6
    assert Params().score(probe) == sum(weights) + (4 + 2 * 4) + (6 + 2 * 6) + 3  # biases, batch norms
    assert Macs().score(probe) == 64 * weights[0] + 4 * weights[1] + weights[2]  # 8x8, 2x2 pixels, one
    assert ConvCount().score(probe) == 3


@pytest.mark.parametrize("cell", ["ROBUST_ZCP", "DARTS_V2"])
def test_numbers_of_a_cell_network_are_those_of_its_space(cell: str) -> None:
    space = get_space("darts")
    cost = space.cost(space.parse(cell), NetworkSpec(channels=4, layers=3, classes=CLASSES, image_size=SIZE))
    probe = probe_of(darts_network(cell))
    assert (Params().score(probe), Macs().score(probe)) == (cost.params, cost.macs)


def test_frozen_parameters_are_not_counted() -> None:
    network = plain_cnn()
    everything, macs = Params().score(probe_of(network)), Macs().score(probe_of(network))
    network[0].weight.requires_grad_(False)  # type: ignore[index,union-attr,operator]
    assert Params().score(probe_of(network)) == everything - 4 * 3 * 9
    assert Macs().score(probe_of(network)) == macs


def test_macs_are_those_of_one_image_whatever_the_batch() -> None:
    network = plain_cnn()
    probe = probe_of(network)
    assert Macs().score(Probe(network, probe.images[:1], probe.labels[:1])) == Macs().score(probe)


def test_counts_that_are_known_need_no_network() -> None:
    def build() -> nn.Module:
        raise AssertionError("built")

    probe = Probe(build, torch.rand(1, 3, 8, 8), torch.tensor([0]), counted={"params": 5, "macs": 7})
    assert (Params().score(probe), Macs().score(probe)) == (5, 7)
