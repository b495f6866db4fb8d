from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.naswot import Naswot
from tests.proxies.networks import linear_batch, plain_cnn


def identity(units: int) -> nn.Sequential:
    """Its codes are which of the pixels are positive."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(units, units, bias=False), nn.ReLU(), nn.Linear(units, 2)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(units))
    return network


def test_by_hand() -> None:
    """Codes (1, 0) and (1, 1): K = ((2, 1), (1, 2))."""
    assert Naswot().score(Probe(identity(2), *linear_batch())) == pytest.approx(math.log(3), rel=1e-12)


def test_images_of_equal_codes(images: Tensor, labels: Tensor) -> None:
    images = images.clone()
    images[4] = images[7] = images[1]
    with pytest.raises(ProxyError, match="3 of 10 images share all ReLU codes with another: the kernel is singular"):
        Naswot().score(Probe(plain_cnn(), images, labels))


def test_codes_that_depend_on_one_another() -> None:
    """All four codes of two units."""
    images = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64).view(4, 1, 1, 2)
    probe = Probe(identity(2), images, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ProxyError, match="the ReLU codes of 4 images depend on one another linearly"):
        Naswot().score(probe)


def test_functions_cannot_be_observed(images: Tensor, labels: Tensor) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(192, 5).double(), nn.Linear(5, 3).double()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.last(F.relu(self.first(images.flatten(1))))
            return logits

    with pytest.raises(ProxyError, match=r"calls no nn\.ReLU module; functional relus cannot be observed"):
        Naswot().score(Probe(Functional(), images, labels))


def test_labels_do_not_matter(images: Tensor, labels: Tensor) -> None:
    values = [Naswot().score(Probe(plain_cnn(), images, each)) for each in (labels, labels.flip(0))]
    assert values[0] == values[1]


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        Naswot(images=0)
    with pytest.raises(ValueError, match="norm must be eval or train, got 'batch'"):
        Naswot(norm="batch")  # type: ignore[arg-type]
