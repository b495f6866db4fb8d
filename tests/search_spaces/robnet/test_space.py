from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.base import Cost, NetworkSpec
from search_spaces.cells.genotype import Cell, GenotypeError, LayeredCells
from search_spaces.cells.notation import format_compact
from search_spaces.darts.known_cells import known_cell
from search_spaces.darts.space import DartsSpace
from search_spaces.robnet.space import CODES, EDGES, RobNetSpace, cell_of, codes_of

SPACE = RobNetSpace()
PAPER = NetworkSpec(channels=36, layers=20)
FREE, LARGE = SPACE.parse("ROBNET_FREE"), SPACE.parse("robnet_large")
FIRST = ["11", "10", "11", "11", "10", "11", "01", "01", "10", "11", "11", "00", "11", "01"]  # of RobNet-free
SMALL = NetworkSpec(channels=4, layers=4, classes=3, image_size=(8, 8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(text: str) -> Cell:
    return cell_of(text.split())


def codes(genotype: LayeredCells) -> list[list[str]]:
    return [codes_of(cell) for cell in genotype.cells]


def test_samples_are_uniform_over_the_choices_of_all_edges() -> None:
    generator = rng(1)
    samples = [SPACE.sample(generator) for _ in range(100)]
    assert {len(sample.cells) for sample in samples} == {8}
    counts = Counter(code for sample in samples for cell in codes(sample) for code in cell)
    assert set(counts) == set(CODES)
    assert all(abs(count - 2800) < 5 * 46 for count in counts.values())  # the standard deviation is 46


def test_published_networks_have_their_cells() -> None:
    assert len(FREE.cells) == 20 == len(set(FREE.cells)) and codes_of(FREE.cells[0]) == FIRST
    assert len(LARGE.cells) == 1 and LARGE.cell(0, 20) == LARGE.cell(19, 20)
    assert SPACE.published() == {"ROBNET_FREE": FREE, "ROBNET_LARGE": LARGE}


@pytest.mark.parametrize(
    ("genotype", "channels", "layers", "cost"),
    [
        (FREE, 36, 20, Cost(5_513_806, 780_177_024)),
        (LARGE, 36, 20, Cost(6_942_070, 1_030_336_128)),
        (LARGE, 64, 33, Cost(33_607_242, 5_094_615_040)),  # RobNet-large-v2
    ],
)
def test_costs_at_the_size_of_the_paper(genotype: LayeredCells, channels: int, layers: int, cost: Cost) -> None:
    assert SPACE.cost(genotype, NetworkSpec(channels=channels, layers=layers)) == cost


def test_the_program_has_no_scale_and_shift_in_its_cells() -> None:
    with torch.device("meta"):
        network = SPACE.build(FREE, PAPER)
    norms = [module for module in network.cells.modules() if isinstance(module, nn.BatchNorm2d)]
    assert 5_513_806 - sum(parameter.numel() for norm in norms for parameter in norm.parameters()) == 5_439_790


@pytest.mark.parametrize(
    ("name", "printed"), [("DARTS_V2", 547.44), ("PDARTS", 550.75), ("RACL", 568.86), ("ROBNET_FREE", 800.40)]
)
def test_printed_flops_are_macs_and_the_values_of_relus_norms_and_pools(name: str, printed: float) -> None:
    """The table of AdvRush and later papers: one for a value that a ReLU or a pool reads, and for one that a norm reads
    two, or one if the norm has no scale and shift, as in RobNet's cells."""
    free = name == "ROBNET_FREE"
    cost = SPACE.cost(FREE, PAPER) if free else DartsSpace().cost(known_cell(name), PAPER)
    network = (SPACE.build(FREE, PAPER) if free else DartsSpace().build(known_cell(name), PAPER)).eval()
    counted = [cost.macs]
    for path, module in network.named_modules():
        times = 0
        if isinstance(module, nn.BatchNorm2d):
            times = 1 if free and path.startswith("cells.") else 2
        elif isinstance(module, nn.ReLU | nn.MaxPool2d | nn.AvgPool2d):
            times = getattr(module, "readers", 1)  # published networks have a ReLU for each operation

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, times: int = times) -> None:
            counted.append(times * inputs[0].numel())

        if times:
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert round(sum(counted) / 1e6, 2) == printed


@pytest.mark.parametrize("layers", [1, 3, 8, 23])
def test_a_genotype_of_any_number_of_cells_is_built_with_any_number_of_layers(layers: int) -> None:
    spec = replace(SMALL, layers=layers)
    for genotype in (FREE, LARGE, SPACE.sample(rng(2))):
        with torch.device("meta"):
            network = SPACE.build(genotype, spec)
        assert len(network.cells) == layers
        assert sum(each.numel() for each in network.parameters()) == SPACE.cost(genotype, spec).params
    assert codes_of(FREE.cell(0, layers)) == FIRST


def test_codes_and_cells_by_hand() -> None:
    assert len(EDGES) == 14 and EDGES[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    text = f"00 00 10 01 11{9 * ' 00'}"
    cell = made(text)
    assert cell.nodes[0] == cell.nodes[2] == cell.nodes[3] == (("none", 0),)
    assert cell.nodes[1] == (("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2), ("skip_connect", 2))
    assert codes_of(cell) == text.split()


def test_the_lists_of_the_published_program_and_what_stands_around_them() -> None:
    assert SPACE.parse(f"robnet_free = {codes(FREE)}") == FREE
    assert SPACE.parse(f"[{FIRST}]") == LayeredCells((cell_of(FIRST),))
    assert SPACE.parse(f'{{"genotype": "{SPACE.format(FREE)}", "key": ""}}') == FREE
    assert SPACE.parse(f" {format_compact(FREE)}\n") == FREE


def test_edges_without_an_operation_may_be_spelled_out() -> None:
    text = SPACE.format(LayeredCells((cell_of(["01", *13 * ["00"]]),)))
    assert text == "layers:s3.0|no.0|no.0|no.0>2,3,4,5"
    assert SPACE.parse("layers:no.1+s3.0|no.1|no.2+no.0|no.4>5,4,3,2") == SPACE.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ROBNET", "unknown network 'ROBNET'; did you mean ROBNET_.* or layers:..., or a list of 14 codes"),
        ("[['11']]", r"part 'cells.0': got \['11'\], expected 14 of 00, 01, 10, 11"),
        (f"[{FIRST}, {['12', *FIRST[1:]]}]", r"part 'cells.1': got \['12', "),
        ("[]", "a genotype needs at least one cell, got none"),
        ("layers:s5.0|s3.0|s3.0|s3.0>2,3,4,5", "part 'cells.0': unknown operation 'sep_conv_5x5'"),
        ("layers:s3.0|s3.0|s3.0>2,3,4", r"part 'cells.0': 3 nodes, concatenated \[2, 3, 4\], expected 4"),
        ("layers:s3.0|s3.0|s3.0|s3.0>2,3,4", r"4 nodes, concatenated \[2, 3, 4\], expected 4, concatenated \[2, 3"),
        ("layers:s3.0+s3.0|s3.0|s3.0|s3.0>2,3,4,5", r"edge \('sep_conv_3x3', 0\) of node 2 is there twice"),
        (str(known_cell("DARTS_V2")), r"character \d+"),
        ("{'normal': []}", "expected a list of cells"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        SPACE.parse(text)


def test_a_genotype_of_another_space_is_not_built() -> None:
    other = LayeredCells((known_cell("DARTS_V2").normal,))
    for use in (SPACE.canonical, lambda g: SPACE.cost(g, SMALL), lambda g: SPACE.build(g, SMALL)):
        with pytest.raises(GenotypeError, match="part 'cells.0': unknown operation 'dil_conv_3x3'"):
            use(other)


def test_mutations_change_one_edge_of_one_cell() -> None:
    generator, places = rng(3), Counter[int]()
    for _ in range(200):
        mutant = SPACE.mutate(FREE, generator)
        changed = [
            (place, edge)
            for place, (old, new) in enumerate(zip(codes(FREE), codes(mutant), strict=True))
            for edge in range(14)
            if old[edge] != new[edge]
        ]
        assert len(changed) == 1
        places[changed[0][0]] += 1
    assert set(places) == set(range(20))
    assert len(list(SPACE.neighbours(FREE))) == 20 * 14 * 3


def test_crossover_takes_cells_of_the_same_depth() -> None:
    generator = rng(4)
    a, b = SPACE.sample(generator), SPACE.sample(generator)
    children = [SPACE.crossover(a, b, generator) for _ in range(100)]
    for place in range(8):
        taken = Counter(child.cells[place] for child in children)
        assert set(taken) == {a.cells[place], b.cells[place]} and min(taken.values()) > 25
    mixed = [SPACE.crossover(a, FREE, generator) for _ in range(50)]
    assert {len(child.cells) for child in mixed} == {8, 20}
    for child in mixed:
        depths = range(len(child.cells))
        assert all(child.cells[i] in {g.cell(i, len(depths)) for g in (a, FREE)} for i in depths)


def relabelled(cell: Cell) -> Cell:
    """``cell`` with nodes 2 and 3 exchanged, of which neither reads the other."""
    swap = {0: 0, 1: 1, 2: 3, 3: 2, 4: 4, 5: 5}
    nodes = {
        swap[number]: tuple((operation, swap[source]) for operation, source in node)
        for number, node in enumerate(cell.nodes, start=2)
    }
    return Cell(tuple(nodes[number] for number in (2, 3, 4, 5)), (2, 3, 4, 5))


def test_equal_functions_have_one_key() -> None:
    """Nodes in another order; a skip connection from a node that is zero."""
    swappable = made("01 10 11 01 00 01 00 10 01 11 10 01 00 11")
    zero, skip = "00 00 01 00 00 10 01 01 00 00 01 00 10 11", "00 00 01 00 10 10 01 01 00 00 01 10 10 11"
    for one, other in ((swappable, relabelled(swappable)), (made(zero), made(skip))):
        pair = [LayeredCells((FREE.cells[0], each)) for each in (one, other)]
        assert pair[0] != pair[1] and SPACE.canonical(pair[0]) == SPACE.canonical(pair[1])
        assert SPACE.cost(pair[0], SMALL) == SPACE.cost(pair[1], SMALL)
        x, logits = torch.linspace(-1, 1, 3 * 8 * 8, dtype=torch.float64).view(1, 3, 8, 8).sin(), []
        for genotype in (*pair, SPACE.parse(SPACE.canonical(pair[0]))):
            network = SPACE.build(genotype, SMALL).double().eval()
            for parameter in network.parameters():
                nn.init.constant_(parameter, 0.3)
            logits.append(network(x))
        torch.testing.assert_close(logits[0], logits[1], rtol=1e-9, atol=0)
        torch.testing.assert_close(logits[0], logits[2], rtol=1e-9, atol=0)
    convolution = made("00 00 01 00 01 10 01 01 00 00 01 00 10 11")  # of zero is not zero: its norm has a shift
    assert SPACE.canonical(LayeredCells((convolution,))) != SPACE.canonical(LayeredCells((made(zero),)))


def test_count() -> None:
    assert SPACE.count(FREE, "cells.0.skip_connect") == sum(code[0] == "1" for code in FIRST) == 10
    assert SPACE.count(FREE, "cells.0.sep_conv_3x3") == sum(code[1] == "1" for code in FIRST) == 10
    assert SPACE.count(FREE, "cells.0.none") == 1
    assert SPACE.count(FREE, "skip_connect") == sum(code[0] == "1" for cell in codes(FREE) for code in cell)
    assert SPACE.count(FREE, "none") == sum(code == "00" for cell in codes(FREE) for code in cell) == 36
    assert SPACE.count(LARGE, "cells.0.none") == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("normal.skip_connect", "unknown cell 'normal'.* expected one of cells.0, cells.1"),
        ("cells.20.none", "unknown cell 'cells.20'; did you mean cells"),
        ("cells.3.sep_conv_5x5", "unknown operation 'sep_conv_5x5'; did you mean sep_conv_3x3"),
        ("cells.3", "unknown cell 'cells'"),
    ],
)
def test_count_of_an_unknown_path(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.count(FREE, path)


def test_encoding_by_hand() -> None:
    genotype = LayeredCells((cell_of(["11", *13 * ["00"]]), *7 * (cell_of(["01", *13 * ["00"]]),)))
    vector = SPACE.encode(genotype).reshape(8, 15, 2)  # cells; 14 edges and the counts; skip connection, convolution
    assert vector[:, 14].tolist() == [[1, 1], *7 * [[0, 1]]]
    assert vector[:, :14].sum(axis=1).tolist() == vector[:, 14].tolist()
    with pytest.raises(ValueError, match="a genotype of 20 cells has no encoding, expected 8"):
        SPACE.encode(FREE)


def test_a_subclass_searches_another_number_of_cells() -> None:
    class TwentyCells(RobNetSpace):
        name = "robnet20"
        cells = 20

    assert len(TwentyCells().sample(rng()).cells) == 20 and TwentyCells().encode(FREE).shape == (600,)
