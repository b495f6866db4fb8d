from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.jacob_cov import JacobCov, correlation
from tests.proxies.networks import linear_batch, linear_network, plain_cnn


def test_by_hand() -> None:
    """A linear network has one gradient, (3, 0): both images correlate fully, eigenvalues 2 and 0."""
    network = linear_network()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    k = 1e-5
    expected = -(math.log(2 + k) + 1 / (2 + k) + math.log(k) + 1 / k)
    assert JacobCov().score(Probe(network, *linear_batch())) == pytest.approx(expected, rel=1e-9)


def test_correlation_coefficients() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0], [30.0, 20.0, 10.0], [5.0, 4.0, 5.0]])
    expected = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(correlation(rows), expected, rtol=0, atol=1e-12)


def test_gradients_that_do_not_vary(linear_probe: Probe) -> None:
    """The rows of W add up to zero, and so does the gradient of the summed logits."""
    with pytest.raises(ProxyError, match="the input gradients of 2 of 2 images do not vary between pixels"):
        JacobCov().score(linear_probe)


def test_one_dead_image(images: Tensor, labels: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        network[1].weight.abs_()  # so that all ReLUs are on for all other images
    images = images.clone()
    images[3] = 0  # all ReLUs off
    with pytest.raises(ProxyError, match="the input gradients of 1 of 10 images do not vary between pixels"):
        JacobCov().score(Probe(network, images, labels))


def test_a_single_image(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ProxyError, match="a single image: expected at least 2 images a batch"):
        JacobCov().score(Probe(plain_cnn(), images[:1], labels[:1]))
    with pytest.raises(ValueError, match="images must be at least 2, got 1"):
        JacobCov(images=1)
