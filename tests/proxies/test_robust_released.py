from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import Probe, ProxyError
from proxies.robust_released import RobustReleased
from search_spaces.base import NetworkSpec
from search_spaces.cells.network import CellNetwork
from search_spaces.darts.known_cells import known_cell
from tests.proxies.networks import IMAGES, literal, plain_cnn, probe_of


def released(**options: Any) -> RobustReleased:
    return RobustReleased(**{"ntk_images": IMAGES, "curvature_images": 4, **options})


def snapshots(
    network: nn.Module, images: Tensor, labels: Tensor, tensors: int, coordinates: int
) -> dict[str, list[Tensor]]:
    """By parameter name, a view of its gradient after each image: gradients are never zeroed, nor copied."""
    taken: dict[str, list[Tensor]] = {}
    for image, label in zip(images, labels, strict=True):
        F.cross_entropy(network(image[None]), label[None]).backward()
        large = [(name, each.grad) for name, each in network.named_parameters() if each.numel() >= coordinates]
        with_gradient = [(name, gradient) for name, gradient in large if gradient is not None]
        for name, gradient in with_gradient[:tensors]:
            taken.setdefault(name, []).append(gradient.view(-1)[:coordinates])
    return taken


def mean_change(network: nn.Module, images: Tensor, labels: Tensor, h: float) -> float:
    """Mean over images of the norm of the change of the gradient of the batch's mean loss."""
    x = images.clone().requires_grad_()
    (before,) = torch.autograd.grad(F.cross_entropy(network(x), labels), x)
    step = torch.stack([h * each.sign() / each.sign().norm() for each in before])
    difference = F.cross_entropy(network(x + step), labels) - F.cross_entropy(network(x), labels)
    (change,) = torch.autograd.grad(difference, x)
    return sum(each.norm().item() for each in change) / len(images)


