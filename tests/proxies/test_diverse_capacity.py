from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.diverse_capacity import DiverseCapacity
from tests.proxies.networks import plain_cnn


def score(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return DiverseCapacity().score(Probe(network, images, labels))


def opposite_codes() -> nn.Module:
    """Of two images with one pixel each, +1 and -1, every ReLU is on for one and off for the other."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0], [-1.0, 0.0], [-2.0, 0.5]]))
        network[3].weight.copy_(torch.tensor([[1.0, 0.3, 0.2, 0.9], [0.0, 0.5, 0.1, 0.4]]))
    return network


def test_by_hand() -> None:
    """Codes of two images that differ everywhere: K = 4 I. Two pixels: the correlation of the gradients is 1 or -1."""
    images = torch.tensor([[[[1.0, 0.0]]], [[[-1.0, 0.0]]]], dtype=torch.float64)
    k = 1e-5
    divergence = (math.log(2 + k) + 1 / (2 + k) + math.log(k) + 1 / k) / 2 - 1
    expected = math.log(16) + math.log(2) + math.log(4) - divergence
    assert score(opposite_codes(), images, torch.tensor([0, 1])) == pytest.approx(expected, rel=1e-6)


def test_images_of_equal_codes(images: Tensor, labels: Tensor) -> None:
    twice = images.clone()
    twice[1] = twice[0]
    with pytest.raises(ProxyError, match="2 of 10 images share all ReLU codes with another"):
        score(plain_cnn(), twice, labels)


def test_a_single_image(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ProxyError, match="a single image: expected at least 2 images a batch"):
        score(plain_cnn(), images[:1], labels[:1])
    with pytest.raises(ValueError, match="images must be at least 2, got 1"):
        DiverseCapacity(images=1)
