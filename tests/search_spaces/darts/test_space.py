from __future__ import annotations

import json
import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.testing.literal import literal_network
from search_spaces.base import NetworkSpec
from search_spaces.cells.cost import piece_cost
from search_spaces.cells.genotype import Cell, CellGenotype, GenotypeError
from search_spaces.darts.known_cells import known_cell, known_cells
from search_spaces.darts.space import DARTS_OPERATIONS, DartsSpace
from tests.search_spaces.strategies import genotypes, pairs_of_one_function

SPACE = DartsSpace()
PAPER = NetworkSpec(channels=36, layers=20)
SMALL = NetworkSpec(channels=2, layers=3, image_size=(8, 8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def has_darts_shape(cell: Cell) -> bool:
    return (
        [len(node) for node in cell.nodes] == [2, 2, 2, 2]
        and all(node[0][1] != node[1][1] for node in cell.nodes)
        and all(operation in DARTS_OPERATIONS for operation, _ in cell.edges)
        and cell.concat == (2, 3, 4, 5)
    )


def test_samples_are_uniform_over_pairs_and_operations() -> None:
    generator = rng(1)
    samples = [SPACE.sample(generator) for _ in range(2000)]
    for cell in ("normal", "reduce"):
        cells: list[Cell] = [getattr(sample, cell) for sample in samples]
        assert all(has_darts_shape(each) for each in cells)
        pairs = Counter(tuple(source for _, source in each.nodes[3]) for each in cells)
        assert set(pairs) == set(combinations(range(5), 2))
        assert all(200 - 70 < count < 200 + 70 for count in pairs.values())  # 5 standard deviations
        operations = Counter(operation for each in cells for operation, _ in each.edges)
        assert set(operations) == set(DARTS_OPERATIONS)
        assert all(abs(count - 16_000 / 7) < 250 for count in operations.values())


@pytest.mark.parametrize("name", [None, *known_cells()])
def test_mutations_change_one_thing_and_keep_the_shape(name: str | None) -> None:
    generator = rng(2)
    genotype = SPACE.sample(generator) if name is None else known_cell(name)
    kinds = Counter()  # type: ignore[var-annotated]
    for _ in range(100):
        mutant = SPACE.mutate(genotype, generator)
        changes = [
            (cell, old, new)
            for cell in ("normal", "reduce")
            for old_node, new_node in zip(getattr(genotype, cell).nodes, getattr(mutant, cell).nodes, strict=True)
            for old, new in zip(old_node, new_node, strict=True)
            if old != new
        ]
        assert len(changes) == 1
        ((cell, old, new),) = changes
        assert (old[0] == new[0]) != (old[1] == new[1])
        assert new[0] in DARTS_OPERATIONS or new[0] == old[0]
        assert (mutant.normal.concat, mutant.reduce.concat) == (genotype.normal.concat, genotype.reduce.concat)
        kinds[cell, "operation" if old[0] != new[0] else "predecessor"] += 1
        if name is None:
            assert has_darts_shape(mutant.normal)
            assert has_darts_shape(mutant.reduce)
    assert len(kinds) == (2 if name == "CROZE" else 4)  # CRoZe's nodes read all predecessors already


@settings(max_examples=30, deadline=None)
@given(genotypes())
def test_neighbours_are_all_single_changes(genotype: CellGenotype) -> None:
    neighbours = list(SPACE.neighbours(genotype))
    expected = set()
    for name in ("normal", "reduce"):
        cell: Cell = getattr(genotype, name)
        for i, node in enumerate(cell.nodes):
            for j, (operation, source) in enumerate(node):
                others = [(other, source) for other in DARTS_OPERATIONS if other != operation]
                others += [(operation, other) for other in range(2 + i) if other not in [s for _, s in node]]
                for edge in others:
                    changed = list(cell.nodes)
                    changed[i] = (*node[:j], edge, *node[j + 1 :])
                    parts = {
                        "normal": genotype.normal,
                        "reduce": genotype.reduce,
                        name: Cell(tuple(changed), cell.concat),
                    }
                    expected.add(up_to_edge_order(CellGenotype(**parts)))
    assert len(neighbours) == len(set(neighbours))
    assert {up_to_edge_order(neighbour) for neighbour in neighbours} == expected
    assert genotype not in neighbours


def up_to_edge_order(genotype: CellGenotype) -> CellGenotype:
    cells = (genotype.normal, genotype.reduce)
    return CellGenotype(*(Cell(tuple(tuple(sorted(node)) for node in cell.nodes), cell.concat) for cell in cells))


def test_a_sampled_cell_has_120_neighbours_and_is_one_of_each() -> None:
    genotype = SPACE.sample(rng(3))
    neighbours = list(SPACE.neighbours(genotype))
    assert len(neighbours) == 2 * (8 * 6 + 2 * (0 + 1 + 2 + 3))
    assert all(genotype in SPACE.neighbours(neighbour) for neighbour in neighbours)


def test_crossover_takes_each_node_from_either_parent() -> None:
    generator = rng(4)
    a, b = SPACE.sample(generator), SPACE.sample(generator)
    children = [SPACE.crossover(a, b, generator) for _ in range(200)]
    for cell in ("normal", "reduce"):
        for i in range(4):
            nodes = Counter(getattr(child, cell).nodes[i] for child in children)
            parents = {getattr(a, cell).nodes[i], getattr(b, cell).nodes[i]}
            assert set(nodes) == parents
            assert all(count > 60 for count in nodes.values())


def test_crossover_of_parents_of_other_shapes() -> None:
    generator = rng(5)
    a, b = known_cell("CROZE"), known_cell("NASNet")
    shapes = set()
    for _ in range(50):
        child = SPACE.crossover(a, b, generator)
        for cell in ("normal", "reduce"):
            made, parents = getattr(child, cell), [getattr(parent, cell) for parent in (a, b)]
            assert any((len(made.nodes), made.concat) == (len(each.nodes), each.concat) for each in parents)
            assert all(any(node in each.nodes[i : i + 1] for each in parents) for i, node in enumerate(made.nodes))
            shapes.add((cell, len(made.nodes)))
        assert SPACE.parse(SPACE.format(child)) == child
    assert len(shapes) == 4


def test_names_are_parsed_in_any_case() -> None:
    assert SPACE.parse(" robust_zcp\n") == known_cell("ROBUST_ZCP")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DARTS_V3", r"unknown cell 'DARTS_V3'; did you mean DARTS_V\d or DARTS_V\d.* or Genotype\(normal="),
        ("", "unknown cell ''; expected one of ADVRUSH, "),
        (
            str(known_cell("PDARTS")).replace("dil_conv_5x5", "dil_conv_5x6", 1),
            "part 'normal': unknown operation 'dil_conv_5x6'; did you mean dil_conv_5x5 ",
        ),
        (
            str(known_cell("PDARTS")).replace("avg_pool_3x3", "pool"),
            "part 'reduce': unknown operation 'pool'; .*expected one of avg_pool_3x3, conv_7x1_1x7, ",
        ),
        ("s3.0+s3.1>2/s3.0+s3.1>1", "part 'reduce_concat': got input 1, expected nodes from 2 on"),
        ("s3.0>2/s3.7>2", "edge .*'sep_conv_3x3', 7.* of node 2"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        SPACE.parse(text)


def test_a_genotype_with_an_unknown_operation_is_not_built() -> None:
    cell = Cell(((("conv_9x9", 0),),), (2,))
    for use in (SPACE.canonical, lambda g: SPACE.cost(g, SMALL), lambda g: SPACE.build(g, SMALL)):
        with pytest.raises(GenotypeError, match="unknown operation 'conv_9x9'"):
            use(CellGenotype(cell, cell))


def test_count() -> None:
    genotype = known_cell("ROBUST_ZCP")
    assert SPACE.count(genotype, "normal.skip_connect") == 2
    assert SPACE.count(genotype, "skip_connect") == 4
    assert SPACE.count(genotype, "reduce.none") == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("norml.skip_connect", "unknown cell 'norml'; did you mean normal.* expected one of normal, reduce"),
        ("normal.skip", "unknown operation 'skip'; .*expected one of avg_pool_3x3, "),
        ("normal.reduce.none", "unknown cell 'normal.reduce'"),
        (".none", "unknown cell ''"),
        ("normal", "unknown operation 'normal'"),
    ],
)
def test_count_of_an_unknown_path(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.count(known_cell("DARTS_V1"), path)


@pytest.mark.parametrize(
    ("name", "params", "macs_in_millions"),
    [
        ("DARTS_V2", 3_349_342, 528.36),
        ("PDARTS", 3_433_798, 532.17),
        ("RACL", 3_571_174, 549.98),
        ("ROBUST_ZCP", 3_413_278, 537.18),
    ],
)
def test_costs_at_the_size_of_the_papers(name: str, params: int, macs_in_millions: float) -> None:
    """The table of Feng et al. (ICLR 2025) prints 3.3, 3.4, 3.6 and 3.4 million parameters."""
    cost = SPACE.cost(known_cell(name), PAPER)
    assert cost.params == params
    assert round(cost.macs / 1e6, 2) == macs_in_millions


@pytest.mark.parametrize("name", ["DARTS_V2", "CROZE", "AmoebaNet"])
def test_cost_is_what_torch_counts_on_the_literal_network(name: str) -> None:
    """The literal network on real memory is the independent count: nothing folded, no meta device."""
    spec = NetworkSpec(channels=4, layers=5, classes=7, image_size=(16, 8), image_channels=1)
    network = literal_network(SPACE.build(known_cell(name), spec))
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 1, 16, 8))
    cost = SPACE.cost(known_cell(name), spec)
    assert cost.macs * 2 * 2 == counter.get_total_flops()
    assert cost.params == sum(parameter.numel() for parameter in network.parameters())


def test_cost_of_a_piece_by_hand() -> None:
    cost = piece_cost(nn.Conv2d, (3, 8, 5, 2, 2), (3, 9, 7))
    assert cost.params == 8 * 3 * 25 + 8
    assert cost.macs == 8 * 3 * 25 * 5 * 4


def test_cost_does_not_count_the_auxiliary_head() -> None:
    genotype = known_cell("DARTS_V1")
    assert SPACE.cost(genotype, NetworkSpec(auxiliary=True)) == SPACE.cost(genotype, NetworkSpec())


@settings(max_examples=20, deadline=None)
@given(pairs_of_one_function())
def test_relabelled_genotypes_have_one_key_and_one_cost(pair: tuple[CellGenotype, CellGenotype]) -> None:
    a, b = pair
    assert SPACE.canonical(a) == SPACE.canonical(b)
    assert SPACE.cost(a, SMALL) == SPACE.cost(b, SMALL)


@settings(max_examples=20, deadline=None)
@given(pairs_of_one_function())
def test_relabelled_genotypes_build_one_function(pair: tuple[CellGenotype, CellGenotype]) -> None:
    """Equal weights throughout leave nothing but the shape of the cells to tell two networks apart."""
    x = torch.linspace(-1, 1, 3 * 8 * 8, dtype=torch.float64).view(1, 3, 8, 8).sin()
    logits = []
    for genotype in pair:
        network = SPACE.build(genotype, SMALL).double().eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.3)
        logits.append(network(x))
    torch.testing.assert_close(*logits, rtol=1e-9, atol=0)


