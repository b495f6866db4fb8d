from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from proxies.base import Probe, ProxyError
from proxies.zico import Zico, ratios
from tests.proxies.networks import plain_cnn, probe_of


def test_by_hand(linear_probe: Probe) -> None:
    """g_1 = q (-x_1, x_1), g_2 = q (-x_2, x_2): they agree on the first column and the second adds 1 for each row."""
    assert Zico().score(linear_probe) == pytest.approx(math.log(2), rel=1e-12)


def test_ratios_of_mean_and_deviation() -> None:
    first, second = torch.tensor([1.0, 1.0, 2.0, 0.0, 0.0]), torch.tensor([3.0, -3.0, 2.0, 0.0, 4.0])
    assert ratios(first, second, absolute=False).tolist() == [2.0, 1.0, 1.0]
    assert ratios(first, second, absolute=True).tolist() == [2.0, 2.0, 1.0]


def test_batches_that_agree_have_no_value() -> None:
    probe = probe_of(plain_cnn())
    twice = Probe(probe.network, probe.images[:3].repeat(2, 1, 1, 1), probe.labels[:3].repeat(2))
    with pytest.raises(ProxyError, match="no gradient of a convolution or linear layer differs between two batches"):
        Zico().score(twice)


def test_of_an_odd_number_the_last_is_not_used(images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    assert Zico(images=7).score(Probe(network, images, labels)) == Zico(images=6).score(Probe(network, images, labels))


def test_a_single_image(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ProxyError, match="two batches take at least 2 images, got 1"):
        Zico().score(Probe(plain_cnn(), images[:1], labels[:1]))
    with pytest.raises(ValueError, match="images must be at least 2, got 1"):
        Zico(images=1)
