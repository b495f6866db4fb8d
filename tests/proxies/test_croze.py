from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from proxies.base import Probe
from proxies.croze import Croze, whole_cosine
from tests.proxies.networks import plain_cnn


def test_by_hand(linear_probe: Probe) -> None:
    """The gradient of the first image is -W up to a factor: W_r = (1 - beta) W, and nothing turns until W_r does."""
    assert Croze(images=1, beta=0.5).score(linear_probe) == pytest.approx(2 * 2 * 1, rel=1e-9)
    assert Croze(images=1, beta=2.0).score(linear_probe) == pytest.approx(0, abs=1e-9)


def test_cosines_of_any_scale() -> None:
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    for scale in (1e-30, 1.0, 1e30):
        assert whole_cosine(a * scale, b * scale).item() == pytest.approx(0.96, rel=1e-6)
    assert whole_cosine(a, 0 * b).item() == 0


def test_where_float32_overflows_it_is_computed_in_float64(images: Tensor, labels: Tensor) -> None:
    network = plain_cnn()
    for parameter in network.parameters():
        parameter.data *= 1e13
    exact = Croze().score(Probe(network, images, labels))
    assert math.isfinite(exact)
    assert Croze().score(Probe(network.float(), images.float(), labels)) == pytest.approx(exact, rel=1e-3)


def test_images_stay_images(images: Tensor, labels: Tensor) -> None:
    network, seen = plain_cnn(), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    Croze(epsilon=9.0).score(Probe(network, images, labels))
    clean, before, moved = seen
    assert clean.equal(images[:2]) and before.equal(images[:2])
    assert set(moved.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"images": 1.5}, "images must be a whole number, got 1.5"),
        ({"images": True}, "images must be a whole number, got True"),
        ({"beta": "1"}, "beta must be a number above 0, got '1'"),
        ({"beta": 0.0}, "beta must be a number above 0, got 0.0"),
        ({"epsilon": math.inf}, "epsilon must be a number above 0, got inf"),
        ({"variant": "code"}, "variant must be paper or program, got 'code'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Croze(**options)
