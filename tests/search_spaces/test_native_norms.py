"""Batch norms by the batch's statistics in C, against torch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks.literal import literal_network
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.native_library import Library
from tests.search_spaces.test_native import batch, both_types, for_type, near


@both_types
@pytest.mark.parametrize(("rows", "channels"), [(2, 16), (63, 16), (64, 32), (65, 48), (1000, 16), (4096, 256)])
@pytest.mark.parametrize("running", [False, True])
def test_batch_norm(library: Library, rows: int, channels: int, running: bool, dtype: torch.dtype) -> None:
    """Far from zero, with one channel that is constant."""
    library = for_type(library, dtype)
    generator = torch.Generator().manual_seed(rows)
    x, gradient = (torch.randn(rows, channels, generator=generator, dtype=dtype) for _ in range(2))
    x[:, 1:] += 50
    x[:, 0] = 7
    weight, bias = (torch.rand(channels, generator=generator, dtype=dtype) + 0.5 for _ in range(2))
    leaves = [each.double().requires_grad_() for each in (x, weight, bias)]
    statistics = [torch.full((channels,), value, dtype=dtype) for value in (3.0, 2.0)] if running else [None, None]
    theirs = [None if each is None else each.double() for each in statistics]
    expected = F.batch_norm(leaves[0], theirs[0], theirs[1], leaves[1], leaves[2], True, 0.3, 1e-3)
    out, mean, invstd = library.batch_norm(x, weight, bias, (statistics[0], statistics[1]), 0.3, 1e-3)
    near(out, expected.detach(), 2e-5)
    near(mean, leaves[0].detach().mean(0), 1e-6)
    near(invstd, (leaves[0].detach().var(0, correction=0) + 1e-3).rsqrt(), 1e-5)
    for each, other in zip(statistics, theirs, strict=True):
        if each is not None and other is not None:
            near(each, other, 1e-5)
    for given in (gradient, torch.cat([x, gradient, x], 1)[:, channels : 2 * channels]):
        by = library.batch_norm_gradients(given, x, weight, mean, invstd)
        for found, other in zip(
            by, torch.autograd.grad(expected, leaves, gradient.double(), retain_graph=True), strict=True
        ):
            near(found, other, 2e-4)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_networks_running_statistics(library: Library, momentum: float | None) -> None:
    """After several passes they are those of torch's own modules."""
    space = get_space("darts")
    torch.manual_seed(0)
    network = space.build(space.parse("DARTS_V2"), NetworkSpec(channels=16, layers=3, classes=5, image_size=(8, 8)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = momentum
    literal = literal_network(network.train()).double()
    for seed in range(3):
        x = batch((4, 3, 8, 8), seed)
        network(x), literal(x.double())
    for ours, theirs in zip(network.buffers(), literal.buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("channels", [16, 12])
def test_norms_of_a_wrong_size(library: Library, name: str, channels: int) -> None:
    space = get_space("darts")
    network = space.build(space.parse("DARTS_V2"), NetworkSpec(channels=channels, layers=3, classes=3)).train()
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    wrong = torch.ones(channels)  # the stem has three times as many
    setattr(norm, name, torch.nn.Parameter(wrong) if name in ("weight", "bias") else wrong)
    with pytest.raises(RuntimeError, match=f"a batch norm of {channels} channels is given {3 * channels}"):
        network(batch((2, 3, 8, 8), 0))
