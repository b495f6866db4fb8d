"""Gradients that are zero but for rounding are refused; all others are what they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nas.testing.networks import mixed
from nas.testing.proxies import outcome_of
from proxies import get_network_proxy
from proxies.base import NormMode, Probe, ProxyError
from proxies.engine.checks import check_not_rounding
from search_spaces.base import NetworkSpec
from search_spaces.cells.network import CellNetwork
from search_spaces.darts.known_cells import known_cell

ROUNDING = r"is rounding, .* of that of its terms, expected more than .*norm=eval uses running statistics"
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def cell_network(cell: str, dtype: torch.dtype) -> nn.Module:
    """With 4 layers, the last cell is a normal cell, on 4 x 4 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CellNetwork(known_cell(cell), NetworkSpec(channels=4, layers=4, image_size=(16, 16))).to(dtype)


def images_of(dtype: torch.dtype, size: int = 16) -> Tensor:
    return torch.rand(6, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def score(network: nn.Module, name: str, dtype: torch.dtype, **options: object) -> float:
    return get_network_proxy(name, **options).score(Probe(network, images_of(dtype), torch.arange(6)))


@DTYPES
@pytest.mark.parametrize("cell", ["DARTS_V1", "ROBUST_ZCP"])
def test_cells_without_a_pooling_have_no_gradient_of_the_summed_logits(cell: str, dtype: torch.dtype) -> None:
    network = cell_network(cell, dtype)
    for name in ("jacob_cov", "synflow_bn"):
        with pytest.raises(ProxyError, match=ROUNDING):
            score(network, name, dtype)
        assert isinstance(score(network, name, dtype, norm="eval"), float)
    assert isinstance(score(network, "diverse_capacity", dtype), float)


@pytest.mark.parametrize("name", ["jacob_cov", "synflow_bn"])
def test_without_a_gradient_no_trace_is_left(name: str) -> None:
    outcome = outcome_of(get_network_proxy(name), mixed(cell_network("DARTS_V1", torch.float64)))
    assert isinstance(outcome, ProxyError)


def test_cells_with_a_pooling_have_one() -> None:
    """A single pooling, and values that are the same in either precision, which rounding is not."""
    networks = {each: cell_network("TRNAS_C10", each) for each in (torch.float32, torch.float64)}
    for name in ("jacob_cov", "synflow_bn"):
        single, double = (score(network, name, dtype) for dtype, network in networks.items())
        assert single == pytest.approx(double, rel=1e-3)


def normed(norm: nn.Module, *after: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm, *after, *head)


@DTYPES
@pytest.mark.parametrize(
    ("build", "mode", "constant"),
    [
        (lambda: normed(nn.BatchNorm2d(4)), "train", True),
        (lambda: normed(nn.BatchNorm2d(4)), "eval", False),
        (lambda: normed(nn.BatchNorm2d(4, track_running_stats=False)), "eval", True),
        (lambda: normed(nn.BatchNorm2d(4), nn.ReLU()), "train", False),
        (lambda: normed(nn.BatchNorm2d(4), nn.MaxPool2d(3)), "train", False),
        (lambda: normed(nn.Identity()), "train", False),
    ],
)
def test_which_sums_are_constant(
    build: Callable[[], nn.Module], mode: str, constant: bool, dtype: torch.dtype
) -> None:
    probe = Probe(build().to(dtype), images_of(dtype), torch.arange(6) % 5)
    norm: NormMode = "train" if mode == "train" else "eval"
    if constant:
        for ask in (probe.input_gradients, lambda *what: probe.gradient_change(*what, step=1.0)):
            with pytest.raises(ProxyError, match=ROUNDING):
                ask("logits", norm)
    else:
        assert probe.input_gradients("logits", norm).norm() > 0.01
        assert isinstance(probe.gradient_change("logits", norm, 1.0), Tensor)
    assert probe.input_gradients("loss", norm).norm() > 0.01


def test_other_requests_of_the_pass_keep_their_values() -> None:
    network = normed(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))).double()
    alone, together = (Probe(network, images_of(torch.float64), torch.arange(6) % 5) for _ in range(2))
    naswot, jacob_cov = get_network_proxy("naswot"), get_network_proxy("jacob_cov")
    together.plan([naswot, jacob_cov])
    with pytest.raises(ProxyError, match=ROUNDING):
        jacob_cov.score(together)
    assert naswot.score(together) == naswot.score(alone)


def test_the_bound() -> None:
    check_not_rounding(4e-4, 1.0, torch.float32, "a sum")
    check_not_rounding(2e-8, 1.0, torch.float64, "a sum")
    check_not_rounding(0.0, 0.0, torch.float64, "a sum")  # of nothing: another error's business
    with pytest.raises(ProxyError, match="the gradient of a sum is rounding, 3.0e-04 of that .* more than 3.5e-04"):
        check_not_rounding(3e-4, 1.0, torch.float32, "a sum")
    with pytest.raises(ProxyError, match="the gradient of a sum is rounding, 1.0e-08 of that .* more than 1.5e-08"):
        check_not_rounding(1e-8, 1.0, torch.float64, "a sum")


@pytest.mark.parametrize("name", ["grad_norm", "snip", "plain", "grasp", "zico", "robust"])
def test_a_single_image_has_no_statistics_of_a_batch(name: str) -> None:
    """In float32, ``grad_norm`` of this cell was 5e-6, in float64 6e-15."""
    few = {"zico": {"images": 2}, "robust": {"ntk_images": 4, "curvature_images": 1}}.get(name, {"images": 1})
    network, dtype = cell_network("DARTS_V1", torch.float32), torch.float32
    with pytest.raises(ProxyError, match="a single image: expected at least 2 images a batch, or norm=eval"):
        score(network, name, dtype, norm="train", **few)
    assert isinstance(score(network, name, dtype, norm="eval", **few), float)
    assert isinstance(score(normed(nn.Identity()), name, dtype, norm="train", **few), float)
