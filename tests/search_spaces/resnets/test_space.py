"""Sizes against those of the papers; names, texts, genes and paths of the two spaces of residual networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from search_spaces import get_space
from search_spaces.base import NetworkSpec
from search_spaces.resnets.genotype import ResNetGenotype

WIDE, ROBUST = get_space("wide_resnet"), get_space("robust_resnet")
SPEC = NetworkSpec(channels=16, layers=None)
LARGE = "d11-w16.d11-w16.d11-w16"


@pytest.mark.parametrize(
    ("space", "text", "params", "macs"),
    [
        (WIDE, "WRN-28-10", 36.5, 5.24),  # Zagoruyko and Komodakis; MACs as counted: Huang et al. print 5.20 G
        (WIDE, "WRN-34-10", 46.2, 6.66),
        (WIDE, "WRN-46-14", 128, 18.6),  # from here on: Huang et al., Table 1 and their program's page
        (WIDE, "WRN-70-16", 267, 38.8),  # NARes' largest: 266.80 M
        (ROBUST, f"bottleneck.none.relu.{LARGE}", 265, 39.0),
        (ROBUST, f"aggregated.none.relu.{LARGE}", 265, 39.3),  # published: 39.4 G
        (ROBUST, f"robust.none.relu.{LARGE}", 262, 39.2),  # published: 39.3 G
        (ROBUST, f"robust.rse.relu.{LARGE}", 270, 39.3),
        (ROBUST, f"bottleneck.rse.relu.{LARGE}", 273, 39.0),  # published: 39.1 G
        (ROBUST, "robust.rse.relu.d4-w10.d4-w10.d4-w10", 39.6, 5.99),  # published: 6.00 G
        (ROBUST, "RobustResNet-A1", 19.2, 5.08),  # published: 5.11 G
        (ROBUST, "RobustResNet-A2", 39.0, 10.7),  # published: 10.8 G
        (ROBUST, "RobustResNet-A3", 75.9, 19.8),  # published: 19.9 G
        (ROBUST, "RobustResNet-A4", 147, 39.3),  # published: 39.4 G
    ],
)
def test_published_sizes(space: Any, text: str, params: float, macs: float) -> None:
    cost = space.cost(space.parse(text), SPEC)
    assert float(f"{cost.params / 1e6:.3g}") == params and float(f"{cost.macs / 1e9:.3g}") == macs


def test_nares_has_15625_networks_of_up_to_266_8_million_parameters() -> None:
    assert math.prod(map(len, WIDE.choices)) == 15_625  # type: ignore[attr-defined]
    least, most = (WIDE.cost(WIDE.parse(f"{s}.{s}.{s}"), SPEC).params for s in ("d4-w8", "d11-w16"))
    assert (least, most) == (23_354_842, 266_796_506)  # the paper: 23.25 M to 266.80 M


def test_a_quarter_of_the_channels_is_a_quarter_of_every_width() -> None:
    full, small = (WIDE.cost(WIDE.parse("WRN-28-10"), NetworkSpec(channels=c, layers=None)) for c in (16, 4))
    assert full.macs / small.macs == pytest.approx(16, rel=0.01)
    assert (WIDE.default_channels, WIDE.default_layers) == (4, None)


def test_texts_and_names() -> None:
    genotype = WIDE.parse("d5-w10.d7-w12.d4-w8")
    assert (genotype.depths, genotype.widths, genotype.block) == ((5, 7, 4), (10, 12, 8), "basic")
    assert WIDE.format(genotype) == WIDE.canonical(genotype) == "d5-w10.d7-w12.d4-w8"
    assert WIDE.parse(" wrn_28_10\n") == WIDE.parse("d4-w10.d4-w10.d4-w10") == ROBUST.parse("WRN-28-10")
    assert WIDE.parse("WRN-40-2") == WIDE.parse("d6-w2.d6-w2.d6-w2")
    assert ROBUST.format(ROBUST.parse("robustresnet-a1")) == "robust.rse.relu.d14-w5.d14-w7.d7-w3"
    assert WIDE.parse("WRN-A1") == WIDE.parse("d14-w5.d14-w7.d7-w3")
    for space in (WIDE, ROBUST):
        assert all(space.parse(space.format(genotype)) == genotype for genotype in space.published().values())


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (WIDE, "d5-w10.d7-w12", "got 'd5-w10.d7-w12', expected three stages"),
        (WIDE, "d0-w10.d7-w12.d1-w1", "expected three stages"),
        (WIDE, "d100-w1.d1-w1.d1-w1", "expected three stages"),
        (WIDE, "WRN-29-10", "unknown network 'WRN-29-10'; did you mean WRN-28-10"),
        (WIDE, "WRN-28-0", "unknown network 'WRN-28-0'"),
        (WIDE, "robust.rse.relu.d4-w8.d4-w8.d4-w8", "unknown block 'robust'; expected one of basic in the space 'wide"),
        (ROBUST, "robust.rse.rely.d4-w8.d4-w8.d4-w8", "unknown activation 'rely'; did you mean relu"),
        (ROBUST, "robust.relu.d4-w8.d4-w8.d4-w8", "expected three stages"),
    ],
)
def test_what_is_no_network_is_refused(space: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space.parse(text)


def test_a_genotype_has_three_stages_of_whole_numbers() -> None:
    with pytest.raises(ValueError, match="2 stages have a depth, expected 3"):
        ResNetGenotype(depths=(4, 4), widths=(8, 8, 8))
    with pytest.raises(ValueError, match="width must be at most 99, got 100"):
        ResNetGenotype(depths=(4, 4, 4), widths=(8, 8, 100))


def test_a_neighbour_differs_in_one_gene() -> None:
    genotype = WIDE.parse("d4-w8.d4-w8.d4-w8")
    neighbours = list(WIDE.neighbours(genotype))
    assert len(neighbours) == 24  # four other values of six genes, as in NARes
    assert {sum(a != b for a, b in zip(genotype.genes, each.genes, strict=True)) for each in neighbours} == {1}
    published = list(ROBUST.neighbours(ROBUST.parse("RobustResNet-A4")))  # 27, 28 and 13 blocks are not sampled
    assert len(published) == 4 + 2 + 3 + 3 * 8 + 3 * 10


def test_a_child_has_the_genes_of_its_parents() -> None:
    a, b = ROBUST.parse("basic.se.silu.d2-w3.d2-w3.d2-w3"), ROBUST.parse("RobustResNet-A1")
    rng = np.random.default_rng(0)
    children = [ROBUST.crossover(a, b, rng).genes for _ in range(40)]
    for child in children:
        assert all(gene in pair for gene, *pair in zip(child, a.genes, b.genes, strict=True))
    assert len(set(children)) > 30


def test_paths_count_blocks_and_widths() -> None:
    genotype = ROBUST.parse("robust.rse.relu.d14-w5.d14-w7.d7-w3")
    counted = {path: ROBUST.count(genotype, path) for path in ("depth", "stage2.width", "stage3.depth", "rse", "silu")}
    assert counted == {"depth": 35, "stage2.width": 7, "stage3.depth": 7, "rse": 35, "silu": 0}
    with pytest.raises(ValueError, match="unknown path 'stage4.depth'; did you mean stage3.depth"):
        ROBUST.count(genotype, "stage4.depth")


def test_encodings() -> None:
    assert WIDE.encode(WIDE.parse("d5-w10.d7-w12.d4-w8")).tolist() == [5, 10, 7, 12, 4, 8]
    code = ROBUST.encode(ROBUST.parse("RobustResNet-A1")).tolist()
    assert code == [0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 14, 5, 14, 7, 7, 3]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (NetworkSpec(channels=4, layers=3), "have channels and no number of layers, got 4 and 3"),
        (NetworkSpec(channels=None, layers=None), "have channels and no number of layers, got None and None"),
        (NetworkSpec(channels=4, layers=None, auxiliary=True), "have no auxiliary head"),
    ],
)
def test_sizes_that_there_are_not(spec: NetworkSpec, message: str) -> None:
    for call in (WIDE.build, WIDE.cost):
        with pytest.raises(ValueError, match=message):
            call(WIDE.parse("WRN-10-1"), spec)
