from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxies.az_nas import (
    AzExpressivity,
    AzNas,
    AzProgressivity,
    AzTrainability,
    entropy,
    folded_to,
)
from proxies.base import Probe, ProxyError
from tests.proxies.networks import darts_network, plain_cnn


def test_entropy_by_hand() -> None:
    """Two uncorrelated channels of variance 1 and 3: shares 1/4 and 3/4."""
    samples = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64) * torch.tensor(
        [1.0, math.sqrt(3)]
    )
    expected = math.log(4) / 4 + 3 * math.log(4 / 3) / 4
    assert entropy(samples + 5, 0) == pytest.approx(expected, rel=1e-6)
    assert entropy(samples.view(2, 2, 2, 1).transpose(1, 2), 0) == pytest.approx(expected, rel=1e-6)


def test_trainability_of_orthogonal_blocks_is_the_best_there_is(images: Tensor, labels: Tensor) -> None:
    """1x1 convolutions of one channel: sigma is the drawn weight."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 1, 1, bias=False) for _ in range(3)), nn.Flatten(), nn.Linear(64, 2)
    ).double()
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(1, dtype=torch.float64, generator=generator).item() * math.sqrt(2) for _ in range(3)]
    terms = [2 - abs(weight) - 1 / (abs(weight) + 1e-6) for weight in weights[1:]]
    value = AzTrainability(seed=3).score(Probe(network, images[:, :1], labels))
    assert value == pytest.approx(sum(terms) / 2, rel=1e-6) and value <= 0


def test_the_pixels_of_an_output_pixel_are_channels() -> None:
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    assert folded_to(x, torch.ones(2, 5, 2, 2), 1).equal(nn.functional.pixel_unshuffle(x, 2))
    odd = folded_to(torch.ones(1, 1, 5, 3), torch.ones(1, 1, 2, 3), 1)
    assert odd.shape == (1, 3, 2, 3) and odd.sum() == 15
    assert folded_to(x, torch.ones(2, 7), 1).shape == (2, 48, 1, 1)
    with pytest.raises(ProxyError, match="block 1 raises the resolution from 4x4 to 8x8"):
        folded_to(x, torch.ones(2, 3, 8, 8), 1)
    with pytest.raises(ProxyError, match="block 1 has features of 3 and 4 dimensions"):
        folded_to(x[0], torch.ones(2, 3, 8, 8), 1)


def test_blocks_can_be_named(images: Tensor, labels: Tensor) -> None:
    probe = Probe(plain_cnn(), images, labels)
    assert AzProgressivity(modules=["3", "7"]).score(probe) == AzProgressivity().score(probe)
    assert AzProgressivity(modules=["0", "4"]).score(probe) != AzProgressivity().score(probe)


def test_it_depends_on_the_shape_and_the_seed_only(images: Tensor, labels: Tensor) -> None:
    one, other = (Probe(darts_network(seed=seed), images, labels) for seed in (1, 2))
    for kind in (AzExpressivity, AzProgressivity, AzTrainability):
        assert kind().score(one) == kind().score(other)
        assert kind(seed=1).score(one) != kind().score(one)


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity()), None),
        (nn.Identity(), "block 1 returns its input unchanged, so its trainability is undefined"),
        (nn.Threshold(1e9, 0.0), "the variance of block 1 is 0.0, expected a positive number"),
    ],
)
def test_blocks_that_do_nothing(middle: nn.Module, message: str | None, images: Tensor, labels: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).double()
    proxy, probe = AzTrainability(modules=["0", "1"]), Probe(network, images, labels)
    if message is None:
        assert math.isfinite(proxy.score(probe))
    else:
        with pytest.raises(ProxyError, match=message):
            proxy.score(probe)


def test_the_options_are_those_of_the_components() -> None:
    parts = AzNas(images=3, seed=4, modules=["a"]).components[:3]
    assert [(part.images, part.seed, part.modules) for part in parts] == [(3, 4, ("a",))] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"images": 0}, "images must be at least 1, got 0"), ({"seed": -1}, "seed must be from 0 to")],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AzNas(**options)


class Viewed(torch.autograd.Function):
    """Its gradient takes the memory as it comes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view(-1).view(gradient.shape)


def test_gradients_arrive_in_the_layout_of_the_features() -> None:
    class Block(nn.Module):
        def __init__(self, c_in: int):
            super().__init__()
            self.conv = nn.Conv2d(c_in, 4, 3, padding=1).double()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = Viewed.apply(self.conv(x).contiguous())
            return out

    network = nn.Sequential(Block(3), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3).double())
    assert AzTrainability().score(Probe(network, torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1]))) < 0