def program(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    t: float,
    h: float = 50.0,
    tensors: int = 11,
    coordinates: int = 50,
) -> float:
    """The procedure step by step: the first half of the snapshots times the second half, value by value."""
    n, kernel = len(images), 0.0
    for views in snapshots(literal(network), images, labels, tensors, coordinates).values():
        for k in range(coordinates):
            first, second = (torch.stack([each[k] for each in half]) for half in (views[: n // 2], views[n // 2 :]))
            kernel += (first @ second).item() / n**2
    change = mean_change(literal(network), images[:4], labels[:4], h)
    return -torch.tensor(t * kernel).exp().item() * change  # in single precision: inf above 88.7


def gradients_of(network: nn.Module, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first 50 values of the gradients, by the names that the literal network has for the parameters."""
    names = [name for name, _ in literal(network).named_parameters()]
    ours = [name for name, _ in network.named_parameters()]
    return {name: gradients[own].flatten()[:50] for name, own in zip(names, ours, strict=True) if own in gradients}


def test_snapshots_share_their_memory(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """What the transcription relies on: at the end, all of them hold the last sum."""
    taken = snapshots(literal(network), images, labels, 2, 50)
    gradients = Probe(network, images, labels).weight_gradients("loss", "eval")
    assert 0 < len(taken) <= 2
    for name, views in taken.items():
        assert len(views) == IMAGES and {each.data_ptr() for each in views} == {views[-1].data_ptr()}
        largest = views[-1].abs().max().item()
        torch.testing.assert_close(views[0], gradients_of(network, gradients)[name], rtol=1e-9, atol=1e-9 * largest)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tensors": 1, "coordinates": 7},
        {"tensors": 3, "coordinates": 13},
        {"tensors": 1000, "coordinates": 2},
        {"tensors": 2, "coordinates": 100},
    ],
    ids=str,
)
def test_equals_the_program(
    network: nn.Module, images: Tensor, labels: Tensor, probe: Probe, options: dict[str, int]
) -> None:
    t = 2 / released(**options).terms(probe).ntk
    proxy = released(t=t, **options)
    expected = program(network, images, labels, t=t, **options)
    assert proxy.raw(probe) == pytest.approx(expected, rel=1e-6)
    assert proxy.score(probe) == pytest.approx(-math.log(-expected), rel=1e-6)


def test_equals_the_program_of_50_images_at_16_channels() -> None:
    """Its own number of images and channels: the batch norms of the first cells are too small to enter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = NetworkSpec(channels=16, layers=3, image_size=(8, 8))
        network = CellNetwork(known_cell("ROBUST_ZCP"), spec).double()
    x = torch.rand(50, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 10
    names = snapshots(literal(network), x[:1], labels[:1], 11, 50)
    assert len(names) == 11 and "stem.0.weight" in names and not any(".norm" in name for name in names)
    proxy = RobustReleased(curvature_images=4, t=1.0)
    assert proxy.raw(Probe(network, x, labels)) == pytest.approx(program(network, x, labels, t=1.0), rel=1e-6)


def test_by_hand(linear_probe: Probe) -> None:
    """G = q (-s, s) with s = x_1 + x_2 = (1, 1), so the sum of G^2 is 4 q^2, which is divided by 2 N = 4.

    With h = 0.5 the change of the gradient of an image's loss is tanh(1/2), for both images, half of it in their mean.
    """
    options = {"ntk_images": 2, "curvature_images": 2, "t": 10.0, "h": 0.5}
    proxy, ntk = RobustReleased(**options, coordinates=4), 1 / (1 + math.e) ** 2
    assert proxy.terms(linear_probe).ntk == pytest.approx(ntk, rel=1e-12)
    assert proxy.raw(linear_probe) == pytest.approx(-math.exp(10 * ntk) * math.tanh(0.5) / 2, rel=1e-6)
    assert proxy.score(linear_probe) == pytest.approx(-10 * ntk - math.log(math.tanh(0.5) / 2), rel=1e-12)
    one = RobustReleased(**options, coordinates=1)  # the first: -q
    assert one.terms(linear_probe).ntk == pytest.approx(ntk / 4, rel=1e-12)


def test_where_the_program_overflows_there_is_still_a_score(
    network: nn.Module, images: Tensor, labels: Tensor, probe: Probe
) -> None:
    terms = released().terms(probe)
    for exponent, overflows in ((88.0, False), (89.0, True)):
        t = exponent / terms.ntk
        assert math.isinf(program(network, images, labels, t=t)) == overflows
        assert math.isinf(released(t=t).raw(probe)) == overflows
        assert released(t=t).score(probe) == pytest.approx(-exponent - terms.log_curvature, rel=1e-9)


def test_order_of_the_images_does_not_matter(network: nn.Module, probe: Probe) -> None:
    reversed_probe = Probe(network, probe.images.flip(0), probe.labels.flip(0))
    assert released().terms(reversed_probe).ntk == pytest.approx(released().terms(probe).ntk, rel=1e-9)


class Spare(nn.Module):
    """A network with a layer beside it that is never called."""

    def __init__(self, used: nn.Module) -> None:
        super().__init__()
        self.spare, self.used = nn.Linear(8, 8).double(), used

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.used(images)
        return logits


@pytest.mark.parametrize("frozen", [False, True])
def test_a_parameter_without_a_gradient_is_passed_over(images: Tensor, labels: Tensor, frozen: bool) -> None:
    """Another one is used in its place, as in the program."""
    network = Spare(plain_cnn())
    network.spare.requires_grad_(not frozen)
    proxy = released(t=1.0, tensors=2)
    expected = proxy.raw(probe_of(plain_cnn()))
    assert proxy.raw(probe_of(network)) == pytest.approx(expected, rel=1e-12)
    assert program(network, images, labels, t=1.0, tensors=2) == pytest.approx(expected, rel=1e-6)


def test_no_parameter_is_large_enough(probe: Probe) -> None:
    with pytest.raises(ProxyError, match="no parameter with a gradient has at least 1000000 values"):
        released(coordinates=10**6).score(probe)


@pytest.mark.parametrize("option", ["ntk_images", "curvature_images"])
def test_more_images_than_there_are(probe: Probe, option: str) -> None:
    with pytest.raises(ValueError, match="the probe holds 10 images, got a request for 11"):
        released(**{option: 11}).score(probe)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("ntk_images", 0, "ntk_images must be at least 1, got 0"),
        ("curvature_images", 0, "curvature_images must be at least 1, got 0"),
        ("tensors", 0, "tensors must be at least 1, got 0"),
        ("coordinates", -5, "coordinates must be at least 1, got -5"),
        ("t", -1.0, "t must be a number of at least 0, got -1.0"),
        ("h", 0.0, "h must be a number above 0, got 0.0"),
    ],
)
def test_options_that_cannot_be(option: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        released(**{option: value})
