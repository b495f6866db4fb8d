from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from proxies.base import Probe
from proxies.croze import Croze
from proxies.r_score import ConJs, RScore, Snap, jensen_shannon
from tests.proxies import slow_formulas as slow
from tests.proxies.networks import darts_network, plain_cnn


def test_snap_by_hand(images: Tensor, labels: Tensor) -> None:
    """One pixel: a neuron is on for the positive ones or for the negative ones, so there are two patterns."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 50), nn.ReLU(), nn.Linear(50, 2)).double()
    pixels = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).view(3, 1, 1, 1)
    assert Snap().score(Probe(network, pixels, labels[:3])) == 2


@pytest.mark.parametrize("n", [20, 21, 35])
def test_patterns_of_many_images(n: int) -> None:
    x = torch.rand(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(n, dtype=torch.int64)
    network = plain_cnn()
    assert Snap(images=n).score(Probe(network, x, labels)) == slow.snap(n, 1, 0)(network, x, labels)


def test_con_js_by_hand(linear_probe: Probe) -> None:
    """W_r = W / 2 and the image moves from 0.5 to 0.4: features (0.5, -0.5) and (0.2, -0.2)."""
    p, q = (1 / (1 + math.exp(-margin)) for margin in (1.0, 0.4))
    js = sum(a * math.log(2 * a / (a + b)) for a, b in ((p, q), (q, p), (1 - p, 1 - q), (1 - q, 1 - p))) / 2
    assert ConJs(images=1, beta=0.5, epsilon=0.1).score(linear_probe) == pytest.approx(1 / (1 + js), rel=1e-9)


def test_divergence_is_bounded() -> None:
    assert jensen_shannon(torch.ones(5), torch.ones(5)) == 0
    assert jensen_shannon(torch.tensor([1e4, 0.0]), torch.tensor([0.0, 1e4])) == pytest.approx(math.log(2), rel=1e-6)


def test_croze_and_con_js_share_their_passes(images: Tensor, labels: Tensor) -> None:
    network, calls = darts_network(), []
    network.stem.register_forward_hook(lambda *_: calls.append(1))
    probe = Probe(network, images, labels)
    Croze().score(probe)
    before = len(calls)
    ConJs().score(probe)
    assert len(calls) == before


def test_the_options_are_those_of_the_components() -> None:
    snap, con_js = RScore(repeats=3, seed=2, variant="program_mended").components
    assert (snap.repeats, snap.seed) == (3, 2) and con_js.variant == "program_mended"  # type: ignore[attr-defined]


def test_the_program_is_offered_mended_only() -> None:
    with pytest.raises(ValueError, match="variant must be paper or program_mended, got 'program'"):
        ConJs(variant="program")  # type: ignore[arg-type]


def test_croze_and_con_js_share_the_perturbation_of_the_program() -> None:
    croze, con_js = Croze(variant="program"), ConJs(variant="program_mended")
    assert croze.perturbation == con_js.perturbation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"images": 63}, "images must be at most 62, got 63"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"seed": -1}, "seed must be from 0 to"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Snap(**options)


def test_no_divergence_is_below_zero() -> None:
    """Nor further from the exact one than rounding."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        a = torch.randn(10, generator=generator)
        b = a + 1e-4 * torch.randn(10, generator=generator)
        assert 0 <= jensen_shannon(a, b) == pytest.approx(jensen_shannon(a.double(), b.double()), abs=1e-6)
