"""The public functions: scores of any torch classifier, proxies by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import proxies
from proxies.base import Probe, ProxyError
from tests.proxies.networks import IMAGES


def test_scores_by_name(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    names = ["synflow", "params", "robust", "robust_released"]
    scores = proxies.score(network, images, labels, names=names)
    assert list(scores) == names
    for name, value in scores.items():
        options = {"ntk_images": IMAGES} if name.startswith("robust") else {}
        assert value == pytest.approx(proxies.get_proxy(name, **options).score(Probe(network, images, labels)))


def test_by_default_all_of_them(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    assert tuple(proxies.score(network, images, labels)) == proxies.PROXIES


@pytest.mark.parametrize("images_n", [1, 5])
def test_fewer_images_than_the_robust_proxies_use_by_default(network: nn.Module, images_n: int) -> None:
    torch.manual_seed(12)
    images, labels = torch.rand(images_n, 3, 8, 8, dtype=torch.float64), torch.zeros(images_n, dtype=torch.int64)
    expected = proxies.get_proxy("robust", ntk_images=images_n, curvature_images=images_n)
    value = proxies.score(network, images, labels, names=["robust"])["robust"]
    assert value == pytest.approx(expected.score(Probe(network, images, labels)))


def test_more_images_than_they_use(network: nn.Module) -> None:
    torch.manual_seed(13)
    images, labels = torch.rand(60, 3, 8, 8, dtype=torch.float64), torch.arange(60) % 3
    few = proxies.score(network, images[:50], labels[:50], names=["robust", "robust_released"])
    assert proxies.score(network, images, labels, names=list(few)) == pytest.approx(few)


def test_a_network_without_a_value_is_an_error(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    list(network.parameters())[-1].data.fill_(torch.nan)
    with pytest.raises(ProxyError, match="is nan"):
        proxies.score(network, images, labels, names=["params", "snip"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robst", r"unknown proxy 'robst'; did you mean robust.*\? expected one of robust, .*conv_count"),
        ("SynFlow", r"unknown proxy 'SynFlow'; did you mean synflow\?"),
        ("xyz", "unknown proxy 'xyz'; expected one of robust"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(images: Tensor, labels: Tensor, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        proxies.score(nn.Flatten(), images, labels, names=[name])
    with pytest.raises(ValueError, match=message):
        proxies.get_proxy(name)


@pytest.mark.parametrize(
    ("shape", "labels_n"), [((3, 8, 8), 3), ((2, 3, 8, 8), 3), ((0, 3, 8, 8), 0)], ids=["no batch", "labels", "empty"]
)
def test_batches_that_cannot_be(network: nn.Module, shape: tuple[int, ...], labels_n: int) -> None:
    with pytest.raises(ValueError, match=r"expected images \(N, C, H, W\) and labels \(N,\) with N > 0, got \("):
        proxies.score(network, torch.rand(shape), torch.zeros(labels_n, dtype=torch.int64))


def test_names_are_known_without_torch() -> None:
    program = "import sys, proxies; assert 'robust' in proxies.PROXIES; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
