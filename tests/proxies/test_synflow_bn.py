from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from proxies.base import Probe, ProxyError
from proxies.synflow import DepthwiseProduct, Synflow
from proxies.synflow_bn import SynflowBn
from search_spaces.cells.operations import DepthwiseConv
from tests.proxies.networks import darts_network, linear_batch, plain_cnn, probe_of

W, V, GAMMA, BETA, MEAN, VAR = 2.0, 5.0, 0.5, 0.25, 0.5, 3.0


def small(size: tuple[int, int]) -> Probe:
    """f(x) = v norm(w x), by the mean over pixels; all parameters negative."""
    norm = nn.BatchNorm2d(1)
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False)
    ).double()
    with torch.no_grad():
        network[0].weight.fill_(-W)
        norm.weight.fill_(-GAMMA)
        norm.bias.fill_(-BETA)
        norm.running_mean.fill_(MEAN)  # type: ignore[union-attr]
        norm.running_var.fill_(VAR)  # type: ignore[union-attr]
        network[4].weight.fill_(-V)
    return Probe(network, torch.rand(2, 1, *size, dtype=torch.float64), torch.tensor([0, 0]))


def test_by_hand_with_running_statistics() -> None:
    scale = GAMMA / math.sqrt(VAR + 1e-5)
    expected = V * W * scale + V * ((W - MEAN) * scale + BETA)
    assert SynflowBn(norm="eval").score(small((2, 3))) == pytest.approx(math.log(expected), rel=1e-12)


def test_by_hand_with_the_statistics_of_the_image() -> None:
    """All pixels are equal: the norm gives its bias, whatever w is."""
    assert SynflowBn().score(small((2, 3))) == pytest.approx(math.log(V * BETA), rel=1e-12)


def test_a_single_pixel_has_no_variance() -> None:
    with pytest.raises(ProxyError, match="a batch norm receives a single pixel"):
        SynflowBn().score(small((1, 1)))


def test_before_training_it_is_synflow_but_for_epsilon() -> None:
    network = darts_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.eps = 1e-12
    probe = probe_of(network)
    assert SynflowBn(norm="eval").score(probe) == pytest.approx(Synflow().score(probe), rel=1e-9)


def test_other_mistakes_of_a_network_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        SynflowBn().score(Probe(plain_cnn()[-2:], *linear_batch()))  # type: ignore[index]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(3, 1, 1, 1), (5, 2, 0, 1), (3, 1, 2, 2), (1, 3, 0, 1)]
)
def test_depthwise_products(kernel: int, stride: int, padding: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, kernel, stride, padding, dilation, groups=4, bias=False).double()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    made = DepthwiseProduct(conv)
    torch.testing.assert_close(made(x), conv(x))
    assert made.weight is conv.weight


def test_only_plain_depthwise_convolutions_are_products() -> None:
    assert DepthwiseProduct.fits(nn.Conv2d(4, 4, 3, groups=4, bias=False))
    assert not DepthwiseProduct.fits(DepthwiseConv(4, 3))  # which computes itself in float64
    heard, other = (nn.Conv2d(4, 4, 3, groups=4, bias=False) for _ in range(2))
    heard.register_forward_pre_hook(lambda module, inputs: None)
    other.forward = lambda x: x  # type: ignore[method-assign,assignment]
    assert not DepthwiseProduct.fits(heard) and not DepthwiseProduct.fits(other)
    assert not DepthwiseProduct.fits(weight_norm(nn.Conv2d(4, 4, 3, groups=4, bias=False)))
    assert not DepthwiseProduct.fits(nn.Conv2d(4, 4, 3, groups=2, bias=False))
    assert not DepthwiseProduct.fits(nn.Conv2d(4, 8, 3, groups=4, bias=False))
    assert not DepthwiseProduct.fits(nn.Conv2d(4, 4, 3, groups=4))
    assert not DepthwiseProduct.fits(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, padding_mode="reflect"))
    assert not DepthwiseProduct.fits(nn.Conv2d(4, 4, 3, padding="same", groups=4, bias=False))
