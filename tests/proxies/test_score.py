"""The public functions: scores of any torch classifier, proxies by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import proxies
from proxies.base import Probe, ProxyError
from tests.proxies.networks import IMAGES, darts_network, plain_cnn, relu_cnn


def test_scores_by_name(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    names = ["synflow", "params", "robust", "robust_released"]
    scores = proxies.score(network, images, labels, names=names)
    assert list(scores) == names
    for name, value in scores.items():
        assert value == pytest.approx(proxies.get_network_proxy(name).score(Probe(network, images, labels)))


@pytest.mark.parametrize("build", [plain_cnn, darts_network, relu_cnn])
def test_by_default_all_of_them(build: Callable[[], nn.Module], images: Tensor, labels: Tensor) -> None:
    assert tuple(proxies.score(build(), images, labels)) == proxies.PROXIES


@pytest.mark.parametrize("images_n", [4, 7])
def test_all_of_them_on_fewer_images_than_they_use_by_default(images_n: int) -> None:
    images, labels = torch.rand(images_n, 3, 8, 8, dtype=torch.float64), torch.zeros(images_n, dtype=torch.int64)
    assert tuple(proxies.score(darts_network(), images, labels)) == proxies.PROXIES


def test_two_halves_of_one_image_each_are_refused() -> None:
    images, labels = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ProxyError, match="zico: batch norms that use the statistics of a single image"):
        proxies.score(darts_network(), images, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images * 255, r"images must lie in \[0, 1\], got values from .* to 25\d"),
        (lambda images: images - 0.5, r"images must lie in \[0, 1\], got values from -0\.\d+ to 0\.\d"),
        (lambda images: images / 0, r"images must be finite, got 1920 values that are not, such as inf"),
        (lambda images: (images * 255).to(torch.uint8), r"images must be floating-point .* got torch\.uint8"),
    ],
    ids=["bytes", "centred", "infinite", "integers"],
)
def test_images_that_cannot_be(
    network: nn.Module, images: Tensor, labels: Tensor, change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        proxies.score(network, change(images), labels, names=["params"])


def test_more_images_asked_for_than_there_are(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    for name in ("snip(images=64)", "robust(ntk_images=64, curvature_images=2)"):
        with pytest.raises(ValueError) as caught:
            proxies.score(network, images, labels, names=["params", name])
        assert str(caught.value) == f"the proxy {name} needs at least 64 images, got {len(images)}"


@pytest.mark.parametrize(
    ("label", "dtype", "message"),
    [
        (3, torch.int64, "labels must be from 0 to 2, as the network has 3 classes, got 3"),
        (-1, torch.int64, "labels must be from 0 to 2, as the network has 3 classes, got -1"),
        (1, torch.float64, r"labels must be int64 of shape \(N,\), got torch\.float64"),
    ],
)
def test_labels_that_cannot_be(
    network: nn.Module, images: Tensor, label: int, dtype: torch.dtype, message: str
) -> None:
    labels = torch.full((IMAGES,), label, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        proxies.score(network, images, labels, names=["snip"])


def test_what_is_no_classifier(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"the network must give logits \(N, classes\), got \(1, 4, 8, 8\) for one"):
        proxies.score(nn.Conv2d(3, 4, 3, padding=1).double(), images, labels, names=["snip"])


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
        ("SynFlow", r"unknown proxy 'SynFlow'; did you mean synflow.*\?"),
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
