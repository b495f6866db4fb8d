from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxies.base import Probe
from proxies.robust_released import RobustReleased
from tests.proxies.networks import IMAGES, literal, probe_of, step_change


def released(**options: Any) -> RobustReleased:
    return RobustReleased(**{"ntk_images": IMAGES, "curvature_images": 4, **options})


def program(
    network: nn.Module, images: Tensor, labels: Tensor, *, t: float, h: float, tensors: int, coordinates: int
) -> float:
    """Snapshots of gradients that are never zeroed, their products summed over coordinates and pairs of images."""
    copied = literal(network)
    first = list(copied.parameters())[:tensors]
    snapshots = []
    for image, label in zip(images, labels, strict=True):
        F.cross_entropy(copied(image[None]), label[None]).backward()
        snapshots.append([x for each in first for x in each.grad.flatten()[:coordinates].tolist()])  # type: ignore[union-attr]
    n, m = len(snapshots), len(snapshots[0])
    kernel = sum(a[i] * b[i] for i in range(m) for a in snapshots for b in snapshots) / (m * n**2)
    change = step_change(literal(network), images[:4], labels[:4], h)
    exponential = torch.tensor(t * kernel, dtype=torch.float64).exp().item()  # inf where it overflows
    return -exponential * sum(each.norm().item() for each in change) / 4


@pytest.mark.parametrize(
    "options",
    [
        {"tensors": 3, "coordinates": 50},
        {"tensors": 1, "coordinates": 7},
        {"tensors": 1000, "coordinates": 2},
        {"tensors": 2, "coordinates": 10**6},
    ],
    ids=str,
)
def test_equals_the_program(
    network: nn.Module, images: Tensor, labels: Tensor, probe: Probe, options: dict[str, int]
) -> None:
    proxy = released(t=0.5, h=50.0, **options)
    expected = program(network, images, labels, t=0.5, h=50.0, **options)
    assert math.isfinite(expected)
    assert proxy.raw(probe) == pytest.approx(expected, rel=1e-6)
    assert proxy.score(probe) == pytest.approx(-math.log(-expected), rel=1e-6)


def test_by_hand(linear_probe: Probe) -> None:
    """Snapshots q (-x_1, x_1) and q (-x_1 - x_2, x_1 + x_2), their sum q (-s, s) with s = (1.5, 1): 6.5 q^2 / (M N^2).

    With h = 0.5 the change of the input gradient is tanh(1/2), for both images.
    """
    proxy = released(ntk_images=2, curvature_images=2, t=10.0, h=0.5)
    ntk = 6.5 / (1 + math.e) ** 2 / 16
    assert proxy.terms(linear_probe).ntk == pytest.approx(ntk, rel=1e-12)
    assert proxy.raw(linear_probe) == pytest.approx(-math.exp(10 * ntk) * math.tanh(0.5), rel=1e-12)
    one = released(ntk_images=2, curvature_images=2, t=10.0, h=0.5, coordinates=1)  # the first: -1.5 q
    assert one.terms(linear_probe).ntk == pytest.approx(1.5**2 / (1 + math.e) ** 2 / 4, rel=1e-12)


def test_where_the_program_overflows_there_is_still_a_score(
    network: nn.Module, images: Tensor, labels: Tensor, probe: Probe
) -> None:
    terms = released().terms(probe)
    t = 1000 / terms.ntk
    assert program(network, images, labels, t=t, h=50.0, tensors=3, coordinates=50) == -math.inf
    assert released(t=t).raw(probe) == -math.inf
    assert released(t=t).score(probe) == pytest.approx(-1000 - terms.log_curvature, rel=1e-9)


def test_order_of_the_images_matters_as_it_does_in_the_program(network: nn.Module, probe: Probe) -> None:
    reversed_probe = Probe(network, probe.images.flip(0), probe.labels.flip(0))
    assert released().terms(reversed_probe).ntk != pytest.approx(released().terms(probe).ntk, rel=1e-3)


def test_a_parameter_without_influence_adds_nothing() -> None:
    """Its coordinates count, as zeros."""

    class Spare(nn.Module):
        def __init__(self, used: nn.Module) -> None:
            super().__init__()
            self.spare, self.used = nn.Linear(2, 1, bias=False), used

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.used(images)
            return logits

    used = nn.Sequential(nn.Flatten(), nn.Linear(192, 3, bias=False)).double()
    alone = released(tensors=1, coordinates=2).terms(probe_of(used)).ntk
    assert released(tensors=2, coordinates=2).terms(probe_of(Spare(used))).ntk == pytest.approx(alone / 2, rel=1e-12)


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