def test_encoding_by_hand() -> None:
    vector = SPACE.encode(known_cell("DARTS_V2")).reshape(2, 15, 7)  # cells; 14 edges and the counts; operations
    counts = [[0, 0, 2, 5, 0, 1, 0], [5, 0, 3, 0, 0, 0, 0]]  # in the order of DARTS_OPERATIONS
    assert vector[:, 14].tolist() == counts and vector[:, :14].sum(axis=1).tolist() == counts
    assert vector[0, 0].tolist() == vector[0, 1].tolist() == [0, 0, 0, 1, 0, 0, 0]  # sep_conv_3x3 from both inputs
    assert set(np.unique(vector[:, :14])) == {0, 1}


@pytest.mark.parametrize("name", ["CROZE", "NASNet"])
def test_cells_of_another_shape_have_no_encoding(name: str) -> None:
    with pytest.raises(ValueError, match="has no encoding, expected one of 4 nodes and of max_pool_3x3"):
        SPACE.encode(known_cell(name))


def test_the_published_sampler_draws_the_published_cell() -> None:
    assert SPACE.sample_published(3494) == known_cell("ROBUST_ZCP")


def test_the_published_sampler_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    assert SPACE.sample_published(1) == SPACE.sample_published(1) != SPACE.sample_published(2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_the_published_search_left_214_cells() -> None:
    """Seeds 3000 to 3999, two skip connections in the normal cell; the winner is one of them."""
    cells = {seed: SPACE.sample_published(seed) for seed in range(3000, 4000)}
    kept = [seed for seed, cell in cells.items() if SPACE.count(cell, "normal.skip_connect") == 2]
    assert len(kept) == 214
    assert [seed for seed in kept if cells[seed] == known_cell("ROBUST_ZCP")] == [3494]


def test_the_published_sampler_draws_the_cells_of_tiny_robustbench() -> None:
    folder = Path(os.environ.get("NAS_DATA", "")) / "tiny_robustbench"
    files = sorted(folder.glob("robust_bench_seed_*.json")) if os.environ.get("NAS_DATA") else []
    if not files:
        pytest.skip("needs tiny_robustbench/robust_bench_seed_*.json in the folder that NAS_DATA names")
    records = [record for file in files for record in json.loads(file.read_text(encoding="utf-8"))]
    for record in records:
        assert SPACE.sample_published(record["seed"]) == CellGenotype.from_json(record["net"]["genotype"])
