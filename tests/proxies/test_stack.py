"""The proxies that are served by a stack, against the same proxies on each network alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from proxies import PROXIES, get_proxy
from proxies.base import Probe, ProxyError
from proxies.stack import ProbeStack
from search_spaces.base import NetworkSpec
from search_spaces.cells.stacked import StackedNetwork
from search_spaces.darts.space import DartsSpace

SPACE = DartsSpace()
#: By proxy and its options: the largest relative difference in float32. Where batch norms use the statistics of the
#: batch, gradients are differences of large numbers.
SERVED: list[tuple[str, dict[str, Any], float]] = [
    ("robust", {"t": 100.0}, 1e-4),
    ("robust", {"function": "loss", "norm": "train"}, 1e-2),
    ("robust_released", {}, 2e-3),
    ("grad_norm", {}, 2e-3),
    ("snip", {}, 2e-3),
    ("synflow", {}, 1e-12),
    ("naswot", {}, 1e-3),
    ("naswot", {"norm": "eval", "images": 10}, 1e-3),
    ("jacob_cov", {}, 2e-3),
    ("jacob_cov", {"norm": "eval"}, 2e-3),
    ("diverse_capacity", {}, 2e-3),
]


def probes(
    cells: int | Sequence[str], spec: NetworkSpec, dtype: torch.dtype, images: int, pixels: int, seed: int = 7
) -> tuple[list[Probe], ProbeStack, list[int]]:
    """The probes of random or named cells alone and in a stack, and how often each network alone has been built."""
    rng = np.random.default_rng(seed)
    genotypes = [SPACE.sample(rng) for _ in range(cells)] if isinstance(cells, int) else list(map(SPACE.parse, cells))
    genotypes, count = [SPACE.parse(SPACE.canonical(each)) for each in genotypes], len(genotypes)
    batch = torch.rand(images, 3, pixels, pixels, generator=torch.Generator().manual_seed(1)).to(dtype)
    labels = torch.arange(images) % 10
    built = [0] * count

    def build(k: int) -> nn.Module:
        built[k] += 1
        torch.manual_seed(k)
        return SPACE.build(genotypes[k], spec).eval().to(dtype)

    network = StackedNetwork(genotypes, spec)
    for k in range(count):
        network.draw(k, seed=k)
    costs = [SPACE.cost(genotype, spec) for genotype in genotypes]
    counted = [{"params": cost.params, "macs": cost.macs} for cost in costs]
    builders = [partial(build, k) for k in range(count)]
    stack = ProbeStack(network.eval().to(dtype), builders, batch, labels, counted)
    alone = [Probe(builder, batch, labels, counted=each) for builder, each in zip(builders, counted, strict=True)]
    return alone, stack, built


def value(proxy: Any, probe: Probe) -> float | str:
    try:
        return float(proxy.score(probe))
    except ProxyError as error:
        return "rounding" if "is rounding" in str(error) else f"failed: {error}"


def compared(
    count: int, spec: NetworkSpec, dtype: torch.dtype, *, images: int = 12, pixels: int = 12, seed: int = 7
) -> list[float]:
    """For each row of ``SERVED`` the largest relative difference; what has no value alone has none in the stack."""
    alone, stack, built = probes(count, spec, dtype, images, pixels, seed)
    proxies = [get_proxy(name, **options) for name, options, _ in SERVED]
    stack.plan(proxies)
    found = [[value(proxy, probe) for probe in stack.probes] for proxy in proxies]
    assert built == [0] * count  # no network was needed besides the stack
    worst = []
    for probe in alone:
        probe.plan(proxies)
    for proxy, row in zip(proxies, found, strict=True):
        expected = [value(proxy, probe) for probe in alone]
        pairs = list(zip(row, expected, strict=True))
        assert [one for one, _ in pairs if isinstance(one, str)] == [two for _, two in pairs if isinstance(two, str)]
        differences = [abs(a - b) / abs(b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
        worst.append(max(differences, default=0.0))
    return worst


def test_in_float64_the_scores_are_those_of_the_networks_alone() -> None:
    assert max(compared(4, NetworkSpec(channels=4, layers=3), torch.float64)) < 1e-9


def test_in_float32_they_differ_by_rounding() -> None:
    worst = compared(4, NetworkSpec(channels=4, layers=3), torch.float32)
    for found, (name, options, bound) in zip(worst, SERVED, strict=True):
        assert found < bound, (name, options)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fifty_cells(dtype: torch.dtype) -> None:
    spec = NetworkSpec(channels=4, layers=4)
    stacks = [compared(10, spec, dtype, seed=seed) for seed in range(5)]
    worst = [max(row) for row in zip(*stacks, strict=True)]
    print({f"{name}{options or ''}": f"{each:.1e}" for each, (name, options, _) in zip(worst, SERVED, strict=True)})
    for found, (name, options, bound) in zip(worst, SERVED, strict=True):
        assert found < (1e-9 if dtype == torch.float64 else bound), (name, options)


def test_the_proxies_that_say_so_are_served() -> None:
    assert {name for name in PROXIES if get_proxy(name).stackable} == {name for name, _, _ in SERVED}


def test_what_was_not_announced_is_computed_on_the_network_itself() -> None:
    alone, stack, built = probes(2, NetworkSpec(channels=4, layers=3), torch.float64, 8, 16)
    stack.plan([get_proxy("grad_norm")])
    other = get_proxy("naswot", shared_once=True)
    assert value(other, stack.probes[1]) == value(other, alone[1])
    assert built == [0, 2]  # of the stack's probe, and of the probe alone


def test_a_network_without_a_value_does_not_affect_the_others() -> None:
    """The summed logits of DARTS_V2 are constant with the statistics of the batch, so it has no ``jacob_cov``."""
    cells = ["DARTS_V2", "DARTS_V1", "PDARTS"]
    pooled = SPACE.format(SPACE.parse("DARTS_V2")).replace("'sep_conv_3x3', 1", "'avg_pool_3x3', 1")
    alone, stack, _ = probes([*cells, pooled], NetworkSpec(channels=4, layers=4), torch.float32, 8, 16)
    stack.plan([get_proxy("jacob_cov")])
    found, expected = ([value(get_proxy("jacob_cov"), probe) for probe in each] for each in (stack.probes, alone))
    failed = [isinstance(each, str) for each in expected]
    assert any(failed) and not all(failed)
    assert [each == "rounding" for each in found] == [each == "rounding" for each in expected] == failed
